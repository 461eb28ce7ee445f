"""Reads the text of a predicate. The grammar is ``grammar.lark``; what it means is told in this folder's README."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Set
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from cfm_core.errors import FieldError, ValidationError
from cfm_core.query.patterns import ending_with, like, starting_with
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
    Order,
    Ordered,
    Path,
    Predicate,
    Present,
    Scalar,
)

if TYPE_CHECKING:
    from lark import Lark, Token

LONGEST = 4096
"""Characters that a predicate may have."""
MOST_TERMS = 64
DEEPEST = 32
"""How deep AND, OR and NOT may be nested in each other."""

_END = "$END"
_VALUE = "a value: a 'string', a number, true, false or null"
_EXPECTED: tuple[tuple[str, Set[str]], ...] = (
    ("a field", {"FIELD", "QUOTED"}),
    ("a key", {"KEY", "QUOTED"}),
    ("'.'", {"_DOT"}),
    (
        "an operator (= != < <= > >= [NOT] IN, [NOT] LIKE, STARTS_WITH, ENDS_WITH, CONTAINS, IS [NOT] NULL)",
        {
            *("_EQUAL", "_UNEQUAL", "ORDER", "_IN", "_LIKE", "_NOT"),
            *("_STARTS_WITH", "_ENDS_WITH", "_CONTAINS", "_IS"),
        },
    ),
    (_VALUE, {"STRING", "NUMBER", "_TRUE", "_FALSE", "_NULL"}),
    ("true", {"_TRUE"}),
    ("false", {"_FALSE"}),
    ("IN", {"_IN"}),
    ("LIKE", {"_LIKE"}),
    ("NOT", {"_NOT"}),
    ("NULL", {"_NULL"}),
    ("AND", {"_AND"}),
    ("OR", {"_OR"}),
    ("','", {"_COMMA"}),
    ("'('", {"_OPEN"}),
    ("')'", {"_CLOSE"}),
    ("the end", {_END}),
)
"""What each set of terminals is called; a set that comes earlier goes before its parts."""
_WORD = re.compile(r"\w+|.", re.DOTALL)
_LONGEST_WORD = 40


def parse_error(position: int, detail: str) -> ValidationError:
    """The error for a predicate that is wrong at ``position``, counted from 1."""
    return ValidationError(
        f"Client error: parse error: position {position}: {detail}", [FieldError("/predicate", detail)]
    )


def parse(text: str) -> Predicate:
    """Read ``text``.

    Raises:
        ValidationError: it is not a predicate; says at which position, and what was expected there.
    """
    predicate: Predicate = _read(text, "start")
    _check_size(predicate)
    return predicate


def parse_path(text: str) -> Path:
    """Read ``text`` as a path alone.

    Raises:
        ValidationError: it is no path; says at which position.
    """
    path: Path = _read(text, "path")
    return path


def _read(text: str, what: str) -> Any:
    """What the grammar's rule ``what`` makes of ``text``."""
    if len(text) > LONGEST:
        raise parse_error(LONGEST + 1, f"a predicate has at most {LONGEST} characters")
    for position, character in enumerate(text, 1):
        if character == "\0" or "\ud800" <= character <= "\udfff":
            raise parse_error(position, "a predicate holds no NUL character and no half of a surrogate pair")
    from lark import UnexpectedInput

    try:
        return _language().parse(text, start=what)
    except UnexpectedInput as error:
        # The token of the end is empty, and borrows the place of the one before.
        position = len(text) if getattr(error, "token", None) == "" else error.pos_in_stream or 0
    raise parse_error(position + 1, f"expected {_expected(text, position, what)}, found {_found(text, position)}")


@cache
def _language() -> Lark:
    """The parser; made at the first use, because whoever only imports this should not wait for it."""
    from lark import Lark

    grammar = resources.files(__package__).joinpath("grammar.lark").read_text(encoding="utf-8")
    return Lark(grammar, parser="lalr", start=["start", "path"], transformer=_Builder())


def _expected(text: str, position: int, what: str) -> str:
    """What could stand at ``position``, where something else does, in words."""
    from lark import UnexpectedInput

    reading: Any = _language().parse_interactive(text, start=what)
    with contextlib.suppress(UnexpectedInput):
        for token in reading.iter_parse():
            # Not fed, because the parser forgets what else it could have taken.
            if token.start_pos >= position:
                break
    names, left = [], set(reading.accepts())
    for name, terminals in _EXPECTED:
        if terminals <= left:
            names.append(name)
            left -= terminals
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def _found(text: str, position: int) -> str:
    if position >= len(text):
        return "the end"
    if text[position] in "'`":
        # What is closed would have been read as one thing.
        closed = re.compile(r"'(?:[^']|'')*'|`(?:[^`]|``)*`").match(text, position)
        if closed is None:
            return f"a {text[position]} that is not closed"
        return closed[0][:_LONGEST_WORD]
    word = _WORD.match(text, position)
    assert word is not None
    return repr(word[0][:_LONGEST_WORD])


def _check_size(predicate: Predicate) -> None:
    """Refuse more than ``MOST_TERMS``, and more levels than ``DEEPEST``; not by recursion, which they are to bound."""
    level, depth, terms = [predicate], 0, 0
    while level:
        below: list[Predicate] = []
        for one in level:
            match one:
                case And() | Or():
                    below.extend(one.terms)
                case Not():
                    below.append(one.term)
                case Everything():
                    pass
                case _:
                    terms += 1
        depth += 1
        level = below
    if terms > MOST_TERMS:
        raise parse_error(1, f"a predicate has at most {MOST_TERMS} terms, this one has {terms}")
    if depth > DEEPEST:
        raise parse_error(1, f"AND, OR and NOT can be nested {DEEPEST} levels deep, here they are {depth}")


class _Builder:
    """Makes the tree: one method for each rule of the grammar, which takes what the rule's parts have become."""

    def disjunction(self, terms: list[Predicate]) -> Predicate:
        return Or(tuple(terms))

    def conjunction(self, terms: list[Predicate]) -> Predicate:
        return And(tuple(terms))

    def negation(self, parts: list[Predicate]) -> Predicate:
        return Not(parts[0])

    def everything(self, _: list[Any]) -> Predicate:
        return Everything()

    def nothing(self, _: list[Any]) -> Predicate:
        return Not(Everything())

    def equal(self, parts: list[Any]) -> Predicate:
        path, value = parts
        return self.one_of([path, [value]])

    def unequal(self, parts: list[Any]) -> Predicate:
        path, value = parts
        return self.none_of([path, [value]])

    def one_of(self, parts: list[Any]) -> Predicate:
        path, values = parts
        return OneOf(path, tuple(value for value in values if value is not None))

    def none_of(self, parts: list[Any]) -> Predicate:
        path, values = parts
        return _never(path) if None in values else NoneOf(path, tuple(values))

    def ordered(self, parts: list[Any]) -> Predicate:
        path, order, value = parts
        if value is None or isinstance(value, bool):
            return _never(path)
        return Ordered(path, Order(order), value)

    def like(self, parts: list[Any]) -> Predicate:
        path, value = parts
        return Like(path, like(value)) if isinstance(value, str) else _never(path)

    def not_like(self, parts: list[Any]) -> Predicate:
        path, value = parts
        if isinstance(value, str):
            return NotLike(path, like(value))
        # Nothing is like what is no text, so that all that is there is unlike it.
        return _never(path) if value is None else NoneOf(path, ())

    def starts_with(self, parts: list[Any]) -> Predicate:
        path, value = parts
        return Like(path, starting_with(value)) if isinstance(value, str) else _never(path)

    def ends_with(self, parts: list[Any]) -> Predicate:
        path, value = parts
        return Like(path, ending_with(value)) if isinstance(value, str) else _never(path)

    def contains(self, parts: list[Any]) -> Predicate:
        path, value = parts
        return _never(path) if value is None else Contains(path, value)

    def absent(self, parts: list[Any]) -> Predicate:
        return Not(self.present(parts))

    def present(self, parts: list[Any]) -> Predicate:
        (path,) = parts
        return Present(path)

    def path(self, segments: list[Token]) -> Path:
        root, *keys = (
            segment[1:-1].replace("``", "`") if segment.type == "QUOTED" else str(segment) for segment in segments
        )
        return Path(root, tuple(keys), (segments[0].start_pos or 0) + 1)

    def values(self, values: list[Scalar | None]) -> list[Scalar | None]:
        return values

    def string(self, tokens: list[Token]) -> str:
        return tokens[0][1:-1].replace("''", "'")

    def number(self, tokens: list[Token]) -> int | float:
        (token,) = tokens
        if token.lstrip("-").isdecimal():
            return int(token)
        number = float(token)
        if math.isinf(number):
            raise parse_error((token.start_pos or 0) + 1, "the number is too large")
        return number

    def true(self, _: list[Any]) -> bool:
        return True

    def false(self, _: list[Any]) -> bool:
        return False

    def null(self, _: list[Any]) -> None:
        return None


def _never(path: Path) -> Predicate:
    return OneOf(path, ())
