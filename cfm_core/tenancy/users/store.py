"""Users in Postgres."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from cfm_core.entities import JsonEntity
from cfm_core.query import Column, Fields, Json, JsonArray, JsonPage, Kind, Page, Predicate, to_sql
from cfm_core.store import paging
from cfm_core.store.database import Database, Transaction
from cfm_core.store.paging import Listing
from cfm_core.store.sql import Queries
from cfm_core.tenancy.ids import is_id
from cfm_core.tenancy.roles.model import RoleId
from cfm_core.tenancy.roles.store import rights_text, stored_rights
from cfm_core.tenancy.users.model import User, UserId, check_roles
from cfm_core.tenancy.users.service import Approve
from cfm_core.versions import Expected

SQL = Queries("cfm_core.tenancy.users")

FIELDS = Fields(
    {
        "id": Column("t.id", Kind.UUID),
        "version": Column("t.version", Kind.INTEGER),
        "subject": Column("t.subject"),
        "issuer": Column("t.issuer"),
        "name": Column("t.name"),
        "roleIds": JsonArray("t.role_ids"),
        "rights": JsonArray("t.rights"),
        "properties": Json("t.properties"),
    }
)

LISTING = Listing(
    "tenant_manager.users",
    "tenant_manager.user_json(t)",
    "octet_length((t).properties::text) + octet_length((t).rights::text) + octet_length((t).role_ids::text)"
    " + octet_length((t).subject) + octet_length((t).issuer) + octet_length((t).name)",
)


class PostgresUsers:
    def __init__(self, database: Database) -> None:
        self._database = database

    def insert(self, user: User, approve: Approve | None = None) -> JsonEntity | None:
        with self._database.transaction() as transaction:
            _hold_roles(transaction, None, user, approve)
            row = transaction.row(SQL["insert"], **_params(user))
        return JsonEntity(*row) if row else None

    def find(self, user_id: UserId) -> JsonEntity | None:
        row = self._database.row(SQL["find"], id=user_id)
        return JsonEntity(*row) if row else None

    def select(self, predicate: Predicate, page: Page) -> JsonPage:
        condition, params = to_sql(predicate, FIELDS)
        return paging.select(self._database, LISTING, page, condition, params)

    def change(
        self, user_id: UserId, change: Callable[[User], User], approve: Approve | None = None
    ) -> JsonEntity | None:
        with self._database.transaction() as transaction:
            row = transaction.row(SQL["lock"], id=user_id)
            if row is None:
                return None
            subject, issuer, name, role_ids, rights, properties, version = row
            roles = frozenset(map(RoleId, json.loads(role_ids)))
            before = User(user_id, subject, name, roles, stored_rights(rights), json.loads(properties), issuer, version)
            after = change(before)
            if after is before:
                ((version, text),) = transaction.rows(SQL["find"], id=user_id)
            else:
                _hold_roles(transaction, before, after, approve)
                ((version, text),) = transaction.rows(SQL["replace"], **_params(after))
        return JsonEntity(version, text)

    def delete(self, user_id: UserId, expected: Expected) -> bool:
        return self._database.row(SQL["delete"], id=user_id, versions=expected.as_array) is not None


def _hold_roles(transaction: Transaction, before: User | None, after: User, approve: Approve | None) -> None:
    """Raises UnknownRoleError: one of the user's roles is not there."""
    rows = transaction.rows(SQL["hold_roles"], ids=[role_id for role_id in sorted(after.role_ids) if is_id(role_id)])
    check_roles(after, [role_id for role_id, _ in rows])
    if approve is not None:
        approve(before, after, {RoleId(role_id): stored_rights(rights) for role_id, rights in rows})


def _params(user: User) -> dict[str, Any]:
    return {
        "id": user.id,
        "subject": user.subject,
        "issuer": user.issuer,
        "name": user.name,
        "role_ids": json.dumps(sorted(user.role_ids)),
        "rights": rights_text(user.rights),
        "properties": json.dumps(user.properties),
    }
