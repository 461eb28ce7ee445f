"""A participant profile, the rules of its deployment, and how responses change it.

Source: CFM wire contract, section 8; system architecture, "Service Virtualization Model".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, NewType

from cfm_core.contracts.orchestration import DEPLOY, DISPOSE, VPA_STATE, compensation_id
from cfm_core.errors import ConflictError, FieldError, RefusedError
from cfm_core.tenancy.cells.model import CellId, CellOption
from cfm_core.tenancy.dataspace_profiles.model import CredentialSpec, DataspaceProfileId, DataspaceProfileOption
from cfm_core.tenancy.states import DeploymentState
from cfm_core.tenancy.tenants.model import TenantId

ParticipantProfileId = NewType("ParticipantProfileId", str)

VPA_TYPES = ("cfm.connector", "cfm.credentialservice", "cfm.dataplane", "cfm.issuer")
"""Every participant profile has one of each, in this order."""


@dataclass(frozen=True, slots=True)
class VirtualParticipantAgent:
    id: str
    type: str
    cell_id: CellId
    external_cell_id: str
    properties: Mapping[str, Any]
    state: DeploymentState
    state_at: datetime
    version: int = 0


@dataclass(frozen=True, slots=True)
class ParticipantProfile:
    """``state`` is that of all its VPAs: they always move together."""

    id: ParticipantProfileId
    identifier: str
    tenant_id: TenantId
    dataspace_profile_ids: tuple[DataspaceProfileId, ...]
    participant_roles: Mapping[str, Sequence[str]]
    vpas: tuple[VirtualParticipantAgent, ...]
    properties: Mapping[str, Any]
    manifest_id: str
    """Of the manifest sent last; its response counts."""
    sent_manifest_ids: tuple[str, ...]
    state: DeploymentState = DeploymentState.PENDING
    deploy_failed: bool = False
    error: bool = False
    error_detail: str = ""
    version: int = 0


@dataclass(frozen=True, slots=True)
class DeploymentBasis:
    """What a deployment rests on, as it was when it was read."""

    tenant_exists: bool
    cells: tuple[CellOption, ...]
    dataspace_profiles: tuple[DataspaceProfileOption, ...]
    """All of the system, or of those named the ones that exist; by id."""


def select_dataspace_profiles(
    known: Sequence[DataspaceProfileOption], named: Sequence[str], roles: Mapping[str, Sequence[str]]
) -> tuple[DataspaceProfileOption, ...]:
    """The dataspace profiles of a deployment: those ``named``, or all where none is.

    Raises:
        RefusedError: one that is named does not exist, there is none at all, or ``roles`` speak of another one.
    """
    ids = {profile.id for profile in known}
    problems = [
        FieldError(f"/dataspaceProfileIds/{index}", f"there is no dataspace profile {name!r}")
        for index, name in enumerate(named)
        if name not in ids
    ]
    if problems:
        raise RefusedError("; ".join(problem.detail for problem in problems), problems)
    if not known:
        raise RefusedError("no dataspace profiles found: there is none to take part in")
    problems = [
        FieldError(
            f"/participantRoles/{name}", f"roles are given for {name!r}, which is not among the dataspace profiles"
        )
        for name in roles
        if name not in ids
    ]
    if problems:
        raise RefusedError("; ".join(problem.detail for problem in problems), problems)
    return tuple(known)


def choose_cell(
    cells: Sequence[CellOption], profiles: Sequence[DataspaceProfileOption], wanted: str, *, needs_all: bool
) -> CellOption:
    """The cell that a participant's VPAs are deployed to: ``wanted``, or for ``""`` the one that serves most of ``profiles``.

    Args:
        needs_all: the cell must serve every one of ``profiles``, else at least one.

    Returns:
        Of several equally good ones the first by id, so that the same question has the same answer.

    Raises:
        RefusedError: the wanted cell is unknown, not active or does not serve them; or no active cell does.
    """
    if wanted:
        return _wanted_cell(cells, profiles, wanted, needs_all=needs_all)
    active = [cell for cell in cells if cell.active]
    if not active:
        raise RefusedError("no active cell found")
    least = len(profiles) if needs_all else 1
    served = {cell.id: sum(cell.id in profile.cell_ids for profile in profiles) for cell in active}
    fit = [cell for cell in active if served[cell.id] >= least]
    if not fit:
        which = "all of the dataspace profiles" if needs_all else "any dataspace profile"
        raise RefusedError(f"no active cell found that {which} {'are' if needs_all else 'is'} deployed to")
    return min(fit, key=lambda cell: (-served[cell.id], cell.id))


def _wanted_cell(
    cells: Sequence[CellOption], profiles: Sequence[DataspaceProfileOption], wanted: str, *, needs_all: bool
) -> CellOption:
    cell = next((cell for cell in cells if cell.id == wanted), None)
    missing = [profile.id for profile in profiles if wanted not in profile.cell_ids]
    if cell is None:
        problem = f"there is no cell {wanted!r}"
    elif not cell.active:
        problem = f"cell {wanted} is {cell.state}, not active"
    elif missing and (needs_all or len(missing) == len(profiles)):
        problem = f"not deployed to cell {wanted}: dataspace profile {', '.join(missing)}"
    else:
        return cell
    raise RefusedError(problem, [FieldError("/cellId", problem)])


def needed_credentials(
    profiles: Sequence[DataspaceProfileOption], roles: Mapping[str, Sequence[str]]
) -> list[CredentialSpec]:
    """What the participant has to be issued: all without a role, and those for a role that it has in that dataspace."""
    return [
        spec
        for profile in profiles
        for spec in profile.credential_specs
        if not spec.role or spec.role in roles.get(profile.id, ())
    ]


def allowed_actions(profile: ParticipantProfile) -> tuple[str, ...]:
    """What may be asked of the profile in its present state."""
    deployed = profile.state == DeploymentState.ACTIVE and VPA_STATE in profile.properties
    return ("dispose",) if deployed or profile.state == DeploymentState.ERROR else ()


def check_disposable(profile: ParticipantProfile) -> None:
    """Raises ConflictError unless the profile is active, or in error and therefore perhaps half deployed."""
    if not (actions := allowed_actions(profile)):
        why = "" if profile.state != DeploymentState.ACTIVE else f" and has no {VPA_STATE}"
        raise ConflictError(
            f"participant profile {profile.id} is {profile.state}{why}, and cannot be disposed",
            {"state": profile.state, "allowedActions": list(actions)},
        )


DEPLOY_OR_DISPOSE = {DEPLOY: "deploy", DISPOSE: "dispose"}


class Verdict(StrEnum):
    """What became of a response."""

    APPLIED = "applied"
    IGNORED = "ignored"
    """Late, repeated, or for a manifest that is not awaited."""
    EARLY = "early"
    """Of a compensation whose deployment's own response has not arrived yet."""
    UNKNOWN = "unknown"
    """For no participant profile of ours."""


@dataclass(frozen=True, slots=True)
class Response:
    """How an orchestration for a participant profile has ended. Two that say the same of one orchestration are equal."""

    profile_id: str
    manifest_id: str
    orchestration_type: str
    success: bool
    error_detail: str = field(compare=False)
    properties: Mapping[str, Any] = field(compare=False)


def respond(profile: ParticipantProfile, response: Response, now: datetime) -> tuple[Verdict, ParticipantProfile]:
    """The profile after ``response``. Only the awaited one changes it, so that a repeated or late one changes nothing.

    A dispose response for a manifest that was never sent is that of a compensation: it counts once the deployment has
    failed. The statement ``apply`` in ``queries.sql`` does the same for many at once.
    """
    awaited = response.manifest_id == profile.manifest_id
    match DEPLOY_OR_DISPOSE.get(response.orchestration_type), profile.state:
        case "deploy", DeploymentState.PENDING if awaited:
            properties = {**profile.properties, VPA_STATE: dict(response.properties)}
            if response.success:
                done = replace(profile, error=False, error_detail="", properties=properties)
                return Verdict.APPLIED, in_state(done, DeploymentState.ACTIVE, now)
            failed = replace(profile, properties=properties, deploy_failed=True)
            return Verdict.APPLIED, in_error(failed, response.error_detail, now)
        case "dispose", DeploymentState.DISPOSING if awaited:
            if response.success:
                return Verdict.APPLIED, in_state(profile, DeploymentState.DISPOSED, now)
            return Verdict.APPLIED, in_error(profile, response.error_detail, now)
        case "dispose", DeploymentState.PENDING if response.manifest_id == compensation_id(profile.manifest_id):
            return Verdict.EARLY, profile
        case "dispose", DeploymentState.ERROR if profile.deploy_failed:
            return _compensated(profile, response, now)
    return Verdict.IGNORED, profile


def _compensated(profile: ParticipantProfile, response: Response, now: datetime) -> tuple[Verdict, ParticipantProfile]:
    if response.manifest_id in profile.sent_manifest_ids:
        return Verdict.IGNORED, profile
    if response.success:
        return Verdict.APPLIED, in_state(profile, DeploymentState.DISPOSED, now)
    told = f"compensation failed: {response.error_detail}"
    if profile.error_detail.endswith(told):
        return Verdict.IGNORED, profile
    detail = f"{profile.error_detail}; {told}" if profile.error_detail else told
    return Verdict.APPLIED, replace(profile, error_detail=detail, version=profile.version + 1)


def in_state(profile: ParticipantProfile, state: DeploymentState, now: datetime) -> ParticipantProfile:
    """The profile, one version further, with all its VPAs in ``state`` since ``now``."""
    vpas = tuple(replace(vpa, state=state, state_at=now, version=vpa.version + 1) for vpa in profile.vpas)
    return replace(profile, state=state, vpas=vpas, version=profile.version + 1)


def in_error(profile: ParticipantProfile, detail: str, now: datetime) -> ParticipantProfile:
    """Like ``in_state``, with the reason; such a profile can be disposed."""
    return in_state(replace(profile, error=True, error_detail=detail), DeploymentState.ERROR, now)
