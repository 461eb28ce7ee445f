"""A declared index, and which paths can have one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import NewType

from cfm_core.errors import ConflictError, FieldError, RefusedError
from cfm_core.query import DeclaredPath, IndexKind, Path

QueryIndexId = NewType("QueryIndexId", str)

MOST = 16
"""Indexes that may be declared; each makes every write a little dearer."""
ROOT = "properties"

_INTEGER = re.compile(r"[ \t\n\v\f\r]*[+-]?[0-9]+")
"""What Postgres takes for a place in an array."""


class IndexedEntity(StrEnum):
    """What can have declared indexes: the entities of which there may be many."""

    TENANTS = "tenants"
    PARTICIPANT_PROFILES = "participant-profiles"


class IndexState(StrEnum):
    """How far an index is; queries use one that is ready."""

    BUILDING = "building"
    READY = "ready"
    FAILED = "failed"
    DROPPING = "dropping"


@dataclass(frozen=True, slots=True)
class QueryIndex:
    id: QueryIndexId
    entity: IndexedEntity
    keys: tuple[str, ...]
    kind: IndexKind
    state: IndexState = IndexState.BUILDING
    reason: str = ""
    version: int = 0

    @property
    def path(self) -> str:
        return str(Path(ROOT, self.keys))

    @property
    def declared(self) -> DeclaredPath:
        return DeclaredPath(ROOT, self.keys, self.kind)


def indexable_keys(path: Path) -> tuple[str, ...]:
    """The keys of a path that can have an index.

    Raises:
        RefusedError: the path does not lead below the properties, or a key reads as an integer.
    """
    problem = ""
    if path.root.lower() != ROOT or not path.keys:
        problem = f"an index is of a path below {ROOT}, such as {ROOT}.size; other fields have theirs"
    elif (integer := next(filter(_INTEGER.fullmatch, path.keys), None)) is not None:
        problem = f"the key {integer!r} reads as an integer, and might be a place in an array"
    if problem:
        raise RefusedError(problem, [FieldError("/path", problem)])
    return path.keys


def too_many() -> ConflictError:
    return ConflictError(f"there are {MOST} indexes already; drop one that is not needed any more")
