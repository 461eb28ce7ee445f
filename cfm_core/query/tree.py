"""What a predicate means once it is read, whatever evaluates it."""

from __future__ import annotations

from dataclasses import dataclass, field

Scalar = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Everything:
    """Holds for every entity."""


@dataclass(frozen=True, slots=True)
class Equals:
    """Holds where ``path`` leads to ``value``, of the same type; numbers are compared by value.

    ``position`` is where the path begins in the text, counted from 1.
    """

    path: tuple[str, ...]
    value: Scalar
    position: int = field(default=1, compare=False)


@dataclass(frozen=True, slots=True)
class All:
    """Holds where each of ``terms`` holds."""

    terms: tuple[Predicate, ...]


Predicate = Everything | Equals | All
