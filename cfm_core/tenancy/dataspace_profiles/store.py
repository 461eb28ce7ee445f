"""Dataspace profiles in Postgres."""

from __future__ import annotations

import json
from collections.abc import Sequence

from cfm_core.query import Column, Fields, Json, JsonArray, JsonPage, Kind, Page, Predicate, to_sql
from cfm_core.store import paging
from cfm_core.store.database import Database
from cfm_core.store.paging import Listing
from cfm_core.store.sql import Queries
from cfm_core.tenancy.answers import JsonEntity, json_of
from cfm_core.tenancy.cells.model import CellId, CellOption
from cfm_core.tenancy.dataspace_profiles.model import DataspaceProfile, DataspaceProfileId
from cfm_core.tenancy.dataspace_profiles.v1alpha1 import shown_spec
from cfm_core.tenancy.states import DeploymentState
from cfm_core.tenancy.usage import in_use

SQL = Queries("cfm_core.tenancy.dataspace_profiles")

FIELDS = Fields(
    {
        "id": Column("t.id", Kind.UUID),
        "version": Column("t.version", Kind.INTEGER),
        "dataspaceSpec": Json("t.spec::jsonb"),
        "artifacts": JsonArray("t.artifacts::jsonb"),
        "deployments": JsonArray("tenant_manager.deployments_of(t.id)"),
        "properties": Json("t.properties"),
    }
)

LISTING = Listing(
    "tenant_manager.dataspace_profiles",
    "tenant_manager.dataspace_profile_json(t)",
    "octet_length((t).properties::text) + octet_length((t).spec::text)",
)


class PostgresDataspaceProfiles:
    def __init__(self, database: Database) -> None:
        self._database = database

    def insert(self, profile: DataspaceProfile) -> JsonEntity:
        ((version, text),) = self._database.rows(
            SQL["insert"],
            id=profile.id,
            spec=json_of(shown_spec(profile)),
            artifacts=json.dumps(profile.artifacts, ensure_ascii=False),
            properties=json.dumps(profile.properties),
        )
        return JsonEntity(version, text)

    def find(self, profile_id: DataspaceProfileId) -> JsonEntity | None:
        row = self._database.row(SQL["find"], id=profile_id)
        return JsonEntity(*row) if row else None

    def select(self, predicate: Predicate, page: Page) -> JsonPage:
        condition, params = to_sql(predicate, FIELDS)
        return paging.select(self._database, LISTING, page, condition, params)

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
