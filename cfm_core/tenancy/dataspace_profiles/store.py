"""Dataspace profiles in Postgres."""

from __future__ import annotations

import json
from collections.abc import Sequence

from cfm_core.store.database import Database
from cfm_core.store.sql import Queries
from cfm_core.tenancy.answers import JsonText, json_of
from cfm_core.tenancy.cells.model import CellId, CellOption
from cfm_core.tenancy.dataspace_profiles.model import DataspaceProfile, DataspaceProfileId
from cfm_core.tenancy.dataspace_profiles.v1alpha1 import shown_spec
from cfm_core.tenancy.states import DeploymentState
from cfm_core.tenancy.usage import in_use

SQL = Queries("cfm_core.tenancy.dataspace_profiles")


class PostgresDataspaceProfiles:
    def __init__(self, database: Database) -> None:
        self._database = database

    def insert(self, profile: DataspaceProfile) -> JsonText:
        text: str = self._database.value(
            SQL["insert"],
            id=profile.id,
            spec=json_of(shown_spec(profile)),
            artifacts=json.dumps(profile.artifacts, ensure_ascii=False),
            properties=json.dumps(profile.properties),
        )
        return text

    def find(self, profile_id: DataspaceProfileId) -> JsonText | None:
        text: str | None = self._database.value(SQL["find"], id=profile_id)
        return text

    def all(self) -> JsonText:
        text: str = self._database.value(SQL["all"])
        return text

    def delete(self, profile_id: DataspaceProfileId) -> bool:
        with self._database.transaction() as transaction:
            if transaction.row(SQL["lock"], id=profile_id) is None:
                return False
            if users := transaction.rows(SQL["users"], id=profile_id):
                raise in_use(f"dataspace profile {profile_id}", [(kind, user) for kind, user in users])
            transaction.rows(SQL["delete"], id=profile_id)
        return True

    def options(self, profile_id: DataspaceProfileId) -> Sequence[CellOption] | None:
        ((exists, cells),) = self._database.rows(SQL["options"], id=profile_id)
        if not exists:
            return None
        return [CellOption(id_, external_id, DeploymentState(state)) for id_, external_id, state in json.loads(cells)]

    def deploy(self, profile_id: DataspaceProfileId, cell_id: CellId, deployment_id: str) -> bool:
        found: bool = self._database.value(SQL["deploy"], id=profile_id, cell_id=cell_id, deployment_id=deployment_id)
        return found
