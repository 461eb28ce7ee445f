"""A role, and the rights that users have through it or of their own.

Source: CFM system architecture, "RBAC: Users, Roles, and Rights".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, NewType

RoleId = NewType("RoleId", str)


class Action(StrEnum):
    """What a right allows."""

    READ = "read"
    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    DEPLOY = "deploy"
    DISPOSE = "dispose"
    ANY = "*"


class Resource(StrEnum):
    """The kind of what a right allows something with."""

    TENANT = "tenant"
    PARTICIPANT_PROFILE = "participantProfile"
    VPA = "vpa"
    CELL = "cell"
    DATASPACE_PROFILE = "dataspaceProfile"
    USER = "user"
    ROLE = "role"
    ACTIVITY_DEFINITION = "activityDefinition"
    ORCHESTRATION_DEFINITION = "orchestrationDefinition"
    ORCHESTRATION = "orchestration"
    ANY = "*"


@dataclass(frozen=True, slots=True)
class Right:
    """An action on all resources of a kind, or on those that belong to everything whose id is given.

    Nobody looks whether that is there: a right may be given before what it is bounded to, and may outlive it.
    """

    action: Action
    resource: Resource
    tenant_id: str = ""
    participant_profile_id: str = ""
    vpa_id: str = ""
    cell_id: str = ""


_WITHIN_A_TENANT = {Resource.TENANT, Resource.PARTICIPANT_PROFILE, Resource.VPA, Resource.ORCHESTRATION}
_WITHIN_A_PROFILE = {Resource.PARTICIPANT_PROFILE, Resource.VPA, Resource.ORCHESTRATION}
_WITHIN_A_CELL = {Resource.CELL, Resource.DATASPACE_PROFILE, Resource.PARTICIPANT_PROFILE, Resource.VPA}


def pointless_bounds(right: Right) -> tuple[str, ...]:
    """The bounds, by their names in JSON, to which nothing of the right's kind belongs: it would allow nothing."""
    bounds = (
        ("tenantId", right.tenant_id, _WITHIN_A_TENANT),
        ("participantProfileId", right.participant_profile_id, _WITHIN_A_PROFILE),
        ("vpaId", right.vpa_id, {Resource.VPA}),
        ("cellId", right.cell_id, _WITHIN_A_CELL),
    )
    return tuple(name for name, key, kinds in bounds if key and right.resource not in {*kinds, Resource.ANY})


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
