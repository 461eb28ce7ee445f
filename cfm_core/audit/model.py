"""What the audit trail tells, and of what."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from cfm_core.access.model import UNBOUNDED, Bound
from cfm_core.errors import FieldError, ValidationError
from cfm_core.query.page import Page


class Manager(StrEnum):
    """Whose entities they are."""

    TENANT_MANAGER = "tenant-manager"
    PROVISION_MANAGER = "provision-manager"


EVERYBODY = frozenset(Manager)


class Kind(StrEnum):
    """The kind of what something was done to, as in the path of the API."""

    TENANTS = "tenants"
    CELLS = "cells"
    DATASPACE_PROFILES = "dataspace-profiles"
    PARTICIPANT_PROFILES = "participant-profiles"
    ROLES = "roles"
    USERS = "users"
    QUERY_INDEXES = "query-indexes"
    ACTIVITY_DEFINITIONS = "activity-definitions"
    ORCHESTRATION_DEFINITIONS = "orchestration-definitions"
    ORCHESTRATIONS = "orchestrations"
    ACTIVITY_TYPES = "activity-types"
    SCHEDULES = "schedules"
    DEAD_LETTERS = "dead-letters"
    ACTORS = "actors"
    """Those who did something: only to be forgotten."""

    @property
    def manager(self) -> Manager:
        return Manager.TENANT_MANAGER if self in _OF_TENANT_MANAGER else Manager.PROVISION_MANAGER


_OF_TENANT_MANAGER = {
    *(Kind.TENANTS, Kind.CELLS, Kind.DATASPACE_PROFILES, Kind.PARTICIPANT_PROFILES),
    *(Kind.ROLES, Kind.USERS, Kind.QUERY_INDEXES),
}


@dataclass(frozen=True, slots=True)
class Subject:
    """What something was done to: an entity, or a part of it, such as an activity of an orchestration."""

    kind: Kind
    entity_id: str
    part: str = ""
    belongs_to: Bound = UNBOUNDED
    """The tenant and the participant profile that it belongs to, those of them that there are."""


def subject_of(text: str) -> Subject:
    """The entity that ``text`` names, ``kind/id``.

    Raises:
        ValidationError: there is no such kind, or no id.
    """
    kind, _, entity_id = text.partition("/")
    if kind not in set(Kind) - {Kind.ACTORS} or not entity_id:
        known = ", ".join(one for one in Kind if one is not Kind.ACTORS)
        raise ValidationError(
            f"Invalid subject: {text!r} is not an id behind one of {known} and a /",
            [FieldError("/subject", "must be a kind and an id, with a / between them")],
        )
    return Subject(Kind(kind), entity_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One change. ``before`` and ``after`` are states or versions; the documents are the entity as the API shows it.

    ``actor_erased_by`` and ``content_erased_by`` are the ids of the entries that tell why actor, issuer and address are
    missing, or reason and documents.
    """

    id: int
    at: datetime
    action: str
    subject: Subject
    before: str
    after: str
    request_id: str
    actor: str | None
    issuer: str | None
    address: str | None
    reason: str | None
    document_before: Mapping[str, Any] | None = None
    document_after: Mapping[str, Any] | None = None
    actor_erased_by: int | None = None
    content_erased_by: int | None = None


def check_place(page: Page) -> None:
    """Raises ValidationError for a page behind something that is not the id of an entry."""
    if page.after and not re.fullmatch("[0-9]{1,18}", page.after):
        raise ValidationError("Invalid after: not the id of an entry", [FieldError("/after", "must be a number")])
