"""Which fields of an entity a predicate may name, and where they are stored."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from cfm_core.query.parser import parse_error
from cfm_core.query.tree import Path


class Kind(Enum):
    """What a column holds; a value of another type is never equal to it."""

    TEXT = auto()
    UUID = auto()
    INTEGER = auto()
    BOOLEAN = auto()
    TIMESTAMP = auto()


@dataclass(frozen=True, slots=True)
class Column:
    """A field that holds one value. ``sql`` is a fixed expression, best one with an index."""

    sql: str
    kind: Kind = Kind.TEXT


@dataclass(frozen=True, slots=True)
class Json:
    """A free-form object; paths lead into it. ``sql`` is a jsonb column, best one with a GIN index of ``jsonb_path_ops``."""

    sql: str


@dataclass(frozen=True, slots=True)
class JsonArray:
    """An array whose elements are objects, into which paths lead, or values, which the bare field is compared with.

    ``sql`` is a jsonb column, as for ``Json``.
    """

    sql: str


Field = Column | Json | JsonArray


class Fields:
    """The root fields of one kind of entity, under their names in JSON. A predicate may write them in any case."""

    def __init__(self, roots: Mapping[str, Field]) -> None:
        self._roots = {name.lower(): (name, field) for name, field in roots.items()}

    def find(self, path: Path) -> tuple[str, Field]:
        """The field that ``path`` begins with, and its name as declared.

        Raises:
            ValidationError: there is no such field, or it has nothing below it, or needs a key below it.
        """
        found = self._roots.get(path.root.lower())
        if found is None:
            raise parse_error(path.position, self._unknown(path.root))
        name, field = found
        if isinstance(field, Column) and path.keys:
            raise parse_error(path.position, f"the field {name!r} has no fields of its own")
        if isinstance(field, Json) and not path.keys:
            raise parse_error(path.position, f"the field {name!r} is an object: name a key of it, as in {name}.key")
        return found

    def _unknown(self, written: str) -> str:
        known = ", ".join(name for name, _ in self._roots.values())
        near = difflib.get_close_matches(written.lower(), self._roots, n=1, cutoff=0.7)
        hint = f" (did you mean {self._roots[near[0]][0]}?)" if near else ""
        return f"there is no field {written!r}{hint}; there are {known}"
