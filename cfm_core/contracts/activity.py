"""Messages between the Provision Manager and the activity agents: batches of CloudEvents, ours alone.

The engine sends an ``ActivityDispatch`` for each attempt; the agent answers with one ``ActivityOutcome`` for each, which
repeats the token of its dispatch. An outcome with any other token comes too late and changes nothing.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from cfm_core.contracts.documents import Document

DISPATCH_EVENT = "cfm.activity.dispatch"
CALL_EVENT = "cfm.activity.call"
OUTCOME_EVENT = "cfm.activity.outcome"
LONGEST_PROGRESS = 2000
"""What an agent says of how far it is, in bytes of JSON."""

_Duration = Annotated[timedelta, Field(gt=timedelta(0), le=timedelta(days=366))]


class Address(Document):
    """Where to POST something about one dispatch, and the token to show there."""

    url: str
    token: str = Field(repr=False)


class ActivityDispatch(Document):
    """One attempt at one activity, with all that an agent needs for it."""

    orchestration_id: str
    phase: int
    ord: int
    """The activity's place in its orchestration; with ``orchestration_id`` and ``phase`` the key of its row."""
    token: str
    """Random, new with each dispatch."""
    activity_id: str
    activity_type: str
    discriminator: str
    """The orchestration's type."""
    correlation_id: str
    attempt: int
    """1 for the first; rises with reported failures only, not with repeated deliveries."""
    deadline: datetime | None = None
    """After this instant the engine no longer waits for the outcome."""
    timeout_seconds: float | None = None
    """How long the attempt may take from the agent's first sign of life, where the engine waits for one; otherwise the deadline
    says all."""
    completion: Address | None = None
    """With what somebody else ends the activity; this and the next are added on the way to the agent."""
    heartbeat: Address | None = None
    """Where the agent says that it is at work, and how far."""
    values: dict[str, Any] = Field(default_factory=dict)
    outputs: dict[str, Any] = Field(default_factory=dict)

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt at this activity: for the outside system to recognise a repetition."""
        return f"{self.orchestration_id}/{self.phase}/{self.activity_id}"


class ActivityCall(Document):
    """Asks the Provision Manager to look after an activity that orchestrations of its own carry out."""

    orchestration_id: str
    phase: int
    ord: int


class UncheckedDispatch(ActivityDispatch):
    """A dispatch that stays with the Provision Manager until its values have been held against a schema."""

    input_schema: dict[str, Any]

    def to_agent_json(self) -> dict[str, object]:
        """The same as an agent gets it."""
        return self.model_dump(mode="json", by_alias=True, exclude={"input_schema", "completion", "heartbeat"})


class OutcomeKind(StrEnum):
    COMPLETE = "complete"
    WAIT = "wait"
    SCHEDULE = "schedule"
    RETRY = "retry"
    FATAL = "fatal"


class ActivityOutcome(Document):
    """How one attempt ended, and what it recorded."""

    orchestration_id: str
    phase: int
    ord: int
    token: str
    kind: OutcomeKind
    after: timedelta | None = None
    """``schedule``: when to run again; ``retry``: overrides the backoff; ``wait``: how long to wait."""
    reason: str = ""
    """``retry`` and ``fatal``: what went wrong; ``wait``: what is waited for."""
    begun: bool = True
    """Whether the attempt was begun. One that came too late was not: whatever it would record is missing. One that the engine
    refuses is taken for such a one."""
    values: dict[str, Any] = Field(default_factory=dict)
    """Processing data to set, key by key."""
    deleted: list[str] = Field(default_factory=list)
    """Keys of processing data to delete."""
    outputs: dict[str, Any] = Field(default_factory=dict)


class ActivityTypeAnnouncement(Document):
    """An agent's defaults for one activity type, within the limits of definitions; an activity definition may override them."""

    activity_type: str = Field(pattern=r"^[a-zA-Z0-9_.-]+$", max_length=256)
    timeout: _Duration
    max_attempts: int = Field(ge=1, le=1000)
    backoff: _Duration
    """The first retry's greatest delay; doubled with each further failure."""
    backoff_limit: _Duration
