"""Roles and rights as API version v1alpha1 reads and shows them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from cfm_core.access.model import Action, Resource, Right, pointless_bounds
from cfm_core.contracts.documents import Document
from cfm_core.tenancy.ids import is_id
from cfm_core.tenancy.roles.model import Role
from cfm_core.tenancy.texts import GivenText

MOST = 1000
"""The greatest number of rights in one list."""


def _id(text: str) -> str:
    if text and not is_id(text):
        raise ValueError("must be an id")
    return text


Bound = Annotated[str, AfterValidator(_id)]


class RightDocument(Document):
    """An action on a kind of resource, bounded to what belongs to all that is named; an absent bound is none."""

    action: Action
    resource: Resource
    tenant_id: Bound = ""
    participant_profile_id: Bound = ""
    vpa_id: Bound = ""
    cell_id: Bound = ""

    @model_validator(mode="after")
    def _check_bounds(self) -> RightDocument:
        if pointless := pointless_bounds(self.right):
            raise ValueError(f"{self.resource.value} cannot be bounded by {' and '.join(pointless)}")
        return self

    @property
    def right(self) -> Right:
        return Right(self.action, self.resource, self.tenant_id, self.participant_profile_id, self.vpa_id, self.cell_id)


def _without_repetitions(rights: list[RightDocument]) -> list[RightDocument]:
    return list({one.right: one for one in rights}.values())


Rights = Annotated[list[RightDocument], Field(max_length=MOST), AfterValidator(_without_repetitions)]


def rights_of(documents: Iterable[RightDocument]) -> tuple[Right, ...]:
    return tuple(document.right for document in documents)


class RoleDocument(Document):
    """A role as it is shown; ``description`` and ``properties`` are left out where they are empty."""

    id: str
    version: int
    name: str
    description: str = ""
    rights: list[RightDocument]
    properties: dict[str, Any] = Field(default_factory=dict)


class NewRole(Document):
    name: GivenText
    description: str = ""
    rights: Rights = Field(default_factory=list)
    properties: dict[str, Any] = Field(default_factory=dict)


class RoleDiff(Document):
    """What is absent stays; ``rights`` are given as a whole; ``removed`` wins over ``properties``."""

    name: GivenText | None = None
    description: str | None = None
    rights: Rights | None = None
    properties: dict[str, Any] = Field(default_factory=dict)
    removed: list[str] = Field(default_factory=list)


def shown_right(right: Right) -> dict[str, str]:
    document = {
        "action": right.action.value,
        "resource": right.resource.value,
        "tenantId": right.tenant_id,
        "participantProfileId": right.participant_profile_id,
        "vpaId": right.vpa_id,
        "cellId": right.cell_id,
    }
    return {name: value for name, value in document.items() if value}


def shown(role: Role) -> dict[str, Any]:
    """``role`` as the API shows it; the database's ``role_json`` gives the same."""
    document: dict[str, Any] = {"id": role.id, "version": role.version, "name": role.name}
    if role.description:
        document["description"] = role.description
    document["rights"] = [shown_right(right) for right in role.rights]
    if role.properties:
        document["properties"] = dict(role.properties)
    return document
