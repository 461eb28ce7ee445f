"""States of orchestrations and activities, and what a step of the engine gives back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

from cfm_core.contracts.orchestration import compensation_id
from cfm_core.contracts.reply import Failure, OutboxRow, Reply
from cfm_core.errors import ValidationError

SOURCE = "cfm/provision-manager"
"""The source of all events of the Provision Manager."""

LONGEST_ID = 512
LONGEST_DELAY = timedelta(days=366)
"""What an agent asks for beyond this is cut."""

REFUSED = 422


class OrchestrationState(StrEnum):
    SCHEDULED = "SCHEDULED"
    """It is to start later; it is no run yet, and the engine does not know of it."""
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    ERRORED = "ERRORED"
    """An activity has failed, and there is nothing to compensate with."""
    CANCELLING = "CANCELLING"
    """An operator has ended it; what was dispatched has not."""
    CANCELLED = "CANCELLED"
    COMPENSATING = "COMPENSATING"
    """An activity has failed; what was dispatched ends, then the compensation runs."""
    COMPENSATED = "COMPENSATED"
    COMPENSATION_FAILED = "COMPENSATION_FAILED"

    @property
    def number(self) -> int:
        """The state in the wire contract's terms (section 6)."""
        numbers = {OrchestrationState.SCHEDULED: 0, OrchestrationState.RUNNING: 1, OrchestrationState.COMPLETED: 2}
        return numbers.get(self, 3)


class ActivityState(StrEnum):
    BLOCKED = "BLOCKED"
    """Waits for activities that it depends on."""
    READY = "READY"
    """Could be sent, and is held back."""
    DISPATCHED = "DISPATCHED"
    """Sent to an agent; due when the agent's time is over."""
    WAITING = "WAITING"
    """Somebody outside will end it with the token of its dispatch; due when that takes too long."""
    BACKOFF = "BACKOFF"
    """Sent again when due."""
    DONE = "DONE"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    """Its orchestration failed before it could end by itself."""
    SKIPPED = "SKIPPED"
    """Its condition did not hold when its turn came."""


ENDED = frozenset({ActivityState.DONE, ActivityState.FAILED, ActivityState.CANCELLED, ActivityState.SKIPPED})
UNDONE = frozenset({ActivityState.FAILED, ActivityState.CANCELLED})
"""An activity in one of these can be tried again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How long an attempt may take, and how it is repeated; these are the values where nobody says otherwise."""

    timeout: timedelta = timedelta(seconds=30)
    max_attempts: int = 5
    backoff: timedelta = timedelta(seconds=1)
    backoff_limit: timedelta = timedelta(seconds=60)
    schedule_to_start: timedelta | None = None
    schedule_to_close: timedelta | None = None
    heartbeat: timedelta | None = None
    wait: timedelta = timedelta(days=1)

    @property
    def lease(self) -> timedelta:
        """How long an agent has for an attempt, with the ways there and back."""
        return self.timeout + LEASE_SLACK

    @property
    def start_in(self) -> timedelta:
        """By when a sign of life, or the outcome, has to be there."""
        return self.lease if self.schedule_to_start is None else self.schedule_to_start


LEASE_SLACK = timedelta(seconds=15)
"""What a dispatch is given beyond the attempt's timeout, for the ways there and back."""
MOST_UNANSWERED = 10
"""After so many dispatches without a sign of life an activity fails."""
RESEND_COMPENSATION = timedelta(minutes=1)
CONSECUTIVE_FAILURES = 20
"""After so many failures of a type without a success between them nothing of it is sent for a while."""
FIRST_CLOSING = timedelta(seconds=10)
"""How long that is; twice as long each time that the probe afterwards fails too."""
LONGEST_CLOSING = timedelta(minutes=5)


@dataclass(slots=True)
class Progress:
    """What a step has written to the outbox, and which of its items it could not take in."""

    outbox: list[OutboxRow] = field(default_factory=list)
    refused: dict[int, str] = field(default_factory=dict)
    """By the item's place in the batch: why. It is in the dead letters, and the others have taken effect."""

    def reply(self, event_ids: Sequence[str]) -> Reply:
        """The answer to the trigger; ``event_ids`` are those of the items, in their order."""
        failures: Mapping[str, Failure] = {
            event_ids[place]: Failure(REFUSED, reason, kept=True) for place, reason in self.refused.items()
        }
        return Reply(failures=dict(failures), outbox=self.outbox)


def check_id(orchestration_id: str) -> None:
    """Raises ValidationError for an id that is too long; one derived for a compensation may be longer than a caller's."""
    if len(orchestration_id.removesuffix(compensation_id(""))) > LONGEST_ID:
        raise ValidationError(f"an orchestration id has at most {LONGEST_ID} characters")


def within_reason(after: timedelta | None) -> timedelta | None:
    """A delay that an agent asks for, neither negative nor longer than ``LONGEST_DELAY``."""
    return None if after is None else min(max(after, timedelta(0)), LONGEST_DELAY)


def unknown_type_detail(orchestration_type: str, template_ref: str = "") -> str:
    where = f" in template {template_ref}" if template_ref else ""
    return f"there is no active orchestration type {orchestration_type}{where}"


FELL_SILENT = "its agent fell silent"
"""Why an attempt has failed whose agent has given signs of life and then no more."""


def no_agent_answered(activity_type: str) -> str:
    return f"no agent answered for activity type {activity_type}"
