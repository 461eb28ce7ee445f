"""Tenants in Postgres."""

from __future__ import annotations

import json
from collections.abc import Collection

from cfm_core.access.model import ALL, Bounds
from cfm_core.entities import JsonEntity
from cfm_core.query import Column, DeclaredPath, Fields, Json, JsonPage, Kind, Page, Predicate, to_sql
from cfm_core.store import paging
from cfm_core.store.conditions import EVERYTHING, Condition, both
from cfm_core.store.database import Database
from cfm_core.store.paging import Listing
from cfm_core.store.sql import Queries
from cfm_core.tenancy.query_indexes.model import IndexedEntity
from cfm_core.tenancy.query_indexes.ready import ReadyIndexes
from cfm_core.tenancy.tenants.model import Tenant, TenantId
from cfm_core.tenancy.tenants.v1alpha1 import TenantPropertiesDiff
from cfm_core.versions import Expected

SQL = Queries("cfm_core.tenancy.tenants")

FIELDS = Fields(
    {
        "id": Column("t.id", Kind.UUID),
        "version": Column("t.version", Kind.INTEGER),
        "properties": Json("t.properties"),
    }
)

LISTING = Listing("tenant_manager.tenants", "tenant_manager.tenant_json(t)", "(t).bytes")


class PostgresTenants:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._indexes = ReadyIndexes(database, IndexedEntity.TENANTS)

    def insert(self, tenant: Tenant) -> JsonEntity:
        ((version, text),) = self._database.rows(SQL["insert"], id=tenant.id, properties=json.dumps(tenant.properties))
        return JsonEntity(version, text)

    def find(self, tenant_id: TenantId, bounds: Bounds = ALL) -> JsonEntity | None:
        within, bound = _within(bounds)
        row = self._database.row(SQL["find"].replace("<<within>>", within), id=tenant_id, **bound)
        return JsonEntity(*row) if row else None

    def declared(self) -> Collection[DeclaredPath]:
        """The paths whose declared index is ready."""
        return self._indexes.paths()

    def select(self, predicate: Predicate, page: Page, bounds: Bounds = ALL) -> JsonPage:
        condition, params = to_sql(predicate, FIELDS, self.declared())
        return paging.select(self._database, LISTING, page, *both(_within(bounds), (condition, params)))

    def change(
        self, tenant_id: TenantId, diff: TenantPropertiesDiff, expected: Expected, bounds: Bounds = ALL
    ) -> JsonEntity | None:
        within, bound = _within(bounds)
        row = self._database.row(
            SQL["change"].replace("<<within>>", within),
            id=tenant_id,
            properties=json.dumps(diff.properties),
            removed=json.dumps(diff.removed),
            versions=expected.as_array,
            **bound,
        )
        return JsonEntity(*row) if row else None

    def delete(self, tenant_id: TenantId, expected: Expected, bounds: Bounds = ALL) -> bool:
        within, bound = _within(bounds)
        sql = SQL["delete"].replace("<<within>>", within)
        return self._database.row(sql, id=tenant_id, versions=expected.as_array, **bound) is not None


def _within(bounds: Bounds) -> Condition:
    """The condition that a tenant ``t`` belongs to ``bounds``."""
    if bounds.unlimited:
        return EVERYTHING
    return "t.id = ANY (:within_tenants::uuid[])", {"within_tenants": bounds.tenants()}
