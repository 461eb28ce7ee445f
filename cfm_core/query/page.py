"""Pages of a list."""

from __future__ import annotations

from dataclasses import dataclass

MOST = 10_000
"""The longest page, and the length of one without a limit."""


@dataclass(frozen=True, slots=True)
class Page:
    """``limit`` entries from ``offset`` on, in the list's total order."""

    offset: int = 0
    limit: int = MOST
