"""Whether an orchestration belongs to what somebody's rights are bounded to.

Its tenant is the one that its manifest names, its participant profile the one whose id is its correlation id.
"""

from __future__ import annotations

from cfm_core.access.conditions import within
from cfm_core.access.model import Bound, Bounds
from cfm_core.provisioning.orchestrations.model import Orchestration
from cfm_core.store.conditions import Condition


def belongs(run: Orchestration, bounds: Bounds) -> bool:
    """Whether a run is within ``bounds``; ``condition_of`` says the same."""
    return bounds.allow(owner_of(run))


def owner_of(run: Orchestration) -> Bound:
    """Whom a run belongs to."""
    return Bound(run.tenant_id, run.correlation_id)


def condition_of(bounds: Bounds, row: str) -> Condition:
    """The condition that ``row``, that of a run or a delayed start, is within ``bounds``."""
    return within(bounds, f"{row}.tenant_id", f"{row}.correlation_id")
