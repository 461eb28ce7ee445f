"""Users as API version v1alpha1 reads and shows them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from cfm_core.contracts.documents import Document
from cfm_core.tenancy.roles.v1alpha1 import RightDocument, Rights, shown_right
from cfm_core.tenancy.texts import GivenText
from cfm_core.tenancy.users.model import MOST_ROLES, User

RoleIds = Annotated[list[str], Field(max_length=MOST_ROLES)]


class UserDocument(Document):
    """A user as it is shown, roles by id; ``issuer``, ``name`` and ``properties`` are left out where they are empty."""

    id: str
    version: int
    subject: str
    issuer: str = ""
    name: str = ""
    role_ids: list[str]
    rights: list[RightDocument]
    properties: dict[str, Any] = Field(default_factory=dict)


class NewUser(Document):
    """``subject`` is what tokens of ``issuer`` call the user, or those of any trusted issuer where that is empty."""

    subject: GivenText
    issuer: str = ""
    name: str = ""
    role_ids: RoleIds = Field(default_factory=list)
    rights: Rights = Field(default_factory=list)
    properties: dict[str, Any] = Field(default_factory=dict)


class UserDiff(Document):
    """What is absent stays; ``roleIds`` and ``rights`` are given as a whole; ``removed`` wins over ``properties``."""

    subject: GivenText | None = None
    issuer: str | None = None
    name: str | None = None
    role_ids: RoleIds | None = None
    rights: Rights | None = None
    properties: dict[str, Any] = Field(default_factory=dict)
    removed: list[str] = Field(default_factory=list)


def shown(user: User) -> dict[str, Any]:
    """``user`` as the API shows it; the database's ``user_json`` gives the same."""
    document: dict[str, Any] = {"id": user.id, "version": user.version, "subject": user.subject}
    if user.issuer:
        document["issuer"] = user.issuer
    if user.name:
        document["name"] = user.name
    document["roleIds"] = sorted(user.role_ids)
    document["rights"] = [shown_right(right) for right in user.rights]
    if user.properties:
        document["properties"] = dict(user.properties)
    return document
