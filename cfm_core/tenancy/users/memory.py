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
from cfm_core.tenancy.users.service import Approve
from cfm_core.tenancy.users.store import FIELDS
from cfm_core.tenancy.users.v1alpha1 import shown
from cfm_core.versions import Expected


class MemoryUsers:
    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric

    def insert(self, user: User, approve: Approve | None = None) -> JsonEntity | None:
        with self._fabric.lock:
            self._check(None, user, approve)
            return self._keep(user) if user.id not in self._fabric.users else None

    def find(self, user_id: UserId) -> JsonEntity | None:
        with self._fabric.lock:
            user = self._fabric.users.get(user_id)
            return _entity(user) if user else None

    def select(self, predicate: Predicate, page: Page) -> JsonPage:
        with self._fabric.lock:
            users = dict(self._fabric.users)
        return page_of(users, predicate, FIELDS, page, _stored, shown)

    def change(
        self, user_id: UserId, change: Callable[[User], User], approve: Approve | None = None
    ) -> JsonEntity | None:
        with self._fabric.lock:
            before = self._fabric.users.get(user_id)
            if before is None:
                return None
            after = change(before)
            if after is before:
                return _entity(before)
            self._check(before, after, approve)
            kept = self._keep(replace(after, version=before.version + 1))
            if (before.issuer, before.subject) != (after.issuer, after.subject):
                self._fabric.former_users.add((before.issuer, before.subject))
            return kept

    def delete(self, user_id: UserId, expected: Expected) -> bool:
        with self._fabric.lock:
            user = self._fabric.users.get(user_id)
            if user is None or not expected.allows(user.version):
                return False
            del self._fabric.users[user_id]
            self._fabric.former_users.add((user.issuer, user.subject))
            self._fabric.access_version += 1
            return True

    def _check(self, before: User | None, after: User, approve: Approve | None) -> None:
        check_roles(after, self._fabric.roles)
        if approve is not None:
            approve(before, after, {role_id: self._fabric.roles[role_id].rights for role_id in after.role_ids})

    def _keep(self, user: User) -> JsonEntity:
        for one in self._fabric.users.values():
            is_same = user.subject == one.subject and (user.issuer == one.issuer or "" in (user.issuer, one.issuer))
            if is_same and user.id != one.id:
                raise violated("users_subject_key")
        self._fabric.users[user.id] = user
        self._fabric.access_version += 1
        return _entity(user)


def _entity(user: User) -> JsonEntity:
    return JsonEntity(user.version, json_of(shown(user)))


def _stored(user: User) -> dict[str, Any]:
    return {**shown(user), "issuer": user.issuer, "name": user.name, "properties": user.properties}
