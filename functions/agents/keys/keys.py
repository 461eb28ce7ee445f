"""The agent that lets tokens be signed with the keys that participants have at the IdentityHub.

Source: dataspace service contracts, section 11.8.
"""

from __future__ import annotations

from datetime import timedelta

from cfm_core.agent import CloudEvent, lifecycle_function
from cfm_core.contracts import subjects
from cfm_core.contracts.edc_events import KeyPairEvent, ParticipantContextEvent
from cfm_core.keys.assembly import SIGNING_KEYS
from cfm_core.keys.service import KeyChange, SigningKeys

_USABLE = {"activated": True, "rotated": False, "revoked": False}
"""By the last word of the subject; nothing else that happens to a key pair matters to those who sign."""


@lifecycle_function(subject=subjects.KEY_PAIR_EVENTS, data=KeyPairEvent, requires=[SIGNING_KEYS])
def follow_key_pair(event: CloudEvent[KeyPairEvent], keys: SigningKeys) -> None:
    """Let the participant's newest active key sign. It goes by what is: repetition, delay and disorder change nothing."""
    usable = _USABLE.get(event.subject.rpartition(".")[2])
    if usable is not None:
        keys.follow(event.data.participant_context_id, KeyChange(event.data.pair, usable, event.time))


@lifecycle_function(subject=subjects.PARTICIPANT_CONTEXT_DELETED, data=ParticipantContextEvent, requires=[SIGNING_KEYS])
def forget_signing_key(event: CloudEvent[ParticipantContextEvent], keys: SigningKeys) -> None:
    """Let nothing be signed for a participant that is gone; for one that is there again meanwhile, its newest active key."""
    keys.follow(event.data.participant_context_id, KeyChange("", usable=False, at=event.time))


@lifecycle_function(every=timedelta(minutes=5), requires=[SIGNING_KEYS])
def look_after_signing_keys(event: CloudEvent[None], keys: SigningKeys) -> None:
    """Find what lost events would have told. Two rounds at a time change nothing twice; a crash loses the rest of a round."""
    keys.look_around(within=timedelta(seconds=20))
