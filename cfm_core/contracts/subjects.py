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
ACTIVITY_TYPES = "event.cfm.activity-types.>"
"""Announcements, each type's on a subject of its own: see ``announcement``."""
DEAD_LETTERS = "event.cfm.dead-letter.>"
"""Dead letters, on a subject for each that they are about: see ``dead_letter``."""
INPUTS = "event.cfm.inputs"
"""Dispatches whose values are looked at before an agent gets them."""
AGAIN = "event.cfm.again.>"
"""What others have published once and an operator sends once more, on a subject for each that is listened to: see ``again``."""
CALLS = "event.cfm.calls"
"""Activities that are carried out by orchestrations of their own."""
_ACTIVITY = "event.cfm.activity."

TENANT_MANAGER_ANNOUNCES = frozenset({MANIFESTS})
"""All that the Tenant Manager announces. Everything else is for the Provision Manager to announce, which repeats manifests,
too, where an operator replays them."""

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


def announcement(activity_type: str) -> str:
    """Where the defaults of an activity type are announced, and nothing else is."""
    return ACTIVITY_TYPES.removesuffix(">") + activity_type


def dead_letter(subject: str) -> str:
    """Where dead letters are published about what the function of ``subject`` was to take in."""
    return DEAD_LETTERS.removesuffix(">") + consumer(subject)


def again(subject: str) -> str:
    """Where an event goes that is sent once more to the function of ``subject``; not to all who listen where others publish."""
    return AGAIN.removesuffix(">") + consumer(subject) if is_foreign(subject) else subject


def is_letter_about(subject: str, published: str) -> bool:
    """Whether a dead letter that was published to ``published`` may be about ``subject``."""
    # Of anything else than what a function can take in, the consumer might have the name of another's.
    return _can_be_taken_in(subject) and dead_letter(subject) == published


def _can_be_taken_in(subject: str) -> bool:
    if subject.startswith(_ACTIVITY):
        return is_activity_type(subject.removeprefix(_ACTIVITY))
    if is_foreign(subject):
        return bool(_TYPE.fullmatch(subject.removesuffix(".>")))
    return subject in {*CONTRACT_SUBJECTS, RESULTS, INPUTS, CALLS, ACTIVITY_TYPES}


def is_pattern(subject: str) -> bool:
    """Whether it stands for many subjects, of which an event's own tells where it was published."""
    return subject.endswith(".>")


def covers(pattern: str, subject: str) -> bool:
    """Whether every subject that ``subject`` stands for matches ``pattern``; both may have wildcards."""
    have, want = pattern.split("."), subject.split(".")
    for index, token in enumerate(have):
        if token == ">":  # noqa: S105 - a part of a subject, and no secret
            return len(want) > index
        if index >= len(want) or want[index] == ">" or (token not in {"*", want[index]}):
            return False
    return len(have) == len(want)


def is_activity_type(name: str) -> bool:
    """Whether ``name`` can be an activity type: it must fit into a subject, and not collide with the managers' own."""
    return bool(_TYPE.fullmatch(name)) and name.replace(".", "-") not in _RESERVED


def is_foreign(subject: str) -> bool:
    """Whether others publish there, each event as a message of its own, and we only listen."""
    return subject.startswith("events.")


def consumer(subject: str) -> str:
    """The durable name of the consumer of ``subject``; for the contract's subjects the name that the contract gives.

    Such a name has no dots; ``=`` stands for them, because it is part of no activity type and so no two types share a name.
    In the stream of others it says whose it is. Nor has it a wildcard: for that of a subject of ours it says ``=all``.
    """
    if is_foreign(subject):
        return "cfm-" + subject.removesuffix(".>").replace(".", "=")
    return subject.removeprefix("event.").replace(".", "=").replace(">", "=all")
