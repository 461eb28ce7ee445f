"""Predicates about one document of any keys: a path's first step is a key of it like all others, read exactly.

The database evaluates such a condition with ``query.holds`` (migration 0005).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cfm_core.query.fields import Fields, Json
from cfm_core.query.instants import instant_of
from cfm_core.query.memory import to_test
from cfm_core.query.tree import (
    And,
    Contains,
    Everything,
    Like,
    NoneOf,
    Not,
    NotLike,
    OneOf,
    Or,
    Ordered,
    Path,
    Predicate,
    Present,
)

_DOCUMENT = Fields({"document": Json("")})


def to_condition(predicate: Predicate) -> list[Any]:
    """The predicate as ``query.holds`` takes it: JSON."""
    match predicate:
        case Everything():
            return ["true"]
        case Not():
            return ["not", to_condition(predicate.term)]
        case And():
            return ["and", *map(to_condition, predicate.terms)]
        case Or():
            return ["or", *map(to_condition, predicate.terms)]
    path = "$" + "".join(f".{json.dumps(key)}" for key in (predicate.path.root, *predicate.path.keys))
    match predicate:
        case OneOf():
            return ["in", path, list(predicate.values)]
        case NoneOf():
            return ["not in", path, list(predicate.values)]
        case Ordered():
            instant = instant_of(predicate.value) if isinstance(predicate.value, str) else None
            if instant is None:
                return [predicate.order, path, predicate.value]
            return [f"instant {predicate.order}", path, instant.isoformat()]
        case Like():
            return ["like", path, predicate.pattern.sql]
        case NotLike():
            return ["not like", path, predicate.pattern.sql]
        case Contains():
            return ["contains", path, predicate.value]
        case Present():
            return ["present", path]


def holds(predicate: Predicate, document: Mapping[str, Any]) -> bool:
    """Whether a condition holds, as the database would say."""
    return to_test(_below(predicate), _DOCUMENT)({"document": document})


def _below(predicate: Predicate) -> Predicate:
    """The same about what holds the document."""
    match predicate:
        case Everything():
            return predicate
        case Not():
            return Not(_below(predicate.term))
        case And():
            return And(tuple(map(_below, predicate.terms)))
        case Or():
            return Or(tuple(map(_below, predicate.terms)))
        case _:
            return replace(predicate, path=Path("document", (predicate.path.root, *predicate.path.keys)))
