"""NATS subjects and streams. The first group is the wire contract's, the second is between our own processes, the third is
where the dataspace services tell what happens to them: others publish there, and nothing of ours is ever put there.

All of ours stay below ``event.``: the platform's NATS users may publish nowhere else. The contract's stream covers
``event.*``, two tokens; ours have three and more, so that both streams can live side by side.

Source: CFM wire contract, sections 9 and 11; dataspace service contracts, section 12.
"""

from __future__ import annotations

import re

STREAM = "cfm-stream"
STREAM_SUBJECTS = ("event.*",)
MANIFESTS = "event.cfm-orchestration"
RESPONSES = "event.cfm-orchestration-response"

ACTIVITY_STREAM = "cfm-activities"
ACTIVITY_STREAM_SUBJECTS = ("event.cfm.>",)
RESULTS = "event.cfm.result"
ACTIVITY_TYPES = "event.cfm.activity-types"
DEAD_LETTERS = "event.cfm.dead-letter"
INPUTS = "event.cfm.inputs"
"""Dispatches whose values are looked at before an agent gets them."""
CALLS = "event.cfm.calls"
"""Activities that are carried out by orchestrations of their own."""
_ACTIVITY = "event.cfm.activity."

EDC_STREAM = "edc-events"
EDC_STREAM_SUBJECTS = ("events.>",)
KEY_PAIR_EVENTS = "events.keypair.>"
PARTICIPANT_CONTEXT_DELETED = "events.participantcontext.deleted"
"""Its neighbour that tells of a new context carries what leads to the participant's vault, and is not asked for."""

CONTRACT_SUBJECTS = frozenset({MANIFESTS, RESPONSES})
"""Here a message's body is the bare JSON document of the contract, the CloudEvent's attributes are headers."""

_TYPE = re.compile(r"[a-zA-Z0-9_-]+(\.[a-zA-Z0-9_-]+)*")
_RESERVED = frozenset({"cfm-orchestration", "cfm-orchestration-response"})


def activity(activity_type: str) -> str:
    """The subject of the events that ask an agent for activities of this type."""
    return _ACTIVITY + activity_type


def is_activity_type(name: str) -> bool:
    """Whether ``name`` can be an activity type: it must fit into a subject, and not collide with the managers' own."""
    return bool(_TYPE.fullmatch(name)) and name.replace(".", "-") not in _RESERVED


def is_foreign(subject: str) -> bool:
    """Whether others publish there, each event as a message of its own, and we only listen."""
    return subject.startswith("events.")


def consumer(subject: str) -> str:
    """The durable name of the consumer of ``subject``; for the contract's subjects the name that the contract gives.

    Such a name has no dots; ``=`` stands for them, because it is part of no activity type and so no two types share a name.
    In the stream of others it says whose it is.
    """
    if is_foreign(subject):
        return "cfm-" + subject.removesuffix(".>").replace(".", "=")
    return subject.removeprefix("event.").replace(".", "=")
