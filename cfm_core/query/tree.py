"""What a predicate means once it is read, whatever evaluates it.

A path leads to candidates: a step looks into each element of an array, and at the end an array stands for its elements.
A term holds where some candidate satisfies it. What is absent and what is null satisfy nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum

from cfm_core.query.patterns import Pattern

Scalar = str | int | float | bool

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Order(StrEnum):
    LESS = "<"
    AT_MOST = "<="
    MORE = ">"
    AT_LEAST = ">="


@dataclass(frozen=True, slots=True)
class Path:
    """The field ``root`` and the keys below it. ``position`` is where it begins in the text, counted from 1."""

    root: str
    keys: tuple[str, ...] = ()
    position: int = field(default=1, compare=False)

    def __str__(self) -> str:
        """As a predicate writes it; keys that are no names in back quotes."""
        return ".".join(
            [self.root, *(key if _NAME.fullmatch(key) else f"`{key.replace('`', '``')}`" for key in self.keys)]
        )


@dataclass(frozen=True, slots=True)
class Everything:
    """Holds for every entity."""


@dataclass(frozen=True, slots=True)
class OneOf:
    """A candidate equals one of ``values``, in type too; numbers are compared by value. Without values it never holds."""

    path: Path
    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class NoneOf:
    """A candidate that is not null equals none of ``values``; one of another type does not equal them either."""

    path: Path
    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Ordered:
    """A candidate stands in ``order`` to ``value``.

    Numbers to numbers; if ``value`` is an RFC 3339 timestamp, timestamps to it by time; else texts by code point.
    """

    path: Path
    order: Order
    value: str | int | float


@dataclass(frozen=True, slots=True)
class Like:
    """A candidate is a text that ``pattern`` matches."""

    path: Path
    pattern: Pattern


@dataclass(frozen=True, slots=True)
class NotLike:
    """A candidate is not null, and no text that ``pattern`` matches."""

    path: Path
    pattern: Pattern


@dataclass(frozen=True, slots=True)
class Contains:
    """The path leads to an array with an element that equals ``value``, or to a text of which ``value`` is a part."""

    path: Path
    value: Scalar


@dataclass(frozen=True, slots=True)
class Present:
    """The path leads to something that is not null; an array counts, whatever it holds."""

    path: Path


Term = OneOf | NoneOf | Ordered | Like | NotLike | Contains | Present


@dataclass(frozen=True, slots=True)
class And:
    """Each of ``terms`` holds."""

    terms: tuple[Predicate, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """One of ``terms`` holds."""

    terms: tuple[Predicate, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """``term`` does not hold. There is no third answer."""

    term: Predicate


Predicate = Everything | And | Or | Not | Term
