"""Dataspace profiles in Postgres."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cfm_core.access.model import ALL, Bounds
from cfm_core.entities import JsonEntity, json_of
from cfm_core.query import Column, Fields, Json, JsonArray, JsonPage, Kind, Page, Predicate, to_sql
from cfm_core.store import paging
from cfm_core.store.conditions import EVERYTHING, Condition, both
from cfm_core.store.database import Database, Transaction
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

    def find(self, profile_id: DataspaceProfileId, bounds: Bounds = ALL) -> JsonEntity | None:
        within, bound = _within(bounds)
        row = self._database.row(SQL["find"].replace("<<within>>", within), id=profile_id, **bound)
        return JsonEntity(*row) if row else None

    def select(self, predicate: Predicate, page: Page, bounds: Bounds = ALL) -> JsonPage:
        condition = both(_within(bounds), to_sql(predicate, FIELDS))
        return paging.select(self._database, LISTING, page, *condition)

    def replace(
        self, profile: DataspaceProfile, check: Callable[[int], None], bounds: Bounds = ALL
    ) -> JsonEntity | None:
        with self._database.transaction() as transaction:
            version = _lock(transaction, profile.id, bounds)
            if version is None:
                return None
            check(version)
            ((version, text),) = transaction.rows(SQL["replace"], **_params(profile))
        return JsonEntity(version, text)

    def delete(self, profile_id: DataspaceProfileId, expected: Expected, bounds: Bounds = ALL) -> bool:
        within, bound = _within(bounds)
        sql = SQL["delete"].replace("<<within>>", within)
        return self._database.row(sql, id=profile_id, versions=expected.as_array, **bound) is not None

    def options(self, profile_id: DataspaceProfileId, bounds: Bounds = ALL) -> Sequence[CellOption] | None:
        within, bound = _within(bounds)
        ((exists, cells),) = self._database.rows(SQL["options"].replace("<<within>>", within), id=profile_id, **bound)
        if not exists:
            return None
        return [CellOption(id_, external_id, DeploymentState(state)) for id_, external_id, state in json.loads(cells)]

    def deploy(
        self, profile_id: DataspaceProfileId, wanted: Mapping[CellId, str], check: Callable[[int], None]
    ) -> bool:
        with self._database.transaction() as transaction:
            version = _lock(transaction, profile_id, ALL)
            if version is None:
                return False
            check(version)
            found: bool = transaction.value(
                SQL["deploy"], id=profile_id, cell_ids=list(wanted), deployment_ids=list(wanted.values())
            )
        return found

    def deployments(self, profile_id: DataspaceProfileId, predicate: Predicate, page: Page) -> JsonPage:
        condition, params = to_sql(predicate, DEPLOYMENT_FIELDS)
        condition = f"t.dataspace_profile_id = :profile_id::uuid AND ({condition})"
        return paging.select(self._database, DEPLOYMENTS, page, condition, params | {"profile_id": profile_id})

    def undeploy(
        self,
        profile_id: DataspaceProfileId,
        deployment_id: str,
        check: Callable[[int], None],
        seen: Bounds = ALL,
        bounds: Bounds = ALL,
    ) -> bool:
        cells = None if bounds.unlimited else bounds.cells()
        with self._database.transaction() as transaction:
            version = _lock(transaction, profile_id, seen)
            if version is None:
                return False
            check(version)
            sql = SQL["undeploy"]
            return transaction.row(sql, id=profile_id, deployment_id=deployment_id, within_cells=cells) is not None


def _lock(transaction: Transaction, profile_id: DataspaceProfileId, bounds: Bounds) -> int | None:
    """The version of a profile, which nobody else can change until the transaction ends."""
    within, bound = _within(bounds)
    version: int | None = transaction.value(SQL["lock"].replace("<<within>>", within), id=profile_id, **bound)
    return version


def _within(bounds: Bounds) -> Condition:
    """The condition that a dataspace profile ``t`` belongs to ``bounds``: it is deployed, and to nothing but these cells."""
    return EVERYTHING if bounds.unlimited else (SQL["deployed_within"], {"within_cells": bounds.cells()})


def _params(profile: DataspaceProfile) -> dict[str, Any]:
    return {
        "id": profile.id,
        "spec": json_of(shown_spec(profile)),
        "artifacts": json.dumps(profile.artifacts, ensure_ascii=False),
        "properties": json.dumps(profile.properties),
    }
