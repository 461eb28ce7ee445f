"""What can be done with users."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from cfm_core.access.model import EVERYTHING, Access, Action, Resource, Right
from cfm_core.entities import JsonEntity
from cfm_core.errors import NotFoundError, RecoverableError
from cfm_core.query import JsonPage, Page, Predicate, parse
from cfm_core.tenancy.ids import check_chosen_id, check_key, is_id
from cfm_core.tenancy.putting import created_or_replaced
from cfm_core.tenancy.roles.model import RoleId
from cfm_core.tenancy.roles.v1alpha1 import rights_of
from cfm_core.tenancy.users.model import UnknownRoleError, User, UserId, changed, gained, with_role, without_role
from cfm_core.tenancy.users.v1alpha1 import NewUser, UserDiff
from cfm_core.versions import ANY, Expected

Approve = Callable[[User | None, User, Mapping[RoleId, Sequence[Right]]], None]
"""Looks at a user before (None: there is none) and after a change, and at the rights of all roles; what it raises ends it."""


class UserStore(Protocol):
    """Keeps users with their roles, and gives them as the API shows them.

    ``approve`` is asked while nobody else can change the user.
    """

    def insert(self, user: User, approve: Approve | None = None) -> JsonEntity | None:
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

    def change(
        self, user_id: UserId, change: Callable[[User], User], approve: Approve | None = None
    ) -> JsonEntity | None:
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
    """The use cases of users, for somebody who has ``access``. An id that is none is unknown like any other: NotFoundError.

    Nobody gives more than they have: neither a right, nor a role with it, nor a user who has it to another subject.

    Args:
        on_change: called after each change.
    """

    def __init__(
        self, store: UserStore, on_change: Callable[[], None] = lambda: None, access: Access = EVERYTHING
    ) -> None:
        self._store = store
        self._on_change = on_change
        self._access = access
        self._approve = None if access.everything else self._check_granted

    def within(self, access: Access) -> Users:
        """See ``Bounded``."""
        return Users(self._store, self._on_change, access)

    def create(self, new: NewUser) -> tuple[UserId, JsonEntity]:
        """Create a user.

        Raises:
            ConflictError: another user has the same subject.
            UnknownRoleError: one of its roles is not there.
            ForbiddenError: it would have more rights than whoever creates it.
        """
        self._access.require_all(Action.CREATE, Resource.USER)
        self._check_sees_roles(new.role_ids)
        user_id = UserId(str(uuid.uuid4()))
        user = self._store.insert(_user(user_id, new), self._approve)
        assert user is not None, "a random id is taken"
        self._on_change()
        return user_id, user

    def put(self, user_id: str, new: NewUser, expected: Expected = ANY) -> tuple[bool, JsonEntity]:
        """Create the user, or replace it; tells whether it is new.

        Raises:
            ValidationError: the id is not a UUID in lower case.
            ConflictError: another user has the same subject.
            UnknownRoleError: one of its roles is not there.
            ForbiddenError: somebody would come to have more rights than whoever asks.
            PreconditionFailedError: it is not in an expected version.
        """
        self._access.require_all(Action.UPDATE, Resource.USER)
        self._check_sees_roles(new.role_ids)
        check_chosen_id(user_id)
        wanted = _user(UserId(user_id), new)

        def replaced(user: User) -> User:
            expected.check(f"user {user_id}", user.version)
            return wanted

        def created() -> JsonEntity | None:
            self._access.require_all(Action.CREATE, Resource.USER)
            return self._store.insert(wanted, self._approve)

        put = created_or_replaced(
            f"user {user_id}", expected, lambda: self._store.change(wanted.id, replaced, self._approve), created
        )
        self._on_change()
        return put

    def get(self, user_id: str) -> JsonEntity:
        self._access.require_all(Action.READ, Resource.USER)
        return self._get(user_id)

    def select(self, predicate: str, page: Page) -> JsonPage:
        """Those that ``predicate`` holds for, by id.

        Raises:
            ValidationError: the predicate or the page cannot be read.
        """
        self._access.require_all(Action.READ, Resource.USER)
        check_key(page)
        return self._store.select(parse(predicate), page)

    def change(self, user_id: str, diff: UserDiff, expected: Expected = ANY) -> JsonEntity:
        """Change what ``diff`` names; a diff that names nothing changes nothing.

        Raises:
            ConflictError: another user has the same subject.
            UnknownRoleError: one of its roles is not there.
            ForbiddenError: somebody would come to have more rights than whoever asks.
            PreconditionFailedError: it is not in an expected version.
        """
        self._check_sees_roles(diff.role_ids or ())
        rights = None if diff.rights is None else rights_of(diff.rights)

        def after(user: User) -> User:
            if not diff.model_fields_set:
                return user
            return changed(
                user, diff.subject, diff.issuer, diff.name, diff.role_ids, rights, diff.properties, diff.removed
            )

        return self._change(user_id, after, expected)

    def assign(self, user_id: str, role_id: str, expected: Expected = ANY) -> JsonEntity:
        """Give the user the role; where it has it already, nothing changes.

        Raises:
            NotFoundError: there is no such user, or no such role.
            RefusedError: the user has as many roles as a user can have.
            ForbiddenError: the role has more rights than whoever asks.
            PreconditionFailedError: the user is not in an expected version.
        """
        self._check_sees_roles([role_id])
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
        """Delete a user, who loses all roles; tokens with the subject allow nothing any more, whatever their scopes are.

        Raises:
            PreconditionFailedError: it is not in an expected version.
        """
        self._access.require_all(Action.DELETE, Resource.USER)
        if not is_id(user_id) or not self._store.delete(UserId(user_id), expected):
            expected.check(f"user {user_id}", self._get(user_id).version)
            raise RecoverableError(f"user {user_id} is changing just now")
        self._on_change()

    def _get(self, user_id: str) -> JsonEntity:
        found = self._store.find(UserId(user_id)) if is_id(user_id) else None
        if found is None:
            raise NotFoundError("user", user_id)
        return found

    def _change(self, user_id: str, change: Callable[[User], User], expected: Expected) -> JsonEntity:
        self._access.require_all(Action.UPDATE, Resource.USER)

        def checked(user: User) -> User:
            expected.check(f"user {user_id}", user.version)
            return change(user)

        found = self._store.change(UserId(user_id), checked, self._approve) if is_id(user_id) else None
        if found is None:
            raise NotFoundError("user", user_id)
        self._on_change()
        return found

    def _check_sees_roles(self, role_ids: Collection[str]) -> None:
        """Raises ForbiddenError: whoever gives roles has to see them, or would learn so which ids are those of roles."""
        if role_ids:
            self._access.require_all(Action.READ, Resource.ROLE)

    def _check_granted(self, before: User | None, after: User, rights_of: Mapping[RoleId, Sequence[Right]]) -> None:
        self._access.check_granted(gained(before, after, rights_of))


def _user(user_id: UserId, new: NewUser) -> User:
    roles = frozenset(map(RoleId, new.role_ids))
    return User(user_id, new.subject, new.name, roles, rights_of(new.rights), new.properties, new.issuer)
