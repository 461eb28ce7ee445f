"""What can be done with users."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Protocol

from cfm_core.entities import JsonEntity
from cfm_core.errors import NotFoundError, RecoverableError
from cfm_core.query import JsonPage, Page, Predicate, parse
from cfm_core.tenancy.ids import check_chosen_id, check_key, is_id
from cfm_core.tenancy.putting import created_or_replaced
from cfm_core.tenancy.roles.model import RoleId
from cfm_core.tenancy.roles.v1alpha1 import rights_of
from cfm_core.tenancy.users.model import UnknownRoleError, User, UserId, changed, with_role, without_role
from cfm_core.tenancy.users.v1alpha1 import NewUser, UserDiff
from cfm_core.versions import ANY, Expected


class UserStore(Protocol):
    """Keeps users with their roles, and gives them as the API shows them."""

    def insert(self, user: User) -> JsonEntity | None:
        """Keep a new user; None where its id is taken.

        Raises:
            ConflictError: another user has the same subject.
            UnknownRoleError: one of its roles is not there.
        """
        ...

    def find(self, user_id: UserId) -> JsonEntity | None: ...

    def select(self, predicate: Predicate, page: Page) -> JsonPage:
        """Raises ValidationError: users have no field that the predicate names."""
        ...

    def change(self, user_id: UserId, change: Callable[[User], User]) -> JsonEntity | None:
        """Replace a user by what ``change`` makes of it, which is asked while nobody else can change it.

        A user that ``change`` gives back as it is, is not written.

        Raises:
            ConflictError: another user has the same subject.
            UnknownRoleError: one of its roles is not there.
        """
        ...

    def delete(self, user_id: UserId, expected: Expected) -> bool:
        """Whether there was such a user in an expected version."""
        ...


class Users:
    """The use cases of users. An id that is none is unknown like any other: NotFoundError."""

    def __init__(self, store: UserStore) -> None:
        self._store = store

    def create(self, new: NewUser) -> tuple[UserId, JsonEntity]:
        """Create a user.

        Raises:
            ConflictError: another user has the same subject.
            UnknownRoleError: one of its roles is not there.
        """
        user_id = UserId(str(uuid.uuid4()))
        user = self._store.insert(_user(user_id, new))
        assert user is not None, "a random id is taken"
        return user_id, user

    def put(self, user_id: str, new: NewUser, expected: Expected = ANY) -> tuple[bool, JsonEntity]:
        """Create the user, or replace it; tells whether it is new.

        Raises:
            ValidationError: the id is not a UUID in lower case.
            ConflictError: another user has the same subject.
            UnknownRoleError: one of its roles is not there.
            PreconditionFailedError: it is not in an expected version.
        """
        check_chosen_id(user_id)
        wanted = _user(UserId(user_id), new)

        def replaced(user: User) -> User:
            expected.check(f"user {user_id}", user.version)
            return wanted

        return created_or_replaced(
            f"user {user_id}",
            expected,
            lambda: self._store.change(wanted.id, replaced),
            lambda: self._store.insert(wanted),
        )

    def get(self, user_id: str) -> JsonEntity:
        found = self._store.find(UserId(user_id)) if is_id(user_id) else None
        if found is None:
            raise NotFoundError("user", user_id)
        return found

    def select(self, predicate: str, page: Page) -> JsonPage:
        """Those that ``predicate`` holds for, by id.

        Raises:
            ValidationError: the predicate or the page cannot be read.
        """
        check_key(page)
        return self._store.select(parse(predicate), page)

    def change(self, user_id: str, diff: UserDiff, expected: Expected = ANY) -> JsonEntity:
        """Change what ``diff`` names; a diff that names nothing changes nothing.

        Raises:
            ConflictError: another user has the same subject.
            UnknownRoleError: one of its roles is not there.
            PreconditionFailedError: it is not in an expected version.
        """
        rights = None if diff.rights is None else rights_of(diff.rights)

        def after(user: User) -> User:
            if not diff.model_fields_set:
                return user
            return changed(user, diff.subject, diff.name, diff.role_ids, rights, diff.properties, diff.removed)

        return self._change(user_id, after, expected)

    def assign(self, user_id: str, role_id: str, expected: Expected = ANY) -> JsonEntity:
        """Give the user the role; where it has it already, nothing changes.

        Raises:
            NotFoundError: there is no such user, or no such role.
            RefusedError: the user has as many roles as a user can have.
            PreconditionFailedError: the user is not in an expected version.
        """
        try:
            return self._change(user_id, lambda user: with_role(user, RoleId(role_id)), expected)
        except UnknownRoleError:
            raise NotFoundError("role", role_id) from None

    def withdraw(self, user_id: str, role_id: str, expected: Expected = ANY) -> JsonEntity:
        """Take the role from the user; where it does not have it, nothing changes.

        Raises:
            PreconditionFailedError: the user is not in an expected version.
        """
        return self._change(user_id, lambda user: without_role(user, RoleId(role_id)), expected)

    def delete(self, user_id: str, expected: Expected = ANY) -> None:
        """Delete a user, who loses all roles.

        Raises:
            PreconditionFailedError: it is not in an expected version.
        """
        if not is_id(user_id) or not self._store.delete(UserId(user_id), expected):
            expected.check(f"user {user_id}", self.get(user_id).version)
            raise RecoverableError(f"user {user_id} is changing just now")

    def _change(self, user_id: str, change: Callable[[User], User], expected: Expected) -> JsonEntity:
        def checked(user: User) -> User:
            expected.check(f"user {user_id}", user.version)
            return change(user)

        found = self._store.change(UserId(user_id), checked) if is_id(user_id) else None
        if found is None:
            raise NotFoundError("user", user_id)
        return found


def _user(user_id: UserId, new: NewUser) -> User:
    roles = frozenset(map(RoleId, new.role_ids))
    return User(user_id, new.subject, new.name, roles, rights_of(new.rights), new.properties)
