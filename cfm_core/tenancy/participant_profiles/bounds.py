"""Whether a participant profile belongs to what somebody's rights are bounded to.

It belongs to a cell, or to a VPA, with all of its VPAs: what is done with a profile is done with each of them.
"""

from __future__ import annotations

from collections.abc import Iterable

from cfm_core.access.model import UNBOUNDED, Bound, Bounds
from cfm_core.tenancy.cells.model import CellOption
from cfm_core.tenancy.participant_profiles.model import ParticipantProfile
from cfm_core.tenancy.tenants.model import TenantId


def belongs(profile: ParticipantProfile, bounds: Bounds) -> bool:
    """Whether each of the profile's VPAs is within ``bounds``; the condition of the store says the same."""
    return all(bounds.allow(Bound(profile.tenant_id, profile.id, vpa.id, vpa.cell_id)) for vpa in profile.vpas)


def creates_in(bounds: Bounds, tenant_id: str, *, is_seen: bool) -> bool:
    """Whether one may create profiles of a tenant, if only on some cells.

    Args:
        is_seen: whether one may see the tenant. Rights that are bounded to other things than tenants count for those only.
    """
    return any(
        _is_met(one, tenant_id, "") and (is_seen or one.tenant_id or one == UNBOUNDED) for one in bounds.alternatives
    )


def cells_within(
    bounds: Bounds, tenant_id: TenantId, profile: ParticipantProfile | None, cells: Iterable[CellOption]
) -> tuple[CellOption, ...]:
    """The cells to which VPAs of a profile may come, None for a new one, or on which it has some."""
    if bounds.unlimited:
        return tuple(cells)
    used = {vpa.cell_id for vpa in profile.vpas} if profile else set()
    met = [one for one in bounds.alternatives if _is_met(one, tenant_id, profile.id if profile else "")]
    return tuple(cell for cell in cells if cell.id in used or any(one.cell_id in ("", cell.id) for one in met))


def _is_met(bound: Bound, tenant_id: str, profile_id: str) -> bool:
    """Whether new VPAs of the profile belong to ``bound``, on some cell at least."""
    return not bound.vpa_id and bound.tenant_id in ("", tenant_id) and bound.participant_profile_id in ("", profile_id)
