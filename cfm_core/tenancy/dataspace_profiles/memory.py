"""Dataspace profiles in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from cfm_core.query import JsonPage, Page, Predicate
from cfm_core.tenancy.answers import JsonEntity, json_of
from cfm_core.tenancy.cells.model import CellId, CellOption
from cfm_core.tenancy.dataspace_profiles.model import DataspaceDeployment, DataspaceProfile, DataspaceProfileId
from cfm_core.tenancy.dataspace_profiles.store import FIELDS
from cfm_core.tenancy.dataspace_profiles.v1alpha1 import shown
from cfm_core.tenancy.memory import Fabric, page_of
from cfm_core.tenancy.states import DeploymentState
from cfm_core.tenancy.usage import in_use


class MemoryDataspaceProfiles:
    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric

    def insert(self, profile: DataspaceProfile) -> JsonEntity:
        with self._fabric.lock:
            self._fabric.dataspace_profiles[profile.id] = profile
            return JsonEntity(profile.version, json_of(self._shown(profile)))

    def find(self, profile_id: DataspaceProfileId) -> JsonEntity | None:
        with self._fabric.lock:
            profile = self._fabric.dataspace_profiles.get(profile_id)
            return JsonEntity(profile.version, json_of(self._shown(profile))) if profile else None

    def select(self, predicate: Predicate, page: Page) -> JsonPage:
        with self._fabric.lock:
            return page_of(self._fabric.dataspace_profiles, predicate, FIELDS, page, self._shown, self._shown)

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
        return shown(profile, lambda cell_id: self._fabric.cells[cell_id].external_id)
