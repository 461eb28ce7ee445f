"""Generated entities with fields of every kind, and predicates about them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from cfm_core.query import Column, Fields, Json, JsonArray, Kind

FIELDS = Fields(
    {
        "id": Column("t.id", Kind.UUID),
        "version": Column("t.version", Kind.INTEGER),
        "name": Column("t.name"),
        "error": Column("t.error", Kind.BOOLEAN),
        "at": Column("t.at", Kind.TIMESTAMP),
        "properties": Json("t.properties"),
        "roles": Json("t.roles"),
        "vpas": JsonArray("t.vpas"),
        "ids": JsonArray("t.ids"),
    }
)

UUIDS = [f"0ffab9ba-b53e-45c1-83b6-2d60c5dd7ef{digit}" for digit in "02ad"]
MOMENT = datetime(2026, 11, 23, 7, 7, 23, tzinfo=UTC)
TIMES = [
    *(
        "2026-11-23T07:07:23Z",
        "2026-11-23T08:07:23+01:00",
        "2026-11-23T07:07:23.000001Z",
        "2026-11-23T07:07:23.0000019Z",
    ),
    *(
        "2026-11-23",
        "2026-11-23T07:07:23",
        "2026-11-23 07:07:23",
        "2026-11-23t07:07:23z",
        "2026-11-23T07:07:23.5-00:30",
    ),
    *("2024-02-29T00:00:00Z", "2026-02-29T00:00:00Z", "1900-02-29T00:00:00Z", "2000-02-29T23:59:59.999999999Z"),
    *("0000-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+00:01", "9999-12-31T23:59:59.999999Z"),
    *("9999-12-31T23:59:59-00:01", "2016-12-31T23:59:60Z", "2026-04-31T00:00:00Z", "2026-13-01T00:00:00Z"),
    *("2026-11-23T24:00:00Z", "2026-11-23T07:07:23+24:00", "2026-11-23T07:07:23+23:59", "2026-11-23T07:07:23Z\n"),
]
TEXTS = [
    *(
        "",
        "a",
        "A",
        "ab",
        "abc",
        "cab",
        "a%",
        "a_c",
        "%",
        "_",
        "\\",
        "a\\",
        "\\%",
        "it's",
        "é",
        "e\u0301",
        "😀",
        "\uffff",
    ),
    *(
        "5",
        "true",
        "null",
        "NULL",
        "{}",
        "{,}",
        '"',
        '""',
        "`",
        "\n",
        "\t\x01\x7f",
        "$",
        "[*]",
        "a b",
        " ",
        "aaab",
        ":q0",
    ),
]
NUMBERS = [
    0,
    -0.0,
    1,
    -1,
    5,
    5.0,
    2.5,
    -2.5,
    0.1,
    1e22,
    10**22,
    1e-7,
    2**53 + 1,
    2**63 - 1,
    2**63,
    -(2**63),
    10**40,
    1e300,
]
KEYS = ["a", "b", "c d", "cfm.vpa.state", "in", "", "`", '"', "'", "\\", "é😀", "\n", "0", "$", "A", "type"]

texts = st.sampled_from(TEXTS) | st.sampled_from(TIMES) | st.text("ab%_\\é'", max_size=4)
numbers = st.sampled_from(NUMBERS) | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | numbers | texts
keys = st.sampled_from(KEYS[:3]) | st.sampled_from(KEYS)


def _containers(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(values, max_size=3) | st.dictionaries(keys, values, max_size=3)


values = st.recursive(scalars, _containers, max_leaves=6)
objects = st.dictionaries(keys, values, max_size=4)
entities = st.fixed_dictionaries(
    {
        "id": st.sampled_from(UUIDS),
        "version": st.sampled_from([0, 1, 5, 2**31 - 1, -1]),
        "name": st.none() | texts | st.sampled_from(UUIDS),
        "error": st.none() | st.booleans(),
        "at": st.none() | st.sampled_from([MOMENT + timedelta(microseconds=n) for n in (-1, 0, 1, 86_400_000_000)]),
        "properties": objects,
        "roles": st.dictionaries(keys, st.lists(texts, max_size=2), max_size=3),
        "vpas": st.lists(objects, max_size=3),
        "ids": st.lists(texts | st.sampled_from(UUIDS), max_size=3),
    }
)


def written(value: Any) -> str:
    """``value`` as a predicate writes it."""
    match value:
        case None:
            return "NULL"
        case bool():
            return str(value)
        case str():
            return "'" + value.replace("'", "''") + "'"
        case _:
            return repr(value)


def quoted(key: str) -> str:
    return "`" + key.replace("`", "``") + "`"


_ROOTS = ["id", "VERSION", "name", "error", "at", "ids", "vpas"]
_OPERATORS = ["=", "=", "!=", "<", "<=", ">", ">=", "LIKE", "NOT LIKE", "STARTS_WITH", "ENDS_WITH", "CONTAINS"]


def _places(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every path that leads somewhere in ``value``, with what is there."""
    match value:
        case dict():
            for key, member in value.items():
                yield from _places(member, (*path, key))
        case list():
            for element in value:
                yield from _places(element, path)
        case datetime():
            yield path, value.isoformat()
        case _:
            yield path, value


@st.composite
def _terms(draw: st.DrawFn, places: list[tuple[tuple[str, ...], Any]]) -> str:
    """A term about something that is there, or nearly, compared to what is there, or nearly."""
    path, near = draw(st.sampled_from(places))
    if draw(st.integers(0, 4)) == 0:
        root = draw(st.sampled_from(["properties", "roles", "vpas", "ids"]))
        path = (root, *draw(st.lists(keys, min_size=1, max_size=3)))
    if path[0] in {"properties", "roles"} and len(path) == 1:
        path = (*path, "a")
    if draw(st.integers(0, 3)) == 0 or not isinstance(near, str | int | float | None):
        near = draw(scalars | st.sampled_from(UUIDS))
    elif isinstance(near, str) and near and draw(st.booleans()):
        start, end = sorted(draw(st.tuples(st.integers(0, len(near)), st.integers(0, len(near)))))
        near = draw(st.sampled_from(["", "%", "_"])) + near[start:end] + draw(st.sampled_from(["", "%", "_%"]))
    literal = written(near)
    field = ".".join([path[0], *map(quoted, path[1:])])
    match draw(st.integers(0, 7)):
        case 0:
            return f"{field} IS {draw(st.sampled_from(['', 'NOT ']))}NULL"
        case 1:
            others = [written(draw(scalars)) for _ in range(draw(st.integers(0, 2)))]
            return f"{field} {draw(st.sampled_from(['', 'NOT ']))}IN ({', '.join([literal, *others])})"
        case _:
            return f"{field} {draw(st.sampled_from(_OPERATORS))} {literal}"


def _combined(parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        parts.map(lambda part: f"NOT ({part})"),
        st.tuples(parts, st.sampled_from([" AND ", " OR "]), parts).map("".join),
        st.tuples(parts, parts).map(lambda two: f"({two[0]} or {two[1]})"),
    )


@st.composite
def questions(draw: st.DrawFn) -> tuple[list[dict[str, Any]], list[str]]:
    """Some entities, and predicates about them."""
    documents = draw(st.lists(entities, min_size=1, max_size=10))
    places = [place for document in documents for place in _places(document)]
    terms = _terms(places)
    return documents, draw(st.lists(st.recursive(terms, _combined, max_leaves=4), min_size=1, max_size=20))


_WORDS = [
    *(
        "id",
        "properties",
        "vpas",
        "a",
        ".",
        ".",
        "`",
        "`b`",
        "'x'",
        "'",
        "''",
        "(",
        ")",
        ",",
        "=",
        "!=",
        "<",
        ">=",
        "!",
        "\\",
    ),
    *(
        "AND",
        "or",
        "Not",
        "IS",
        "NULL",
        "IN",
        "LIKE",
        "STARTS_WITH",
        "CONTAINS",
        "true",
        "FALSE",
        "5",
        "-1.5e3",
        "1e400",
    ),
    *("\0", "\ud800", "😀", "\n", "--", ";", "/*", "$1", ":q0", "{", "%", '"', "name = 'a'", "properties.a = 1"),
]
_soup = st.lists(st.sampled_from(_WORDS), max_size=20).flatmap(
    lambda words: st.sampled_from(["", " "]).map(lambda space: space.join(words))
)
rubbish = _soup | st.text(max_size=40) | st.text("()NOT ", max_size=400)
"""Texts of which few are predicates."""
