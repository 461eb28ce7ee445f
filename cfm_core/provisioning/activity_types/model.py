"""Activity types as an operator sees them: who serves them, what limits them, what is queued and in flight."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from cfm_core.provisioning.definitions.model import Rate
from cfm_core.provisioning.engine.model import ActivityState


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityType:
    """One type that is defined, announced by an agent, or paused."""

    type: str
    version: int = 0
    """Rises when an operator pauses or resumes it."""
    has_agent: bool
    paused: bool = False
    concurrency: int | None = None
    concurrency_per_tenant: int | None = None
    rate: Rate | None = None
    rate_per_tenant: Rate | None = None
    rate_opens_at: datetime | None = None
    """Where the rate is used up: when it lets the next one through."""
    tenant_rates_open_at: Mapping[str, datetime] = field(default_factory=dict)
    """When rates let the next one of those tenants through who have something queued and have to wait for that."""
    failures: int = 0
    """How many its agents have reported since the last success."""
    probe_at: datetime | None = None
    """Where so many of them have closed its gate: when one activity is sent to see whether that still holds."""
    counts: Mapping[str, Mapping[ActivityState, int]] = field(default_factory=dict)
    """How many of its activities are in which state, of those that are neither blocked nor ended, by tenant."""
