"""Dataspace profiles in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from cfm_core.access.model import ALL, Bound, Bounds
from cfm_core.audit.model import Kind as AuditKind
from cfm_core.audit.model import Subject
from cfm_core.entities import JsonEntity, json_of
from cfm_core.query import JsonPage, Page, Predicate
from cfm_core.store.constraints import in_use
from cfm_core.store.memory import page_of
from cfm_core.tenancy.cells.model import CellId, CellOption
from cfm_core.tenancy.dataspace_profiles.model import DataspaceDeployment, DataspaceProfile, DataspaceProfileId
from cfm_core.tenancy.dataspace_profiles.store import DEPLOYMENT_FIELDS, FIELDS
from cfm_core.tenancy.dataspace_profiles.v1alpha1 import shown, shown_deployment
from cfm_core.tenancy.memory import Fabric
from cfm_core.tenancy.states import DeploymentState
from cfm_core.versions import Expected


class MemoryDataspaceProfiles:
    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric

    def insert(self, profile: DataspaceProfile) -> JsonEntity | None:
        with self._fabric.lock:
            if profile.id in self._fabric.dataspace_profiles:
                return None
            return self._keep(profile)

    def find(self, profile_id: DataspaceProfileId, bounds: Bounds = ALL) -> JsonEntity | None:
        with self._fabric.lock:
            profile = self._within(profile_id, bounds)
            return self._entity(profile) if profile else None

    def select(self, predicate: Predicate, page: Page, bounds: Bounds = ALL) -> JsonPage:
        with self._fabric.lock:
            found = {key: one for key, one in self._fabric.dataspace_profiles.items() if _belongs(one, bounds)}
            return page_of(found, predicate, FIELDS, page, self._shown, self._shown)

    def replace(
        self, profile: DataspaceProfile, check: Callable[[int], None], bounds: Bounds = ALL
    ) -> JsonEntity | None:
        with self._fabric.lock:
            before = self._within(profile.id, bounds)
            if before is None:
                return None
            check(before.version)
            return self._keep(replace(profile, version=before.version + 1, deployments=before.deployments))

    def delete(self, profile_id: DataspaceProfileId, expected: Expected, bounds: Bounds = ALL) -> bool:
        with self._fabric.lock:
            profile = self._within(profile_id, bounds)
            if profile is None or not expected.allows(profile.version):
                return False
            if users := self._fabric.users_of(None, profile_id):
                raise in_use(f"dataspace profile {profile_id}", users)
            del self._fabric.dataspace_profiles[profile_id]
            for deployment in profile.deployments:
                self._note_undeployment(profile_id, deployment)
            return True

    def options(self, profile_id: DataspaceProfileId, bounds: Bounds = ALL) -> Sequence[CellOption] | None:
        with self._fabric.lock:
            return self._fabric.cell_options() if self._within(profile_id, bounds) else None

    def deploy(
        self, profile_id: DataspaceProfileId, wanted: Mapping[CellId, str], check: Callable[[int], None]
    ) -> bool:
        with self._fabric.lock:
            profile = self._fabric.dataspace_profiles.get(profile_id)
            if profile is None:
                return False
            check(profile.version)
            cells = [self._fabric.cells.get(cell_id) for cell_id in wanted]
            if any(cell is None or cell.state != DeploymentState.ACTIVE for cell in cells):
                return False
            there = {deployment.cell_id for deployment in profile.deployments}
            new = tuple(
                DataspaceDeployment(deployment_id, cell_id, self._fabric.clock())
                for cell_id, deployment_id in wanted.items()
                if cell_id not in there
            )
            for deployment in new:
                self._note_deployment(profile_id, deployment)
            if new:
                self._redeploy(profile, (*profile.deployments, *new))
            return True

    def deployments(self, profile_id: DataspaceProfileId, predicate: Predicate, page: Page) -> JsonPage:
        with self._fabric.lock:
            profile = self._fabric.dataspace_profiles.get(profile_id)
            deployments = {deployment.id: deployment for deployment in profile.deployments} if profile else {}

            def one(deployment: DataspaceDeployment) -> dict[str, Any]:
                return shown_deployment(deployment, self._external_id)

            def stored(deployment: DataspaceDeployment) -> dict[str, Any]:
                return one(deployment) | {"stateTimestamp": deployment.state_at}

            return page_of(deployments, predicate, DEPLOYMENT_FIELDS, page, stored, one)

    def undeploy(
        self,
        profile_id: DataspaceProfileId,
        deployment_id: str,
        check: Callable[[int], None],
        seen: Bounds = ALL,
        bounds: Bounds = ALL,
    ) -> bool:
        with self._fabric.lock:
            profile = self._within(profile_id, seen)
            if profile is None:
                return False
            check(profile.version)
            left = tuple(deployment for deployment in profile.deployments if deployment.id != deployment_id)
            if left == profile.deployments:
                return False
            (gone,) = set(profile.deployments) - set(left)
            if not bounds.allow(Bound(cell_id=gone.cell_id)):
                return False
            if users := self._fabric.users_of(gone.cell_id, profile_id):
                raise in_use(f"dataspace profile {profile_id} on cell {gone.cell_id}", users)
            self._note_undeployment(profile_id, gone)
            self._redeploy(profile, left)
            return True

    def _within(self, profile_id: DataspaceProfileId, bounds: Bounds) -> DataspaceProfile | None:
        profile = self._fabric.dataspace_profiles.get(profile_id)
        return profile if profile is not None and _belongs(profile, bounds) else None

    def _note_deployment(self, profile_id: DataspaceProfileId, new: DataspaceDeployment) -> None:
        subject = Subject(AuditKind.DATASPACE_PROFILES, profile_id, new.id)
        document = shown_deployment(new, self._external_id)
        self._fabric.audit.note_asked(subject, "deploy", "absent", DeploymentState.ACTIVE, document_after=document)

    def _note_undeployment(self, profile_id: DataspaceProfileId, gone: DataspaceDeployment) -> None:
        subject = Subject(AuditKind.DATASPACE_PROFILES, profile_id, gone.id)
        document = shown_deployment(gone, self._external_id)
        self._fabric.audit.note_asked(subject, "undeploy", DeploymentState.ACTIVE, "deleted", document_before=document)

    def _redeploy(self, profile: DataspaceProfile, deployments: tuple[DataspaceDeployment, ...]) -> None:
        self._keep(replace(profile, version=profile.version + 1, deployments=deployments))

    def _keep(self, profile: DataspaceProfile) -> JsonEntity:
        self._fabric.dataspace_profiles[profile.id] = profile
        return self._entity(profile)

    def _entity(self, profile: DataspaceProfile) -> JsonEntity:
        return JsonEntity(profile.version, json_of(self._shown(profile)))

    def _shown(self, profile: DataspaceProfile) -> dict[str, Any]:
        return shown(profile, self._external_id)

    def _external_id(self, cell_id: CellId) -> str:
        return self._fabric.cells[cell_id].external_id


def _belongs(profile: DataspaceProfile, bounds: Bounds) -> bool:
    """Whether a profile belongs to ``bounds``: it is deployed, and to nothing but these cells."""
    return bounds.unlimited or (
        bool(profile.deployments) and all(bounds.allow(Bound(cell_id=one.cell_id)) for one in profile.deployments)
    )
