"""Patterns of LIKE: ``%`` stands for any text, ``_`` for one character, and a backslash makes either stand for itself."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

_PART = re.compile(r"\\(.)|(.)", re.DOTALL)
_SPECIAL = re.compile(r"([\\%_])")


@dataclass(frozen=True, slots=True)
class Pattern:
    """``sql`` is the pattern as LIKE takes it: each backslash in it is followed by ``%``, ``_`` or a backslash."""

    sql: str

    @property
    def prefix(self) -> str:
        """The text that all matches begin with."""
        (prefix, *_) = _pieces(self.sql)[0].split(_ONE)
        return prefix

    @property
    def is_prefix(self) -> bool:
        """Whether everything matches that begins with ``prefix``."""
        first, *others = _pieces(self.sql)
        return others == [""] and _ONE not in first


_ONE = "\0"
"""Any one character, in a piece of a pattern; no text holds it."""


def like(text: str) -> Pattern:
    """Read a pattern. A backslash before any other character is as good as absent; at the end it stands for itself."""
    parts = (_escaped(match[1]) if match[1] is not None else match[2] for match in _PART.finditer(text))
    return Pattern("".join(_escaped(part) if part == "\\" else part for part in parts))


def starting_with(text: str) -> Pattern:
    return Pattern(_escaped(text) + "%")


def ending_with(text: str) -> Pattern:
    return Pattern("%" + _escaped(text))


def matcher(pattern: Pattern) -> Callable[[str], bool]:
    """A function that tells whether a text matches; it never takes longer than the lengths of text and pattern multiplied."""
    pieces = _pieces(pattern.sql)
    first, *middle = [
        re.compile("".join("." if character == _ONE else re.escape(character) for character in piece), re.DOTALL)
        for piece in pieces
    ]
    if not middle:
        return lambda text: first.fullmatch(text) is not None
    last = middle.pop()

    def matches(text: str) -> bool:
        found = first.match(text)
        for piece in middle:
            # The leftmost place leaves the most to what follows.
            found = piece.search(text, found.end()) if found else None
        start = len(text) - len(pieces[-1])
        return found is not None and found.end() <= start and last.fullmatch(text, start) is not None

    return matches


def _pieces(sql: str) -> list[str]:
    """The pattern between its ``%``, without escapes."""
    pieces = [""]
    for match in _PART.finditer(sql):
        if match[1] is not None:
            pieces[-1] += match[1]
        elif match[2] == "%":
            pieces.append("")
        else:
            pieces[-1] += _ONE if match[2] == "_" else match[2]
    return pieces


def _escaped(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", text)
