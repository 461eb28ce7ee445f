"""Orchestrations as they are shown: one run of a definition."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cfm_core.provisioning.definitions.model import Activity
from cfm_core.provisioning.engine.model import OrchestrationState


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
    completed: tuple[str, ...] = ()
    """The ids of the activities that are done, in the order of the definition."""
    processing_data: dict[str, Any] = field(default_factory=dict)
    output_data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """How one dispatch of an activity ended.

    ``outcome`` is what the agent said (``complete``, ``wait``, ``schedule``, ``retry``, ``fatal``), ``lease over`` or ``wait
    over`` where it said nothing in time, or ``fenced: ...`` where it spoke too late and was not heard.
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
