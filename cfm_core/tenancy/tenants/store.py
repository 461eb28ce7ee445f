"""Tenants in Postgres."""

from __future__ import annotations

import json

from cfm_core.query import Column, Fields, Json, Kind, Page, Predicate, to_sql
from cfm_core.store.database import Database
from cfm_core.store.sql import Queries
from cfm_core.tenancy.answers import JsonPage, JsonText
from cfm_core.tenancy.tenants.model import Tenant, TenantId
from cfm_core.tenancy.tenants.v1alpha1 import TenantPropertiesDiff

SQL = Queries("cfm_core.tenancy.tenants")

FIELDS = Fields(
    {
        "id": Column("t.id", Kind.UUID),
        "version": Column("t.version", Kind.INTEGER),
        "properties": Json("t.properties"),
    }
)


class PostgresTenants:
    def __init__(self, database: Database) -> None:
        self._database = database

    def insert(self, tenant: Tenant) -> JsonText:
        text: str = self._database.value(SQL["insert"], id=tenant.id, properties=json.dumps(tenant.properties))
        return text

    def find(self, tenant_id: TenantId) -> JsonText | None:
        text: str | None = self._database.value(SQL["find"], id=tenant_id)
        return text

    def select(self, predicate: Predicate, page: Page) -> JsonPage:
        condition, params = to_sql(predicate, FIELDS)
        sql = SQL["select"].replace("<<condition>>", condition)
        ((total, text),) = self._database.rows(sql, page_limit=page.limit, page_offset=page.offset, **params)
        return JsonPage(text, total)

    def change(self, tenant_id: TenantId, diff: TenantPropertiesDiff) -> JsonText | None:
        text: str | None = self._database.value(
            SQL["change"], id=tenant_id, properties=json.dumps(diff.properties), removed=json.dumps(diff.removed)
        )
        return text

    def delete(self, tenant_id: TenantId) -> bool:
        return self._database.row(SQL["delete"], id=tenant_id) is not None
