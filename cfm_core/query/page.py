"""Pages of a list."""

from __future__ import annotations

from dataclasses import dataclass

MOST = 10_000
"""The longest page, and the length of one without a limit."""


@dataclass(frozen=True, slots=True)
class Page:
    """``limit`` entries in the list's total order: from ``offset`` on, or those behind the one whose key is ``after``.

    Behind a key the list is entered at once, however far down that is; entries before an offset are passed one by one.
    """

    offset: int = 0
    limit: int = MOST
    after: str = ""
    counted: bool = True
    """Whether the caller wants to know how many entries there are on all pages."""


@dataclass(frozen=True, slots=True)
class JsonPage:
    """The entries of one page as a JSON array in UTF-8, as the API shows them."""

    json: bytes
    total: int | None
    """How many there are on all pages; None where nobody asked."""
    size: int
    last: str = ""
    """The key of the last entry, behind which the next page begins; empty where there is none."""
    more: bool = False
    """Whether entries follow: the limit was reached, or the page would have become too large."""
