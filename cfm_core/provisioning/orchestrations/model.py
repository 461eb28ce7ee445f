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


@dataclass(frozen=True, slots=True)
class EntryPage:
    """One page of a query: its entries as a JSON array, as the API shows them, and how many there are on all pages."""

    text: str
    total: int
