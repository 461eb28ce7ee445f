"""What a participant profile is when it is deployed, changed, or deployed again."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from cfm_core.contracts.orchestration import VPA_STATE
from cfm_core.errors import FieldError, RefusedError
from cfm_core.tenancy.dataspace_profiles.model import CredentialSpec
from cfm_core.tenancy.participant_profiles.model import DeploymentBasis, ParticipantProfile, ParticipantProfileId
from cfm_core.tenancy.participant_profiles.planning import (
    Placement,
    WantedVpa,
    kept_vpas,
    needed_credentials,
    needed_vpa_types,
    new_vpas,
    placed_again,
    select_dataspace_profiles,
)
from cfm_core.tenancy.participant_profiles.selection import CellSelection
from cfm_core.tenancy.participant_profiles.v1alpha1 import (
    NewParticipantProfileDeployment,
    ParticipantProfileDiff,
)
from cfm_core.tenancy.tenants.model import TenantId

BasisOf = Callable[[Sequence[str]], DeploymentBasis]
"""Gives what a deployment to these dataspace profiles, or to all where none is named, rests on."""


def planned(
    tenant_id: TenantId,
    new: NewParticipantProfileDeployment,
    named: Sequence[str],
    basis: DeploymentBasis,
    selection: CellSelection,
) -> tuple[ParticipantProfile, list[CredentialSpec]]:
    """A new profile that takes part in the dataspace profiles ``named``, or in all; and the credentials that it needs.

    Raises:
        RefusedError: a rule of the model refuses it; says where.
    """
    roles = _roles(new.participant_roles)
    selected = select_dataspace_profiles(basis.dataspace_profiles, named, roles)
    placement = Placement(basis.cells, selected, selection, needs_all=bool(named))
    profile = ParticipantProfile(
        id=ParticipantProfileId(str(uuid.uuid4())),
        identifier=new.identifier,
        tenant_id=tenant_id,
        dataspace_profile_ids=tuple(option.id for option in selected),
        names_dataspaces=bool(named),
        participant_roles=roles,
        vpas=new_vpas(
            needed_vpa_types(selected),
            [WantedVpa(vpa.type, vpa.cell_id, vpa.properties, f"/vpas/{index}") for index, vpa in enumerate(new.vpas)],
            {vpa_type: properties or {} for vpa_type, properties in new.vpa_properties.items()},
            placement,
            placement.named(new.cell_id, "/cellId") if new.cell_id else None,
        ),
        properties=new.properties,
    )
    return profile, needed_credentials(selected, roles)


def with_properties(profile: ParticipantProfile, diff: ParticipantProfileDiff) -> ParticipantProfile:
    """The profile with the properties of ``diff``. What its deployment has left is not a caller's to change."""
    gone = {*diff.removed} - {VPA_STATE}
    properties = {**profile.properties, **{key: value for key, value in diff.properties.items() if key != VPA_STATE}}
    return replace(profile, properties={key: value for key, value in properties.items() if key not in gone})


def concerns_services(profile: ParticipantProfile, diff: ParticipantProfileDiff) -> bool:
    """Whether ``diff`` asks for more than other properties of the profile."""
    dataspaces, roles, properties = diff.dataspace_profile_ids, diff.participant_roles, _vpa_properties(diff)
    ids = {vpa.id for vpa in profile.vpas}
    return any(
        (
            dataspaces is not None and set(dataspaces) != set(profile.dataspace_profile_ids),
            roles is not None and _roles(roles) != profile.participant_roles,
            any(vpa.id not in ids for vpa in diff.vpas),
            any(properties.get(vpa.type, vpa.properties) != vpa.properties for vpa in profile.vpas),
        )
    )


def revised(
    profile: ParticipantProfile,
    diff: ParticipantProfileDiff,
    basis_of: BasisOf,
    selection: CellSelection,
    *,
    again: bool,
) -> tuple[ParticipantProfile, list[CredentialSpec]]:
    """The profile after ``diff``, and the credentials that the participant needs then.

    VPAs stay, with their ids; those are added that ``diff`` names or that the dataspace profiles need and it lacks.

    Args:
        again: it is deployed again: without other dataspace profiles in ``diff``, one that meant all means all of now,
            and VPAs whose cell can no longer take them go to another.

    Raises:
        RefusedError: a rule of the model refuses it; says where.
    """
    named, names = _dataspaces(profile, diff, again=again)
    basis = basis_of(named)
    known = {option.id for option in basis.dataspace_profiles}
    # Whoever leaves a dataspace has no roles there any more.
    kept_roles = {key: value for key, value in profile.participant_roles.items() if key in known}
    roles = kept_roles if diff.participant_roles is None else _roles(diff.participant_roles)
    selected = select_dataspace_profiles(basis.dataspace_profiles, named, roles)
    placement = Placement(basis.cells, selected, selection, needs_all=names)
    kept = (placed_again if again else kept_vpas)(profile.vpas, _vpa_properties(diff), placement)
    has = {vpa.type for vpa in kept}
    wanted = _added(profile, diff)
    added = new_vpas(
        [vpa_type for vpa_type in needed_vpa_types(selected) if vpa_type not in has],
        wanted,
        _vpa_properties(diff),
        placement,
        placement.fit(kept[0].cell_id),
        already=len(kept),
    )
    after = replace(
        profile,
        dataspace_profile_ids=tuple(option.id for option in selected),
        names_dataspaces=names,
        participant_roles=roles,
        vpas=(*kept, *added),
    )
    return after, needed_credentials(selected, roles)


def _dataspaces(
    profile: ParticipantProfile, diff: ParticipantProfileDiff, *, again: bool
) -> tuple[tuple[str, ...], bool]:
    """The dataspace profiles to take part in, none for all, and whether they are named."""
    given = diff.dataspace_profile_ids
    if given is not None and set(given) != set(profile.dataspace_profile_ids):
        return tuple(dict.fromkeys(given)), bool(given)
    if again and not profile.names_dataspaces:
        return (), False
    return profile.dataspace_profile_ids, profile.names_dataspaces


def _added(profile: ParticipantProfile, diff: ParticipantProfileDiff) -> list[WantedVpa]:
    ids = {vpa.id for vpa in profile.vpas}
    for index, vpa in enumerate(diff.vpas):
        if vpa.id and vpa.id not in ids:
            problem = f"participant profile {profile.id} has no VPA {vpa.id!r}"
            raise RefusedError(problem, [FieldError(f"/vpas/{index}/id", problem)])
    return [
        WantedVpa(vpa.type, vpa.cell_id, vpa.properties, f"/vpas/{index}")
        for index, vpa in enumerate(diff.vpas)
        if not vpa.id
    ]


def _roles(given: Mapping[str, Sequence[str] | None]) -> dict[str, Sequence[str]]:
    return {key: list(roles or ()) for key, roles in given.items()}


def _vpa_properties(diff: ParticipantProfileDiff) -> dict[str, Mapping[str, Any]]:
    return {vpa_type: properties or {} for vpa_type, properties in diff.vpa_properties.items()}
