"""Reads the text of a predicate: ``true``, or equalities joined by AND.

    properties.group = 'suppliers' AND error = false
    properties.`cfm.vpa.state`.region = 'it''s here'

Keywords are read in any case. A path segment in back quotes may hold any character.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from cfm_core.errors import FieldError, ValidationError
from cfm_core.query.tree import All, Equals, Everything, Predicate, Scalar

LONGEST = 4096
"""Characters that a predicate may have."""
MOST_TERMS = 64

_TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<quoted>`[^`]+`)
      | (?P<string>'(?:[^']|'')*')
      | (?P<number>-?[0-9]+(?:\.[0-9]+)?(?![A-Za-z0-9_.]))
      | (?P<symbol>[.=])
    """,
    re.VERBOSE,
)
_KEYWORDS = frozenset({"AND", "TRUE", "FALSE"})
_END = "the end"


@dataclass(frozen=True, slots=True)
class _Token:
    """``text`` is as written, but a keyword in upper case."""

    kind: str
    text: str
    position: int

    def __str__(self) -> str:
        return _END if self.kind == "end" else repr(self.text)


def parse_error(position: int, detail: str) -> ValidationError:
    """The error for a predicate that is wrong at ``position``, counted from 1."""
    return ValidationError(
        f"Client error: parse error: position {position}: {detail}", [FieldError("/predicate", detail)]
    )


def parse(text: str) -> Predicate:
    """Read ``text``.

    Raises:
        ValidationError: it is not a predicate; says at which position.
    """
    if len(text) > LONGEST:
        raise parse_error(LONGEST + 1, f"a predicate has at most {LONGEST} characters")
    return _Parser(text).predicate()


def _tokens(text: str) -> Iterator[_Token]:
    if "\0" in text:
        raise parse_error(text.index("\0") + 1, "a predicate holds no NUL character")
    position = 0
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None:
            raise parse_error(position + 1, f"unexpected {text[position]!r}")
        kind, word = found.lastgroup or "", found.group()
        if kind == "name" and word.upper() in _KEYWORDS:
            kind, word = "keyword", word.upper()
        if kind != "space":
            yield _Token(kind, word, position + 1)
        position = found.end()
    yield _Token("end", "", len(text) + 1)


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens = list(_tokens(text))
        self._next = 0

    def predicate(self) -> Predicate:
        if self._take("keyword", "TRUE"):
            self._end()
            return Everything()
        terms = [self._equality()]
        while self._take("keyword", "AND"):
            if len(terms) == MOST_TERMS:
                raise parse_error(self._peek().position, f"a predicate has at most {MOST_TERMS} terms")
            terms.append(self._equality())
        self._end()
        return terms[0] if len(terms) == 1 else All(tuple(terms))

    def _equality(self) -> Equals:
        position = self._peek().position
        path = [self._segment()]
        while self._take("symbol", "."):
            path.append(self._segment())
        if not self._take("symbol", "="):
            raise self._expected("'='")
        return Equals(tuple(path), self._value(), position)

    def _segment(self) -> str:
        if token := self._take("name"):
            return token.text
        if token := self._take("quoted"):
            return token.text[1:-1]
        raise self._expected("a field")

    def _value(self) -> Scalar:
        if token := self._take("string"):
            return token.text[1:-1].replace("''", "'")
        if token := self._take("number"):
            number = float(token.text) if "." in token.text else int(token.text)
            if math.isinf(number):
                raise parse_error(token.position, "the number is too large")
            return number
        for word, value in (("TRUE", True), ("FALSE", False)):
            if self._take("keyword", word):
                return value
        raise self._expected("a value: a 'string', a number, true or false")

    def _end(self) -> None:
        if not self._take("end"):
            raise self._expected("AND or the end")

    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _take(self, kind: str, text: str | None = None) -> _Token | None:
        token = self._tokens[self._next]
        if token.kind != kind or text not in (None, token.text):
            return None
        self._next += kind != "end"
        return token

    def _expected(self, what: str) -> ValidationError:
        token = self._peek()
        return parse_error(token.position, f"expected {what}, found {token}")
