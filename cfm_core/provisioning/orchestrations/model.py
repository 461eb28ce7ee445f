"""Orchestrations as they are shown: one run of a definition."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cfm_core.provisioning.definitions.model import Activity
from cfm_core.provisioning.engine.model import ActivityState, OrchestrationState


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityStatus:
    """How far an activity of a run is."""

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
    due_at: datetime | None = None
    """When something happens with it by itself."""
    rate_opens_at: datetime | None = None
    """Where it is held back by a rate of its type: when that lets the next one through."""
    ended_at: datetime | None = None
    """When the last attempt has ended."""
    outcome: str = ""
    """How the last attempt has ended, as in its history."""
    reason: str = ""


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
    """The same activities as far as they are, in the order of the definition."""
    paused: bool = False
    erased: bool = False
    """Whether its data are gone, because they were about somebody."""
    compensable: bool = False
    """Whether its template has a definition that undoes it."""
    changes_live: bool = False
    """Whether it changes a live participant, whom a compensation would dispose."""
    processing_data: dict[str, Any] = field(default_factory=dict)
    output_data: dict[str, Any] = field(default_factory=dict)
    start_at: datetime | None = None
    """When one that has not started is to start, or was to; None for one that has."""

    @property
    def completed(self) -> tuple[str, ...]:
        """The ids of the activities that are done, in the order of the definition."""
        return tuple(one.id for one in self.graph if one.state is ActivityState.DONE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """How one dispatch of an activity ended.

    ``outcome`` is what the agent said (``complete``, ``wait``, ``schedule``, ``retry``, ``fatal``), ``resolved`` where an
    operator has done it by hand, ``invalid input`` or ``invalid output`` where data did not fit a schema, ``lease over`` or
    ``wait over`` where nobody said anything in time, or ``fenced: ...`` where the agent spoke too late and was not heard.
    """

    activity_id: str
    activity_type: str
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
    """The token of the dispatch to which the agent answered Wait."""
    error: str = ""
    """Why the activity has failed; empty where it has not."""
    values: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
