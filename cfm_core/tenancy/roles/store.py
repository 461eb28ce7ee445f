"""Roles in Postgres."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from cfm_core.access.model import Right
from cfm_core.entities import JsonEntity
from cfm_core.query import Column, Fields, Json, JsonArray, JsonPage, Kind, Page, Predicate, to_sql
from cfm_core.store import paging
from cfm_core.store.database import Database
from cfm_core.store.paging import Listing
from cfm_core.store.sql import Queries
from cfm_core.tenancy.roles.model import Role, RoleId
from cfm_core.tenancy.roles.v1alpha1 import RightDocument, rights_of, shown_right
from cfm_core.versions import Expected

SQL = Queries("cfm_core.tenancy.roles")

FIELDS = Fields(
    {
        "id": Column("t.id", Kind.UUID),
        "version": Column("t.version", Kind.INTEGER),
        "name": Column("t.name"),
        "description": Column("t.description"),
        "rights": JsonArray("t.rights"),
        "properties": Json("t.properties"),
    }
)

LISTING = Listing(
    "tenant_manager.roles",
    "tenant_manager.role_json(t)",
    "octet_length((t).properties::text) + octet_length((t).rights::text)"
    " + octet_length((t).name) + octet_length((t).description)",
)


class PostgresRoles:
    def __init__(self, database: Database) -> None:
        self._database = database

    def insert(self, role: Role) -> JsonEntity | None:
        row = self._database.row(SQL["insert"], **_params(role))
        return JsonEntity(*row) if row else None

    def find(self, role_id: RoleId) -> JsonEntity | None:
        row = self._database.row(SQL["find"], id=role_id)
        return JsonEntity(*row) if row else None

    def select(self, predicate: Predicate, page: Page) -> JsonPage:
        condition, params = to_sql(predicate, FIELDS)
        return paging.select(self._database, LISTING, page, condition, params)

    def change(self, role_id: RoleId, change: Callable[[Role], Role]) -> JsonEntity | None:
        with self._database.transaction() as transaction:
            row = transaction.row(SQL["lock"], id=role_id)
            if row is None:
                return None
            name, description, rights, properties, version = row
            before = Role(role_id, name, description, stored_rights(rights), json.loads(properties), version)
            after = change(before)
            if after is before:
                ((version, text),) = transaction.rows(SQL["find"], id=role_id)
            else:
                ((version, text),) = transaction.rows(SQL["replace"], **_params(after))
        return JsonEntity(version, text)

    def delete(self, role_id: RoleId, expected: Expected) -> bool:
        return self._database.row(SQL["delete"], id=role_id, versions=expected.as_array) is not None


def stored_rights(text: str) -> tuple[Right, ...]:
    """The rights in a column."""
    return rights_of(RightDocument.model_validate(document) for document in json.loads(text))


def rights_text(rights: tuple[Right, ...]) -> str:
    """The rights for a column."""
    return json.dumps([shown_right(right) for right in rights])


def _params(role: Role) -> dict[str, Any]:
    return {
        "id": role.id,
        "name": role.name,
        "description": role.description,
        "rights": rights_text(role.rights),
        "properties": json.dumps(role.properties),
    }
