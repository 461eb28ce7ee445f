"""Bounds as conditions of statements, for what belongs to a tenant and to a participant profile."""

from __future__ import annotations

from typing import Any

from cfm_core.access.model import Bounds
from cfm_core.store.conditions import EVERYTHING, Condition

_TENANTS = "<<tenant>> = ANY (:within_tenants::text[])"
_PROFILES = "<<profile>> = ANY (:within_profiles::text[])"
_BOTH = "(<<tenant>>, <<profile>>) IN (SELECT * FROM unnest(:within_tenant::text[], :within_profile::text[]))"


def within(bounds: Bounds, tenant: str, profile: str) -> Condition:
    """The condition that a row is within ``bounds``.

    Args:
        tenant: the column with the id of the tenant, null or empty where there is none.
        profile: the column with that of the participant profile.
    """
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
    text = f"({' OR '.join(parts) or 'false'})"
    return text.replace("<<tenant>>", tenant).replace("<<profile>>", profile), params
