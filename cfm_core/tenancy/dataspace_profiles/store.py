"""Dataspace profiles in Postgres."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cfm_core.entities import JsonEntity, json_of
from cfm_core.query import Column, Fields, Json, JsonArray, JsonPage, Kind, Page, Predicate, to_sql
from cfm_core.store import paging
from cfm_core.store.database import Database
from cfm_core.store.paging import Listing
from cfm_core.store.sql import Queries
from cfm_core.tenancy.cells.model import CellId, CellOption
from cfm_core.tenancy.dataspace_profiles.model import DataspaceProfile, DataspaceProfileId
from cfm_core.tenancy.dataspace_profiles.v1alpha1 import shown_spec
from cfm_core.tenancy.states import DeploymentState
from cfm_core.versions import Expected

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

DEPLOYMENT_FIELDS = Fields(
    {
        "id": Column("t.id", Kind.UUID),
        "state": Column("t.state"),
        "stateTimestamp": Column("t.state_at", Kind.TIMESTAMP),
        "cellId": Column("t.cell_id", Kind.UUID),
    }
)

DEPLOYMENTS = Listing("tenant_manager.dataspace_deployments", "tenant_manager.dataspace_deployment_json(t)", "0")


class PostgresDataspaceProfiles:
    def __init__(self, database: Database) -> None:
        self._database = database

    def insert(self, profile: DataspaceProfile) -> JsonEntity | None:
        row = self._database.row(SQL["insert"], **_params(profile))
        return JsonEntity(*row) if row else None

    def find(self, profile_id: DataspaceProfileId) -> JsonEntity | None:
        row = self._database.row(SQL["find"], id=profile_id)
        return JsonEntity(*row) if row else None

    def select(self, predicate: Predicate, page: Page) -> JsonPage:
        condition, params = to_sql(predicate, FIELDS)
        return paging.select(self._database, LISTING, page, condition, params)

    def replace(self, profile: DataspaceProfile, check: Callable[[int], None]) -> JsonEntity | None:
        with self._database.transaction() as transaction:
            row = transaction.row(SQL["lock"], id=profile.id)
            if row is None:
                return None
            check(row[0])
            ((version, text),) = transaction.rows(SQL["replace"], **_params(profile))
        return JsonEntity(version, text)

    def delete(self, profile_id: DataspaceProfileId, expected: Expected) -> bool:
        return self._database.row(SQL["delete"], id=profile_id, versions=expected.as_array) is not None

    def options(self, profile_id: DataspaceProfileId) -> Sequence[CellOption] | None:
        ((exists, cells),) = self._database.rows(SQL["options"], id=profile_id)
        if not exists:
            return None
        return [CellOption(id_, external_id, DeploymentState(state)) for id_, external_id, state in json.loads(cells)]

    def deploy(
        self, profile_id: DataspaceProfileId, wanted: Mapping[CellId, str], check: Callable[[int], None]
    ) -> bool:
        with self._database.transaction() as transaction:
            row = transaction.row(SQL["lock"], id=profile_id)
            if row is None:
                return False
            check(row[0])
            found: bool = transaction.value(
                SQL["deploy"], id=profile_id, cell_ids=list(wanted), deployment_ids=list(wanted.values())
            )
        return found

    def deployments(self, profile_id: DataspaceProfileId, predicate: Predicate, page: Page) -> JsonPage:
        condition, params = to_sql(predicate, DEPLOYMENT_FIELDS)
        condition = f"t.dataspace_profile_id = :profile_id::uuid AND ({condition})"
        return paging.select(self._database, DEPLOYMENTS, page, condition, params | {"profile_id": profile_id})

    def undeploy(self, profile_id: DataspaceProfileId, deployment_id: str, check: Callable[[int], None]) -> bool:
        with self._database.transaction() as transaction:
            row = transaction.row(SQL["lock"], id=profile_id)
            if row is None:
                return False
            check(row[0])
            return transaction.row(SQL["undeploy"], id=profile_id, deployment_id=deployment_id) is not None


def _params(profile: DataspaceProfile) -> dict[str, Any]:
    return {
        "id": profile.id,
        "spec": json_of(shown_spec(profile)),
        "artifacts": json.dumps(profile.artifacts, ensure_ascii=False),
        "properties": json.dumps(profile.properties),
    }
