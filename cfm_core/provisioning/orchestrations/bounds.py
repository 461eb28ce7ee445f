"""Whether an orchestration belongs to what somebody's rights are bounded to.

Its tenant is the one that its manifest names, its participant profile the one whose id is its correlation id.
"""

from __future__ import annotations

from typing import Any

from cfm_core.access.model import Bound, Bounds
from cfm_core.provisioning.orchestrations.model import Orchestration
from cfm_core.store.conditions import EVERYTHING, Condition


def belongs(run: Orchestration, bounds: Bounds) -> bool:
    """Whether a run is within ``bounds``; ``condition_of`` says the same."""
    return bounds.allow(Bound(run.tenant_id, run.correlation_id))


_TENANTS = "<<row>>.tenant_id = ANY (:within_tenants::text[])"
_PROFILES = "<<row>>.correlation_id = ANY (:within_profiles::text[])"
_BOTH = "(<<row>>.tenant_id, <<row>>.correlation_id) IN (SELECT * FROM unnest(:within_tenant::text[], :within_profile::text[]))"


def condition_of(bounds: Bounds, row: str) -> Condition:
    """The condition that ``row``, that of a run or a delayed start, is within ``bounds``."""
    if bounds.unlimited:
        return EVERYTHING
    parts, params = list[str](), dict[str, Any]()
    if tenants := bounds.tenants():
        parts.append(_TENANTS)
        params["within_tenants"] = tenants
    if profiles := bounds.participant_profiles():
        parts.append(_PROFILES)
        params["within_profiles"] = profiles
    if others := bounds.others():
        parts.append(_BOTH)
        params["within_tenant"] = [one.tenant_id for one in others]
        params["within_profile"] = [one.participant_profile_id for one in others]
    return f"({' OR '.join(parts) or 'false'})".replace("<<row>>", row), params
