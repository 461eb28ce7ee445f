"""Users in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from cfm_core.entities import JsonEntity, json_of
from cfm_core.query import JsonPage, Page, Predicate
from cfm_core.store.memory import page_of
from cfm_core.tenancy.memory import Fabric, violated
from cfm_core.tenancy.users.model import User, UserId, check_roles
from cfm_core.tenancy.users.store import FIELDS
from cfm_core.tenancy.users.v1alpha1 import shown
from cfm_core.versions import Expected


class MemoryUsers:
    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric

    def insert(self, user: User) -> JsonEntity | None:
        with self._fabric.lock:
            check_roles(user, self._fabric.roles)
            return self._keep(user) if user.id not in self._fabric.users else None

    def find(self, user_id: UserId) -> JsonEntity | None:
        with self._fabric.lock:
            user = self._fabric.users.get(user_id)
            return _entity(user) if user else None

    def select(self, predicate: Predicate, page: Page) -> JsonPage:
        with self._fabric.lock:
            users = dict(self._fabric.users)
        return page_of(users, predicate, FIELDS, page, _stored, shown)

    def change(self, user_id: UserId, change: Callable[[User], User]) -> JsonEntity | None:
        with self._fabric.lock:
            before = self._fabric.users.get(user_id)
            if before is None:
                return None
            after = change(before)
            if after is before:
                return _entity(before)
            check_roles(after, self._fabric.roles)
            return self._keep(replace(after, version=before.version + 1))

    def delete(self, user_id: UserId, expected: Expected) -> bool:
        with self._fabric.lock:
            user = self._fabric.users.get(user_id)
            if user is None or not expected.allows(user.version):
                return False
            del self._fabric.users[user_id]
            return True

    def _keep(self, user: User) -> JsonEntity:
        if any(user.subject == one.subject and user.id != one.id for one in self._fabric.users.values()):
            raise violated("users_subject_key")
        self._fabric.users[user.id] = user
        return _entity(user)


def _entity(user: User) -> JsonEntity:
    return JsonEntity(user.version, json_of(shown(user)))


def _stored(user: User) -> dict[str, Any]:
    return {**shown(user), "name": user.name, "properties": user.properties}
