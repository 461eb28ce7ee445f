"""Which fields of an entity a predicate may name, and where they are stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from cfm_core.query.parser import parse_error
from cfm_core.query.tree import Equals


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
    """A free-form object; paths lead into it. A key that holds an array is equal to each of the array's elements.

    ``sql`` is a jsonb column, best one with a GIN index of ``jsonb_path_ops``.
    """

    sql: str


@dataclass(frozen=True, slots=True)
class JsonArray:
    """An array whose elements are objects, into which paths lead, or values, which the bare field is compared with.

    The predicate holds where some element satisfies it. ``sql`` is a jsonb column, as for ``Json``.
    """

    sql: str


Field = Column | Json | JsonArray


class Fields:
    """The root fields of one kind of entity, under their names in JSON. A predicate may write them in any case."""

    def __init__(self, roots: Mapping[str, Field]) -> None:
        self._roots = {name.lower(): (name, field) for name, field in roots.items()}

    def find(self, term: Equals) -> tuple[str, Field]:
        """The field that ``term`` begins with, and its name as declared.

        Raises:
            ValidationError: there is no such field, or it has nothing below it, or needs a key below it.
        """
        root, *below = term.path
        found = self._roots.get(root.lower())
        if found is None:
            known = ", ".join(name for name, _ in self._roots.values())
            raise parse_error(term.position, f"there is no field {root!r}; there are {known}")
        name, field = found
        if isinstance(field, Column) and below:
            raise parse_error(term.position, f"the field {name!r} has no fields of its own")
        if isinstance(field, Json) and not below:
            raise parse_error(term.position, f"the field {name!r} is an object: name a key of it, as in {name}.key")
        return found
