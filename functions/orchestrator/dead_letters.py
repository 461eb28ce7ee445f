"""Keeps what the trigger could not deliver, for a while."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from cfm_core.contracts import subjects
from cfm_core.contracts.dead_letter import DeadLetterNotice
from cfm_core.contracts.reply import Reply
from cfm_core.eventing.cloudevents import CloudEvent
from cfm_core.function import event_function
from cfm_core.provisioning.assembly import DEAD_LETTERS
from cfm_core.provisioning.dead_letters.model import as_published
from cfm_core.provisioning.dead_letters.service import DeadLetters


@event_function(subject=subjects.DEAD_LETTERS, data=DeadLetterNotice, batch=64, slots=1, requires=[DEAD_LETTERS])
def keep_dead_letters(events: Sequence[CloudEvent[DeadLetterNotice]], dead_letters: DeadLetters) -> Reply:
    """Keep messages that no delivery can help. A repeated one is kept once.

    One about what is not for its sender to speak of is kept for an operator to see, and cannot be replayed.
    """
    dead_letters.keep([as_published(event.data, event.subject) for event in events])
    return Reply()


@event_function(every=timedelta(hours=1), slots=1, requires=[DEAD_LETTERS])
def forget_dead_letters(events: Sequence[CloudEvent[None]], dead_letters: DeadLetters) -> Reply:
    """Forget the dead letters that came long ago. Safe at any time, at several places."""
    dead_letters.forget()
    return Reply()
