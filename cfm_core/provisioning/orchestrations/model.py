"""Orchestrations as they are shown: one run of a definition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from cfm_core.contracts.activity import OutcomeKind
from cfm_core.provisioning.definitions.model import Activity
from cfm_core.provisioning.engine.model import ActivityState, OrchestrationState
from cfm_core.trace import Context


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityStatus:
    """How far an activity of a run is."""

    phase: int = 0
    """1 for what undoes the activity of the same id."""
    ord: int
    """Its place in the definition."""
    id: str
    type: str
    state: ActivityState
    deps_left: int = 0
    """How many of the activities that it depends on are not done."""
    dispatches: int = 0
    """How often it was sent to an agent."""
    unanswered: int = 0
    """Of these, how often since the agent's last sign of life."""
    failures: int = 0
    """How many failures its agent has reported."""
    max_attempts: int
    has_agent: bool
    """Whether an agent has announced itself for the type."""
    dispatched_at: datetime | None = None
    started_at: datetime | None = None
    """The agent's first sign of life since then; one that only answers gives none."""
    due_at: datetime | None = None
    """When something happens with it by itself."""
    rate_opens_at: datetime | None = None
    """Where it is held back by a rate of its type: when that lets the next one through."""
    progress: Any = None
    """What the agent has said last of how far it is."""
    ending: str = ""
    """``complete`` or ``fatal`` where somebody outside has ended it, and its agent has not been heard yet."""
    ended_at: datetime | None = None
    """When the last attempt has ended."""
    outcome: str = ""
    """How the last attempt has ended, as in its history."""
    reason: str = ""
    children: tuple[int, int] | None = None
    """How many orchestrations were started for it, and how many of these have ended; None where an agent carries it out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Orchestration:
    """One run, as of the moment of reading."""

    id: str
    version: int
    correlation_id: str
    tenant_id: str = ""
    """Empty where the manifest names none."""
    type: str
    state: OrchestrationState
    state_at: datetime
    created_at: datetime
    error_detail: str = ""
    activities: tuple[Activity, ...]
    graph: tuple[ActivityStatus, ...]
    """The same activities as far as they are, in the order of the definition; then what undoes them, if that has begun."""
    paused: bool = False
    paused_above: bool = False
    """Whether it is paused because its parent is."""
    erased: bool = False
    """Whether its data are gone, because they were about somebody."""
    compensable: bool = False
    """Whether its template has a definition that undoes it."""
    changes_live: bool = False
    """Whether it changes a live participant, whom a compensation would dispose."""
    processing_data: dict[str, Any] = field(default_factory=dict)
    output_data: dict[str, Any] = field(default_factory=dict)
    parent: str = ""
    """The id of the orchestration for one of whose activities it was started."""
    origin_trace: Context = field(default_factory=dict)
    """What it belongs to: the trace context of whoever asked for it, or has let it go on."""
    secret_keys: frozenset[str] = frozenset()
    """What activity types mark: not to be shown of its data."""
    start_at: datetime | None = None
    """When one that has not started is to start, or was to; None for one that has."""

    @property
    def completed(self) -> tuple[str, ...]:
        """The ids of the activities that are done, in the order of the definition."""
        return tuple(one.id for one in self.graph if one.state is ActivityState.DONE and one.phase != 1)

    @property
    def phase(self) -> int:
        """1 once its activities are being undone one by one; greater for one activity of an element."""
        return max((one.phase for one in self.graph), default=0)

    @property
    def is_undone(self) -> bool:
        """Whether its activities are being undone, or have been."""
        return self.phase == 1

    @property
    def goes_on(self) -> bool:
        """Whether activities of its phase are sent."""
        wanted = OrchestrationState.COMPENSATING if self.is_undone else OrchestrationState.RUNNING
        return self.state is wanted

    @property
    def current(self) -> tuple[ActivityStatus, ...]:
        """The activities of its phase."""
        return tuple(one for one in self.graph if one.phase == self.phase)


def activities_of(activities: Sequence[Activity], graph: Sequence[ActivityStatus]) -> tuple[Activity, ...]:
    """The activities of a run, where those of its definition are ``activities``: of one for an element, one of them."""
    if graph and graph[0].phase > 1:
        return tuple(replace(one, depends_on=()) for one in activities if one.id == graph[0].id)
    return tuple(activities)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """How one dispatch of an activity ended.

    ``outcome`` is what the agent said (``complete``, ``wait``, ``schedule``, ``retry``, ``fatal``), ``resolved`` where an
    operator has done it by hand, ``invalid input`` or ``invalid output`` where data did not fit a schema, ``lease over`` or
    ``wait over`` where nobody said anything in time, ``heartbeat over`` where the agent fell silent after a sign of life,
    ``time over`` where all attempts together took too long, ``skipped`` where its condition did not hold, or ``fenced: ...``
    where the agent spoke too late and was not heard.
    """

    activity_id: str
    activity_type: str
    compensates: bool = False
    """Whether it was to undo the activity."""
    dispatch: int | None
    attempt: int | None
    outcome: str
    reason: str
    started_at: datetime | None
    ended_at: datetime
    next_at: datetime | None
    """When something happens with the activity by itself: it is dispatched again, or its wait ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How somebody outside ends an activity that waits, and what they record for it."""

    token: str
    """What the agent was given for them, with the dispatch to which it answers Wait."""
    error: str = ""
    """Why the activity has failed; empty where it has not."""
    values: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> OutcomeKind:
        return OutcomeKind.FATAL if self.error else OutcomeKind.COMPLETE


@dataclass(frozen=True, slots=True, kw_only=True)
class Endable:
    """What has to be known of an activity that somebody outside wants to end."""

    phase: int
    ord: int
    state: ActivityState
    token: str = field(repr=False)
    """Of its last dispatch, or of that with which it was ended; empty where it was never sent."""
    ending: OutcomeKind | None = None
    """How somebody outside has ended it already, which does not count yet."""
    ending_token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """A sign of life from an agent."""

    token: str = field(repr=False)
    """That of the dispatch."""
    progress: Any = None
    """How far it is, in its own words; None: as before."""
