"""The Tenant Manager's stores in memory: all that Postgres does for them, until the process ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

from cfm_core.clock import Clock, system_clock
from cfm_core.contracts.orchestration import OrchestrationManifest
from cfm_core.contracts.reply import EventDict, OutboxRow
from cfm_core.contracts.subjects import MANIFESTS
from cfm_core.query import Fields, Page, Predicate, to_test
from cfm_core.store.constraints import error_for
from cfm_core.tenancy.answers import JsonPage, JsonText, array_of, json_of
from cfm_core.tenancy.cells.model import Cell, CellId, CellOption
from cfm_core.tenancy.cells.v1alpha1 import shown as shown_cell
from cfm_core.tenancy.dataspace_profiles.model import (
    DataspaceDeployment,
    DataspaceProfile,
    DataspaceProfileId,
    DataspaceProfileOption,
)
from cfm_core.tenancy.dataspace_profiles.v1alpha1 import shown as shown_dataspace_profile
from cfm_core.tenancy.participant_profiles.manifests import manifest_event
from cfm_core.tenancy.participant_profiles.model import (
    DeploymentBasis,
    ParticipantProfile,
    ParticipantProfileId,
    Response,
    Verdict,
    in_error,
    in_state,
    respond,
)
from cfm_core.tenancy.participant_profiles.service import Patience, Resent
from cfm_core.tenancy.participant_profiles.store import FIELDS as PARTICIPANT_PROFILE_FIELDS
from cfm_core.tenancy.participant_profiles.v1alpha1 import shown as shown_participant_profile
from cfm_core.tenancy.participant_profiles.v1alpha1 import stored as stored_participant_profile
from cfm_core.tenancy.states import DeploymentState
from cfm_core.tenancy.tenants.model import Tenant, TenantId, changed
from cfm_core.tenancy.tenants.store import FIELDS as TENANT_FIELDS
from cfm_core.tenancy.tenants.v1alpha1 import TenantPropertiesDiff
from cfm_core.tenancy.tenants.v1alpha1 import shown as shown_tenant
from cfm_core.tenancy.usage import in_use

Entity = TypeVar("Entity")


@dataclass(slots=True)
class Awaited:
    """A manifest whose response has not come yet."""

    manifest: OrchestrationManifest
    sends: int
    due_at: datetime


@dataclass(slots=True)
class Fabric:
    """What the four stores share. Whoever reads or writes holds ``lock``."""

    clock: Clock = system_clock
    lock: threading.Lock = field(default_factory=threading.Lock)
    tenants: dict[TenantId, Tenant] = field(default_factory=dict)
    cells: dict[CellId, Cell] = field(default_factory=dict)
    dataspace_profiles: dict[DataspaceProfileId, DataspaceProfile] = field(default_factory=dict)
    participant_profiles: dict[ParticipantProfileId, ParticipantProfile] = field(default_factory=dict)
    awaited: dict[ParticipantProfileId, Awaited] = field(default_factory=dict)
    outbox: list[OutboxRow] = field(default_factory=list)

    def announce(self, events: Sequence[EventDict]) -> OutboxRow:
        row = OutboxRow(len(self.outbox) + 1, MANIFESTS, list(events))
        self.outbox.append(row)
        return row

    def cell_options(self) -> tuple[CellOption, ...]:
        return tuple(CellOption(cell.id, cell.external_id, cell.state) for _, cell in sorted(self.cells.items()))

    def deployed_participants(self) -> list[ParticipantProfile]:
        return [profile for profile in self.participant_profiles.values() if profile.state != DeploymentState.DISPOSED]


class MemoryTenants:
    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric

    def insert(self, tenant: Tenant) -> JsonText:
        with self._fabric.lock:
            self._fabric.tenants[tenant.id] = tenant
            return json_of(shown_tenant(tenant))

    def find(self, tenant_id: TenantId) -> JsonText | None:
        with self._fabric.lock:
            tenant = self._fabric.tenants.get(tenant_id)
            return json_of(shown_tenant(tenant)) if tenant else None

    def select(self, predicate: Predicate, page: Page) -> JsonPage:
        with self._fabric.lock:
            tenants = [tenant for _, tenant in sorted(self._fabric.tenants.items())]

        def stored(tenant: Tenant) -> dict[str, Any]:
            return {"id": tenant.id, "version": tenant.version, "properties": tenant.properties}

        return _page(tenants, predicate, TENANT_FIELDS, page, stored, shown_tenant)

    def change(self, tenant_id: TenantId, diff: TenantPropertiesDiff) -> JsonText | None:
        with self._fabric.lock:
            tenant = self._fabric.tenants.get(tenant_id)
            if tenant is None:
                return None
            self._fabric.tenants[tenant_id] = after = changed(tenant, diff.properties, diff.removed)
            return json_of(shown_tenant(after))

    def delete(self, tenant_id: TenantId) -> bool:
        with self._fabric.lock:
            if any(profile.tenant_id == tenant_id for profile in self._fabric.participant_profiles.values()):
                raise _violated("participant_profiles_tenant_id_fkey")
            return self._fabric.tenants.pop(tenant_id, None) is not None


class MemoryCells:
    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric

    def insert(self, cell: Cell) -> JsonText:
        with self._fabric.lock:
            if cell.external_id and any(cell.external_id == one.external_id for one in self._fabric.cells.values()):
                raise _violated("cells_external_id_key")
            self._fabric.cells[cell.id] = cell
            return json_of(shown_cell(cell))

    def find(self, cell_id: CellId) -> JsonText | None:
        with self._fabric.lock:
            cell = self._fabric.cells.get(cell_id)
            return json_of(shown_cell(cell)) if cell else None

    def all(self) -> JsonText:
        with self._fabric.lock:
            return array_of(shown_cell(cell) for _, cell in sorted(self._fabric.cells.items()))

    def delete(self, cell_id: CellId) -> bool:
        with self._fabric.lock:
            users = [
                ("dataspaceProfile", str(profile.id))
                for profile in self._fabric.dataspace_profiles.values()
                if any(deployment.cell_id == cell_id for deployment in profile.deployments)
            ] + [
                ("participantProfile", str(profile.id))
                for profile in self._fabric.deployed_participants()
                if any(vpa.cell_id == cell_id for vpa in profile.vpas)
            ]
            if users:
                raise in_use(f"cell {cell_id}", users)
            return self._fabric.cells.pop(cell_id, None) is not None


class MemoryDataspaceProfiles:
    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric

    def insert(self, profile: DataspaceProfile) -> JsonText:
        with self._fabric.lock:
            self._fabric.dataspace_profiles[profile.id] = profile
            return json_of(self._shown(profile))

    def find(self, profile_id: DataspaceProfileId) -> JsonText | None:
        with self._fabric.lock:
            profile = self._fabric.dataspace_profiles.get(profile_id)
            return json_of(self._shown(profile)) if profile else None

    def all(self) -> JsonText:
        with self._fabric.lock:
            return array_of(self._shown(profile) for _, profile in sorted(self._fabric.dataspace_profiles.items()))

    def delete(self, profile_id: DataspaceProfileId) -> bool:
        with self._fabric.lock:
            users = [
                ("participantProfile", str(profile.id))
                for profile in self._fabric.deployed_participants()
                if profile_id in profile.dataspace_profile_ids
            ]
            if users:
                raise in_use(f"dataspace profile {profile_id}", users)
            return self._fabric.dataspace_profiles.pop(profile_id, None) is not None

    def options(self, profile_id: DataspaceProfileId) -> Sequence[CellOption] | None:
        with self._fabric.lock:
            return self._fabric.cell_options() if profile_id in self._fabric.dataspace_profiles else None

    def deploy(self, profile_id: DataspaceProfileId, cell_id: CellId, deployment_id: str) -> bool:
        with self._fabric.lock:
            profile = self._fabric.dataspace_profiles.get(profile_id)
            cell = self._fabric.cells.get(cell_id)
            if profile is None or cell is None or cell.state != DeploymentState.ACTIVE:
                return False
            if all(deployment.cell_id != cell_id for deployment in profile.deployments):
                deployment = DataspaceDeployment(deployment_id, cell_id, self._fabric.clock())
                self._fabric.dataspace_profiles[profile_id] = replace(
                    profile, version=profile.version + 1, deployments=(*profile.deployments, deployment)
                )
            return True

    def _shown(self, profile: DataspaceProfile) -> dict[str, Any]:
        return shown_dataspace_profile(profile, lambda cell_id: self._fabric.cells[cell_id].external_id)


class MemoryParticipantProfiles:
    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric

    def find(self, tenant_id: TenantId, profile_id: ParticipantProfileId) -> JsonText | None:
        with self._fabric.lock:
            profile = self._of(tenant_id, profile_id)
            return json_of(shown_participant_profile(profile)) if profile else None

    def of_tenant(self, tenant_id: TenantId) -> JsonText:
        with self._fabric.lock:
            return array_of(
                shown_participant_profile(profile)
                for _, profile in sorted(self._fabric.participant_profiles.items())
                if profile.tenant_id == tenant_id
            )

    def select(self, predicate: Predicate, page: Page) -> JsonPage:
        with self._fabric.lock:
            profiles = [profile for _, profile in sorted(self._fabric.participant_profiles.items())]
        return _page(
            profiles,
            predicate,
            PARTICIPANT_PROFILE_FIELDS,
            page,
            stored_participant_profile,
            shown_participant_profile,
        )

    def basis(self, tenant_id: TenantId, dataspace_profile_ids: Sequence[str]) -> DeploymentBasis:
        with self._fabric.lock:
            return DeploymentBasis(
                tenant_id in self._fabric.tenants,
                self._fabric.cell_options(),
                tuple(
                    DataspaceProfileOption(
                        profile.id,
                        profile.credential_specs,
                        frozenset(deployment.cell_id for deployment in profile.deployments),
                    )
                    for _, profile in sorted(self._fabric.dataspace_profiles.items())
                    if not dataspace_profile_ids or profile.id in dataspace_profile_ids
                ),
            )

    def insert(self, profile: ParticipantProfile, manifest: OrchestrationManifest, due: timedelta) -> JsonText | None:
        fabric = self._fabric
        with fabric.lock:
            cell = fabric.cells.get(profile.vpas[0].cell_id)
            if (
                profile.tenant_id not in fabric.tenants
                or cell is None
                or cell.state != DeploymentState.ACTIVE
                or not fabric.dataspace_profiles.keys() >= set(profile.dataspace_profile_ids)
            ):
                return None
            if any(profile.identifier == one.identifier for one in fabric.deployed_participants()):
                raise _violated("participant_profiles_identifier_key")
            fabric.participant_profiles[profile.id] = profile
            fabric.awaited[profile.id] = Awaited(manifest, 1, fabric.clock() + due)
            fabric.announce([manifest_event(manifest)])
            return json_of(shown_participant_profile(profile))

    def dispose(
        self,
        tenant_id: TenantId,
        profile_id: ParticipantProfileId,
        manifest_for: Callable[[ParticipantProfile], OrchestrationManifest],
        due: timedelta,
    ) -> bool:
        fabric = self._fabric
        with fabric.lock:
            profile = self._of(tenant_id, profile_id)
            if profile is None:
                return False
            manifest = manifest_for(profile)
            now = fabric.clock()
            fabric.participant_profiles[profile_id] = replace(
                in_state(profile, DeploymentState.DISPOSING, now),
                manifest_id=manifest.id,
                sent_manifest_ids=(*profile.sent_manifest_ids, manifest.id),
            )
            fabric.awaited[profile_id] = Awaited(manifest, 1, now + due)
            fabric.announce([manifest_event(manifest)])
        return True

    def apply(self, responses: Sequence[Response]) -> list[Verdict]:
        with self._fabric.lock:
            return [self._apply(response) for response in responses]

    def resend(self, patience: Patience) -> Resent:
        fabric = self._fabric
        with fabric.lock:
            now = fabric.clock()
            overdue = sorted(
                (awaited.due_at, profile_id) for profile_id, awaited in fabric.awaited.items() if awaited.due_at <= now
            )
            events: list[EventDict] = []
            given_up: list[ParticipantProfileId] = []
            for _, profile_id in overdue[: patience.batch]:
                awaited = fabric.awaited[profile_id]
                if awaited.sends >= patience.sends:
                    self._give_up(profile_id, now)
                    given_up.append(profile_id)
                    continue
                awaited.due_at = now + min(patience.first * 2 ** min(awaited.sends, 10), patience.longest)
                awaited.sends += 1
                event = manifest_event(awaited.manifest)
                events.append(event | {"id": f"{awaited.manifest.id}/{awaited.sends}"})
            rows = [fabric.announce(events)] if events else []
        return Resent(rows, tuple(given_up))

    def _of(self, tenant_id: TenantId, profile_id: ParticipantProfileId) -> ParticipantProfile | None:
        profile = self._fabric.participant_profiles.get(profile_id)
        return profile if profile is not None and profile.tenant_id == tenant_id else None

    def _apply(self, response: Response) -> Verdict:
        profile_id = ParticipantProfileId(response.profile_id)
        profile = self._fabric.participant_profiles.get(profile_id)
        if profile is None:
            return Verdict.UNKNOWN
        verdict, after = respond(profile, response, self._fabric.clock())
        if verdict is Verdict.APPLIED:
            self._fabric.participant_profiles[profile_id] = after
            self._fabric.awaited.pop(profile_id, None)
        return verdict

    def _give_up(self, profile_id: ParticipantProfileId, now: datetime) -> None:
        awaited = self._fabric.awaited.pop(profile_id)
        profile = self._fabric.participant_profiles[profile_id]
        detail = f"no response to manifest {awaited.manifest.id}, which was sent {awaited.sends} times"
        failed = profile.deploy_failed or profile.state == DeploymentState.PENDING
        self._fabric.participant_profiles[profile_id] = in_error(replace(profile, deploy_failed=failed), detail, now)


def _page(
    entities: Sequence[Entity],
    predicate: Predicate,
    fields: Fields,
    page: Page,
    stored: Callable[[Entity], Mapping[str, Any]],
    shown: Callable[[Entity], Mapping[str, Any]],
) -> JsonPage:
    holds = to_test(predicate, fields)
    found = [entity for entity in entities if holds(stored(entity))]
    return JsonPage(array_of(map(shown, found[page.offset : page.offset + page.limit])), len(found))


def _violated(constraint: str) -> Exception:
    """The error that Postgres would have led to."""
    return error_for(constraint) or AssertionError(constraint)
