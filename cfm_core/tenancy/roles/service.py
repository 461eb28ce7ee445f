"""What can be done with roles."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Protocol

from cfm_core.access.model import EVERYTHING, Access, Action, Resource, without_names
from cfm_core.entities import JsonEntity
from cfm_core.errors import ConflictError, NotFoundError, RecoverableError
from cfm_core.query import JsonPage, Page, Predicate, parse
from cfm_core.tenancy.ids import check_chosen_id, check_key, is_id
from cfm_core.tenancy.putting import created_or_replaced
from cfm_core.tenancy.roles.model import Role, RoleId, changed, gained
from cfm_core.tenancy.roles.v1alpha1 import NewRole, RoleDiff, rights_of
from cfm_core.versions import ANY, Expected


class RoleStore(Protocol):
    """Keeps roles, and gives them as the API shows them."""

    def insert(self, role: Role) -> JsonEntity | None:
        """Keep a new role; None where its id is taken.

        Raises:
            ConflictError: another role has the same name.
        """
        ...

    def find(self, role_id: RoleId) -> JsonEntity | None: ...

    def select(self, predicate: Predicate, page: Page) -> JsonPage:
        """Raises ValidationError: roles have no field that the predicate names."""
        ...

    def change(self, role_id: RoleId, change: Callable[[Role], Role]) -> JsonEntity | None:
        """Replace a role by what ``change`` makes of it, which is asked while nobody else can change it.

        A role that ``change`` gives back as it is, is not written.

        Raises:
            ConflictError: another role has the same name.
        """
        ...

    def delete(self, role_id: RoleId, expected: Expected) -> bool:
        """Whether there was such a role in an expected version.

        Raises:
            ConflictError: users have it; its context says which.
        """
        ...


class Roles:
    """The use cases of roles, for somebody who has ``access``. An id that is none is unknown like any other: NotFoundError.

    Nobody gives more than they have: neither a right, nor to a role that has it the name by which tokens call another one.

    Args:
        on_change: called after each change.
    """

    def __init__(
        self, store: RoleStore, on_change: Callable[[], None] = lambda: None, access: Access = EVERYTHING
    ) -> None:
        self._store = store
        self._on_change = on_change
        self._access = access

    def within(self, access: Access) -> Roles:
        """See ``Bounded``."""
        return Roles(self._store, self._on_change, access)

    def create(self, new: NewRole) -> tuple[RoleId, JsonEntity]:
        """Create a role.

        Raises:
            ConflictError: another role has the same name.
            ForbiddenError: it would have more rights than whoever creates it.
        """
        self._access.require_all(Action.CREATE, Resource.ROLE)
        role_id = RoleId(str(uuid.uuid4()))
        wanted = _role(role_id, new)
        self._check_granted(None, wanted)
        role = self._store.insert(wanted)
        assert role is not None, "a random id is taken"
        self._on_change()
        return role_id, role

    def put(self, role_id: str, new: NewRole, expected: Expected = ANY) -> tuple[bool, JsonEntity]:
        """Create the role, or replace it; tells whether it is new.

        Raises:
            ValidationError: the id is not a UUID in lower case.
            ConflictError: another role has the same name.
            ForbiddenError: somebody would come to have more rights than whoever asks.
            PreconditionFailedError: it is not in an expected version.
        """
        self._access.require_all(Action.UPDATE, Resource.ROLE)
        check_chosen_id(role_id)
        wanted = _role(RoleId(role_id), new)

        def replaced(role: Role) -> Role:
            expected.check(f"role {role_id}", role.version)
            self._check_granted(role, wanted)
            return wanted

        def created() -> JsonEntity | None:
            self._access.require_all(Action.CREATE, Resource.ROLE)
            self._check_granted(None, wanted)
            return self._store.insert(wanted)

        put = created_or_replaced(f"role {role_id}", expected, lambda: self._store.change(wanted.id, replaced), created)
        self._on_change()
        return put

    def get(self, role_id: str) -> JsonEntity:
        self._access.require_all(Action.READ, Resource.ROLE)
        return self._get(role_id)

    def _get(self, role_id: str) -> JsonEntity:
        found = self._store.find(RoleId(role_id)) if is_id(role_id) else None
        if found is None:
            raise NotFoundError("role", role_id)
        return found

    def select(self, predicate: str, page: Page) -> JsonPage:
        """Those that ``predicate`` holds for, by id.

        Raises:
            ValidationError: the predicate or the page cannot be read.
        """
        self._access.require_all(Action.READ, Resource.ROLE)
        check_key(page)
        return self._store.select(parse(predicate), page)

    def change(self, role_id: str, diff: RoleDiff, expected: Expected = ANY) -> JsonEntity:
        """Change what ``diff`` names; a diff that names nothing changes nothing.

        Raises:
            ConflictError: another role has the same name.
            ForbiddenError: somebody would come to have more rights than whoever asks.
            PreconditionFailedError: it is not in an expected version.
        """
        self._access.require_all(Action.UPDATE, Resource.ROLE)
        rights = None if diff.rights is None else rights_of(diff.rights)

        def after(role: Role) -> Role:
            expected.check(f"role {role_id}", role.version)
            if not diff.model_fields_set:
                return role
            wanted = changed(role, diff.name, diff.description, rights, diff.properties, diff.removed)
            self._check_granted(role, wanted)
            return wanted

        found = self._store.change(RoleId(role_id), after) if is_id(role_id) else None
        if found is None:
            raise NotFoundError("role", role_id)
        self._on_change()
        return found

    def delete(self, role_id: str, expected: Expected = ANY) -> None:
        """Delete a role.

        Raises:
            ConflictError: users have it.
            PreconditionFailedError: it is not in an expected version.
        """
        self._access.require_all(Action.DELETE, Resource.ROLE)
        try:
            deleted = is_id(role_id) and self._store.delete(RoleId(role_id), expected)
        except ConflictError as error:
            raise without_names(error, self._access, Resource.USER) from None
        if not deleted:
            expected.check(f"role {role_id}", self._get(role_id).version)
            raise RecoverableError(f"role {role_id} is changing just now")
        self._on_change()

    def _check_granted(self, before: Role | None, after: Role) -> None:
        if not self._access.everything:
            self._access.check_granted(gained(before, after))


def _role(role_id: RoleId, new: NewRole) -> Role:
    return Role(role_id, new.name, new.description, rights_of(new.rights), new.properties)
