"""Roles in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from cfm_core.entities import JsonEntity, json_of
from cfm_core.query import JsonPage, Page, Predicate
from cfm_core.store.constraints import in_use
from cfm_core.store.memory import page_of
from cfm_core.tenancy.memory import Fabric, violated
from cfm_core.tenancy.roles.model import Role, RoleId
from cfm_core.tenancy.roles.store import FIELDS
from cfm_core.tenancy.roles.v1alpha1 import shown
from cfm_core.versions import Expected

_SOME = 10


class MemoryRoles:
    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric

    def insert(self, role: Role) -> JsonEntity | None:
        with self._fabric.lock:
            if role.id in self._fabric.roles:
                return None
            return self._keep(role)

    def find(self, role_id: RoleId) -> JsonEntity | None:
        with self._fabric.lock:
            role = self._fabric.roles.get(role_id)
            return _entity(role) if role else None

    def select(self, predicate: Predicate, page: Page) -> JsonPage:
        with self._fabric.lock:
            roles = dict(self._fabric.roles)
        return page_of(roles, predicate, FIELDS, page, _stored, shown)

    def change(self, role_id: RoleId, change: Callable[[Role], Role]) -> JsonEntity | None:
        with self._fabric.lock:
            before = self._fabric.roles.get(role_id)
            if before is None:
                return None
            after = change(before)
            return _entity(before) if after is before else self._keep(replace(after, version=before.version + 1))

    def delete(self, role_id: RoleId, expected: Expected) -> bool:
        with self._fabric.lock:
            role = self._fabric.roles.get(role_id)
            if role is None or not expected.allows(role.version):
                return False
            users = sorted(user.id for user in self._fabric.users.values() if role_id in user.role_ids)
            if users:
                raise in_use(f"role {role_id}", [("user", user) for user in users[:_SOME]])
            del self._fabric.roles[role_id]
            self._fabric.access_version += 1
            return True

    def _keep(self, role: Role) -> JsonEntity:
        if any(role.name == one.name and role.id != one.id for one in self._fabric.roles.values()):
            raise violated("roles_name_key")
        self._fabric.roles[role.id] = role
        self._fabric.access_version += 1
        return _entity(role)


def _entity(role: Role) -> JsonEntity:
    return JsonEntity(role.version, json_of(shown(role)))


def _stored(role: Role) -> dict[str, Any]:
    return {**shown(role), "description": role.description, "properties": role.properties}
