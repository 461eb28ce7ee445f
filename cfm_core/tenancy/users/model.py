"""A user, its roles and its rights.

Source: CFM system architecture, "RBAC: Users, Roles, and Rights".
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NewType

from cfm_core.access.model import Right
from cfm_core.errors import FieldError, RefusedError
from cfm_core.tenancy.roles.model import RoleId

UserId = NewType("UserId", str)

MOST_ROLES = 1000
"""The greatest number of roles of a user."""


class UnknownRoleError(RefusedError):
    """A user was to have a role that is not there."""


@dataclass(frozen=True, slots=True)
class User:
    """``subject`` is what tokens of ``issuer``, or of any where that is empty, call the user, and nobody else.

    ``rights`` are those besides the roles'.
    """

    id: UserId
    subject: str
    name: str
    role_ids: frozenset[RoleId]
    rights: tuple[Right, ...]
    properties: Mapping[str, Any]
    issuer: str = ""
    version: int = 0


def changed(
    user: User,
    subject: str | None,
    issuer: str | None,
    name: str | None,
    role_ids: Iterable[str] | None,
    rights: Iterable[Right] | None,
    properties: Mapping[str, Any],
    removed: Iterable[str],
) -> User:
    """``user`` with all that is not None in place of its own, ``properties`` set, then without the keys ``removed``."""
    gone = frozenset(removed)
    return replace(
        user,
        subject=user.subject if subject is None else subject,
        issuer=user.issuer if issuer is None else issuer,
        name=user.name if name is None else name,
        role_ids=user.role_ids if role_ids is None else frozenset(map(RoleId, role_ids)),
        rights=user.rights if rights is None else tuple(rights),
        properties={key: value for key, value in {**user.properties, **properties}.items() if key not in gone},
    )


def with_role(user: User, role_id: RoleId) -> User:
    """``user`` with the role; the same one where it has it.

    Raises:
        RefusedError: it has as many roles as a user can have.
    """
    if role_id in user.role_ids:
        return user
    if len(user.role_ids) >= MOST_ROLES:
        raise RefusedError(f"user {user.id} has {MOST_ROLES} roles, and can have no more")
    return replace(user, role_ids=user.role_ids | {role_id})


def without_role(user: User, role_id: RoleId) -> User:
    """``user`` without the role; the same one where it does not have it."""
    return replace(user, role_ids=user.role_ids - {role_id}) if role_id in user.role_ids else user


def check_roles(user: User, known: Collection[str]) -> None:
    """Raises UnknownRoleError where ``user`` has roles that are not among those ``known``."""
    if missing := sorted(user.role_ids.difference(known)):
        problem = f"there is no role {', '.join(map(repr, missing))}"
        raise UnknownRoleError(problem, [FieldError("/roleIds", problem)])


def gained(before: User | None, after: User, rights_of: Mapping[RoleId, Iterable[Right]]) -> list[Right]:
    """The rights that somebody comes to have: those that are new, and all of them where another becomes this user.

    Args:
        rights_of: the rights of all roles that the user has after the change.
    """
    if before is None or (before.issuer, before.subject) != (after.issuer, after.subject):
        rights, roles = after.rights, after.role_ids
    else:
        rights = tuple(right for right in after.rights if right not in before.rights)
        roles = after.role_ids - before.role_ids
    return [*rights, *(right for role_id in sorted(roles) for right in rights_of[role_id])]
