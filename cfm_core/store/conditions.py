"""Conditions of statements: fixed text, and the values of its parameters."""

from __future__ import annotations

from typing import Any

Condition = tuple[str, dict[str, Any]]

EVERYTHING: Condition = ("true", {})


def both(first: Condition, second: Condition) -> Condition:
    """A condition that holds where both do. Their parameters have different names."""
    if first == EVERYTHING:
        return second
    if second == EVERYTHING:
        return first
    return f"({first[0]}) AND ({second[0]})", first[1] | second[1]
