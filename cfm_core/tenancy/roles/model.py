"""A role, and the rights that users have through it.

Source: CFM system architecture, "RBAC: Users, Roles, and Rights".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NewType

from cfm_core.access.model import Right

RoleId = NewType("RoleId", str)


@dataclass(frozen=True, slots=True)
class Role:
    """``name`` is unique."""

    id: RoleId
    name: str
    description: str
    rights: tuple[Right, ...]
    properties: Mapping[str, Any]
    version: int = 0


def changed(
    role: Role,
    name: str | None,
    description: str | None,
    rights: Iterable[Right] | None,
    properties: Mapping[str, Any],
    removed: Iterable[str],
) -> Role:
    """``role`` with all that is not None in place of its own, ``properties`` set, then without the keys ``removed``."""
    gone = frozenset(removed)
    return replace(
        role,
        name=role.name if name is None else name,
        description=role.description if description is None else description,
        rights=role.rights if rights is None else tuple(rights),
        properties={key: value for key, value in {**role.properties, **properties}.items() if key not in gone},
    )


def gained(before: Role | None, after: Role) -> list[Right]:
    """The rights that somebody comes to have: those that are new, and all of them where tokens come to name the role."""
    if before is None or before.name != after.name:
        return list(after.rights)
    return [right for right in after.rights if right not in before.rights]
