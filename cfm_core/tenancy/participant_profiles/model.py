"""A participant profile, what may be asked of it, and how responses change it.

Source: CFM wire contract, section 8; system architecture, "Service Virtualization Model".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, NewType

from cfm_core.contracts.orchestration import DEPLOY, DISPOSE, VPA_STATE, OrchestrationManifest, compensation_id
from cfm_core.errors import ConflictError
from cfm_core.tenancy.cells.model import CellId, CellOption
from cfm_core.tenancy.dataspace_profiles.model import DataspaceProfileId, DataspaceProfileOption
from cfm_core.tenancy.instants import ZERO
from cfm_core.tenancy.states import DeploymentState
from cfm_core.tenancy.tenants.model import TenantId

ParticipantProfileId = NewType("ParticipantProfileId", str)

NEW = -1
"""The version of a VPA that has not been kept yet."""


@dataclass(frozen=True, slots=True)
class VirtualParticipantAgent:
    id: str
    type: str
    cell_id: CellId
    external_cell_id: str
    properties: Mapping[str, Any]
    state: DeploymentState = DeploymentState.PENDING
    state_at: datetime = ZERO
    version: int = NEW


@dataclass(frozen=True, slots=True)
class ParticipantProfile:
    """``state`` is that of all its VPAs: they always move together."""

    id: ParticipantProfileId
    identifier: str
    tenant_id: TenantId
    dataspace_profile_ids: tuple[DataspaceProfileId, ...]
    names_dataspaces: bool
    """Whether they were named; else they are all that there were."""
    participant_roles: Mapping[str, Sequence[str]]
    vpas: tuple[VirtualParticipantAgent, ...]
    properties: Mapping[str, Any]
    manifest_id: str = ""
    """Of the manifest sent last; its response counts."""
    sent_manifest_ids: tuple[str, ...] = ()
    state: DeploymentState = DeploymentState.PENDING
    live: bool = False
    """Whether a deployment has succeeded and no disposal since."""
    failed_manifest_id: str = ""
    """Of a deployment that has failed and was neither undone nor repeated since; else empty."""
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
    changes: int = 0
    """How often any of it had changed by then, but for the loads of the cells."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a profile is to become: ``profile`` but for its version, and for what depends on ``state`` and ``manifest``.

    Args:
        state: the one that its VPAs enter; None where they stay in theirs.
        manifest: the one to be sent, whose response is awaited from now on.
    """

    profile: ParticipantProfile
    state: DeploymentState | None = None
    manifest: OrchestrationManifest | None = None


class Action(StrEnum):
    """What may be asked of a participant profile, beside a change of its properties."""

    CHANGE = "change"
    DEPLOY = "deploy"
    DISPOSE = "dispose"
    PURGE = "purge"


_ALLOWED = {
    DeploymentState.ACTIVE: (Action.CHANGE, Action.DISPOSE),
    DeploymentState.ERROR: (Action.DEPLOY, Action.DISPOSE),
    DeploymentState.DISPOSED: (Action.DEPLOY, Action.PURGE),
}
_PARTICIPLES = {
    Action.CHANGE: "changed",
    Action.DEPLOY: "deployed again",
    Action.DISPOSE: "disposed",
    Action.PURGE: "purged",
}


def check_allowed(profile: ParticipantProfile, action: Action) -> None:
    """Raises ConflictError unless ``action`` may be asked of the profile in its present state."""
    allowed = _ALLOWED.get(profile.state, ())
    if action not in allowed:
        raise ConflictError(
            f"participant profile {profile.id} is {profile.state}, and cannot be {_PARTICIPLES[action]}",
            {"state": profile.state, "allowedActions": list(allowed)},
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
    retries: int = 0
    """How often an operator has let the orchestration go on since it ended for the first time."""


def respond(profile: ParticipantProfile, response: Response, now: datetime) -> tuple[Verdict, ParticipantProfile]:
    """The profile after ``response``. Only the awaited one changes it, so that a repeated or late one changes nothing.

    What has failed can still succeed, or fail for another reason, where an operator has retried its orchestration. A dispose
    response for a manifest that was never sent is that of a compensation: it counts once the deployment has failed. The
    statement ``apply`` in ``queries.sql`` does the same for many at once.
    """
    awaited = response.manifest_id == profile.manifest_id
    retried = awaited and response.retries > 0
    if retried and profile.state is DeploymentState.ERROR and not response.success:
        return _failed_again(profile, response)
    match DEPLOY_OR_DISPOSE.get(response.orchestration_type), profile.state:
        case "deploy", state if (awaited and state is DeploymentState.PENDING) or (
            retried and state is DeploymentState.ERROR
        ):
            done = replace(profile, properties=_with_what_is_left(profile, response))
            if response.success:
                done = replace(done, live=True, failed_manifest_id="", error=False, error_detail="")
                return Verdict.APPLIED, in_state(done, DeploymentState.ACTIVE, now)
            return Verdict.APPLIED, in_error(
                replace(done, failed_manifest_id=profile.manifest_id), response.error_detail, now
            )
        case "dispose", state if (awaited and state is DeploymentState.DISPOSING) or (
            retried and state is DeploymentState.ERROR
        ):
            if response.success:
                return Verdict.APPLIED, _disposed(profile, now)
            return Verdict.APPLIED, in_error(profile, response.error_detail, now)
        case "dispose", DeploymentState.PENDING if response.manifest_id == compensation_id(profile.manifest_id):
            return Verdict.EARLY, profile
        case "dispose", DeploymentState.ERROR if _compensates(profile, response):
            return _compensated(profile, response, now)
    return Verdict.IGNORED, profile


def _with_what_is_left(profile: ParticipantProfile, response: Response) -> dict[str, Any]:
    """A live participant keeps what its deployment has left, whatever becomes of a change."""
    before = profile.properties.get(VPA_STATE, {}) if profile.live else {}
    return {**profile.properties, VPA_STATE: {**before, **response.properties}}


def _failed_again(profile: ParticipantProfile, response: Response) -> tuple[Verdict, ParticipantProfile]:
    if profile.error_detail.startswith(response.error_detail):
        return Verdict.IGNORED, profile
    properties = profile.properties
    if response.orchestration_type == DEPLOY:
        properties = _with_what_is_left(profile, response)
    again = replace(
        profile, properties=properties, error=True, error_detail=response.error_detail, version=profile.version + 1
    )
    return Verdict.APPLIED, again


def _compensates(profile: ParticipantProfile, response: Response) -> bool:
    """Whether ``response`` is that of the compensation of the failed deployment.

    A compensation whose id is not derived from a manifest's may be that of any failed one.
    """
    if not profile.failed_manifest_id or response.manifest_id in profile.sent_manifest_ids:
        return False
    derived = response.manifest_id.endswith(compensation_id(""))
    return not derived or response.manifest_id == compensation_id(profile.failed_manifest_id)


def _compensated(profile: ParticipantProfile, response: Response, now: datetime) -> tuple[Verdict, ParticipantProfile]:
    if response.success:
        return Verdict.APPLIED, _disposed(profile, now)
    told = f"compensation failed: {response.error_detail}"
    if profile.error_detail.endswith(told):
        return Verdict.IGNORED, profile
    detail = f"{profile.error_detail}; {told}" if profile.error_detail else told
    return Verdict.APPLIED, replace(profile, error_detail=detail, version=profile.version + 1)


def given_up(profile: ParticipantProfile, sends: int, now: datetime) -> ParticipantProfile:
    """The profile after its manifest was sent ``sends`` times and nobody has answered."""
    if profile.state == DeploymentState.PENDING:
        profile = replace(profile, failed_manifest_id=profile.manifest_id)
    return in_error(profile, f"no response to manifest {profile.manifest_id}, which was sent {sends} times", now)


def vpas_in(
    vpas: Sequence[VirtualParticipantAgent], state: DeploymentState, now: datetime
) -> tuple[VirtualParticipantAgent, ...]:
    """The VPAs after a change of their state; the database's ``vpas_in`` gives the same."""
    return tuple(replace(vpa, state=state, state_at=now, version=vpa.version + 1) for vpa in vpas)


def in_state(profile: ParticipantProfile, state: DeploymentState, now: datetime) -> ParticipantProfile:
    """The profile, one version further, with all its VPAs in ``state`` since ``now``."""
    return replace(profile, state=state, vpas=vpas_in(profile.vpas, state, now), version=profile.version + 1)


def in_error(profile: ParticipantProfile, detail: str, now: datetime) -> ParticipantProfile:
    """Like ``in_state``, with the reason; such a profile can be disposed or deployed again."""
    return in_state(replace(profile, error=True, error_detail=detail), DeploymentState.ERROR, now)


def _disposed(profile: ParticipantProfile, now: datetime) -> ParticipantProfile:
    return in_state(replace(profile, live=False, failed_manifest_id=""), DeploymentState.DISPOSED, now)
