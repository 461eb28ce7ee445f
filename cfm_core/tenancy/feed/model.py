"""Events, their order, and which of them a reader wants."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from cfm_core.access.model import Resource
from cfm_core.errors import FieldError, ValidationError
from cfm_core.tenancy.ids import is_id

_PLACE = re.compile(r"[0-7][0-9a-f]{15}[0-7][0-9a-f]{15}")


class Kind(StrEnum):
    """The kind of what something has happened to: the first part of an event's subject."""

    TENANTS = "tenants"
    PARTICIPANT_PROFILES = "participant-profiles"
    CELLS = "cells"
    DATASPACE_PROFILES = "dataspace-profiles"
    ROLES = "roles"
    USERS = "users"


RESOURCES: Mapping[Kind, Resource] = {
    Kind.TENANTS: Resource.TENANT,
    Kind.PARTICIPANT_PROFILES: Resource.PARTICIPANT_PROFILE,
    Kind.CELLS: Resource.CELL,
    Kind.DATASPACE_PROFILES: Resource.DATASPACE_PROFILE,
    Kind.ROLES: Resource.ROLE,
    Kind.USERS: Resource.USER,
}
"""What somebody needs a right to read, to be told what happens to a kind."""


class Happening(StrEnum):
    """What has happened: the last part of an event's type."""

    CREATED = "created"
    CHANGED = "changed"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where an event stands: by its transaction, then by the order in it."""

    transaction: int
    serial: int

    def __str__(self) -> str:
        """One length for all, so that texts are in the order of places."""
        return f"{self.transaction:016x}{self.serial:016x}"


START = Place(0, 0)
"""Before every event."""


def place_of(text: str) -> Place:
    """The place that ``text`` names; none at all is the start.

    Raises:
        ValidationError: it is no place.
    """
    if not text:
        return START
    if not _PLACE.fullmatch(text):
        raise no_such_place(text)
    return Place(int(text[:16], 16), int(text[16:], 16))


def no_such_place(text: str) -> ValidationError:
    return ValidationError(
        f"Invalid after: {text!r} is not the sequence of an event of this feed",
        [FieldError("/after", "must be the sequence of an event")],
    )


@dataclass(frozen=True, slots=True)
class Subject:
    """One entity, or with an empty id all of a kind."""

    kind: Kind
    entity_id: str = ""


def subject_of(text: str) -> Subject | None:
    """The subject that ``text`` names, ``kind`` or ``kind/id``; None where it names none.

    Raises:
        ValidationError: there is no such kind, or the id is none.
    """
    if not text:
        return None
    kind, _, entity_id = text.partition("/")
    if kind not in set(Kind):
        known = f"one of {', '.join(Kind)}, alone or with an id behind a /"
        raise ValidationError(f"Invalid subject: {text!r} is not {known}", [FieldError("/subject", f"must be {known}")])
    if entity_id and not is_id(entity_id):
        raise ValidationError(
            f"Invalid subject: {entity_id!r} is not an id", [FieldError("/subject", "must end with an id")]
        )
    return Subject(Kind(kind), entity_id)


@dataclass(frozen=True, slots=True)
class Event:
    """``data`` has ids, versions and states: nothing that callers have written freely, and nothing secret."""

    place: Place
    subject: Subject
    happening: Happening
    data: Mapping[str, Any]
    at: datetime
