"""Paths that an operator has declared as indexed: what ranges and beginnings over them tell an index.

An index knows one value at a path (``query.number_at`` and its siblings in SQL). So a range becomes a condition of that value
which is never stricter than the range itself, and which holds wherever an array lies on the path; it stands beside the
exact condition and lets the planner begin with the index.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from cfm_core.query.instants import instant_of
from cfm_core.query.tree import Like, Order, Ordered, Path, Predicate

LONGEST_TEXT = 256
"""Characters of a text that an index knows."""


class IndexKind(StrEnum):
    """Which values at a path an index knows."""

    NUMBER = "number"
    TIME = "time"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class DeclaredPath:
    """``keys`` below the field ``root``, as declared."""

    root: str
    keys: tuple[str, ...]
    kind: IndexKind


@dataclass(frozen=True, slots=True)
class _Kind:
    """How SQL names the value at a path, and the mark that stands for several."""

    function: str
    type: str
    mark: str
    collation: str = ""


_KINDS: Mapping[IndexKind, _Kind] = {
    IndexKind.NUMBER: _Kind("query.number_at", "numeric", "'NaN'"),
    IndexKind.TIME: _Kind("query.time_at", "timestamptz", "'infinity'"),
    IndexKind.TEXT: _Kind("query.text_at", "text", "repeat('!', 257)", ' COLLATE "C"'),
}


def index_expression(kind: IndexKind, column: str, path: str) -> str:
    """The SQL of what an index of ``column`` holds; ``path`` is that of an array of keys."""
    found = _KINDS[kind]
    return f"{found.function}({column}, {path}){found.collation}"


Bound = tuple[str, Any]
"""An operator of SQL and a value."""


def bounds(term: Predicate) -> tuple[IndexKind, Path, list[Bound]] | None:
    """What has to be true of the one value at a path for ``term`` to hold; None where an index has nothing to say."""
    match term:
        case Ordered(path, order, str(value)):
            if (instant := instant_of(value)) is not None:
                return IndexKind.TIME, path, [(order, instant.isoformat())]
            # Of long texts an index knows the beginnings only.
            operator = "<=" if order in {Order.LESS, Order.AT_MOST} else ">="
            return IndexKind.TEXT, path, [(operator, value[:LONGEST_TEXT])]
        case Ordered(path, order, value):
            return IndexKind.NUMBER, path, [(order, str(value))]
        case Like(path, pattern) if prefix := pattern.prefix[:LONGEST_TEXT]:
            after = _after(prefix)
            return IndexKind.TEXT, path, [(">=", prefix), *([("<", after)] if after else [])]
    return None


def _after(prefix: str) -> str:
    """The first text behind all that begin with ``prefix``; empty where there is none."""
    kept = prefix.rstrip("\U0010ffff")
    if not kept:
        return ""
    following = ord(kept[-1]) + 1
    # Halves of surrogate pairs are no characters.
    return kept[:-1] + chr(0xE000 if following == 0xD800 else following)


def hints(
    terms: Iterable[Predicate],
    declared: Collection[DeclaredPath],
    column_of: Callable[[Path], tuple[str, str]],
    parameter: Callable[[Any, str], str],
) -> list[str]:
    """Conditions that follow from ``terms``, which all hold, and that indexes of the declared paths answer.

    Args:
        column_of: gives the declared name and the SQL of the field that a path begins with.
        parameter: makes the SQL of a value of a type.
    """
    if not declared:
        return []
    grouped: dict[DeclaredPath, tuple[str, list[Bound]]] = {}
    for term in terms:
        if (found := bounds(term)) is None:
            continue
        kind, path, limits = found
        root, column = column_of(path)
        place = DeclaredPath(root, path.keys, kind)
        if place in declared:
            grouped.setdefault(place, (column, []))[1].extend(limits)
    made = []
    for place, (column, limits) in grouped.items():
        held = _KINDS[place.kind]
        value = index_expression(place.kind, column, parameter(list(place.keys), "text[]"))
        within = " AND ".join(f"{value} {operator} {parameter(limit, held.type)}" for operator, limit in limits)
        made.append(f"({within} OR {value} = {held.mark})")
    return made
