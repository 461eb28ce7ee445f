"""What an index is told of a predicate follows from it."""

from __future__ import annotations

from typing import Any

import pytest

from cfm_core.query import Column, DeclaredPath, Fields, IndexKind, Json, parse, to_sql

FIELDS = Fields({"properties": Json("t.properties"), "name": Column("t.name")})
SIZE = DeclaredPath("properties", ("size",), IndexKind.NUMBER)
SINCE = DeclaredPath("properties", ("since",), IndexKind.TIME)
NAME = DeclaredPath("properties", ("a", "name"), IndexKind.TEXT)
DECLARED = (SIZE, SINCE, NAME)


def told(text: str) -> tuple[str, list[Any]]:
    """What the condition has more than without declared paths, parameters by their values."""
    exact, params = to_sql(parse(text), FIELDS)
    hinted, more = to_sql(parse(text), FIELDS, DECLARED)
    bare = exact.removeprefix("(").removesuffix(")") if " AND " in text else exact
    inside = hinted.removeprefix("(").removesuffix(")") if hinted != exact else bare
    assert inside.startswith(bare)
    return inside.removeprefix(bare), list(more.values())[len(params) :]


def test_both_ends_of_a_range_are_one_condition() -> None:
    hint, values = told("properties.size >= 5 AND properties.size < 7.5")
    number = "query.number_at(t.properties, :q2::text[])"
    assert hint == f" AND ({number} >= :q3::numeric AND {number} < :q4::numeric OR {number} = 'NaN')"
    assert values == ['{"size"}', "5", "7.5"]


@pytest.mark.parametrize(
    ("text", "function", "limits"),
    [
        ("properties.since > '2026-01-01T00:00:00Z'", "query.time_at", ["2026-01-01T00:00:00+00:00"]),
        ("properties.a.name STARTS_WITH 'ac'", "query.text_at", ["ac", "ad"]),
        ("properties.a.name LIKE 'ac%e_'", "query.text_at", ["ac", "ad"]),
        ("properties.a.name > 'ac'", "query.text_at", ["ac"]),
        (f"properties.a.name <= '{'x' * 300}'", "query.text_at", ["x" * 256]),
        ("properties.a.name STARTS_WITH 'a\ud7ff'", "query.text_at", ["a\ud7ff", "a\ue000"]),
        ("properties.a.name STARTS_WITH 'a\U0010ffff'", "query.text_at", ["a\U0010ffff", "b"]),
        ("properties.a.name STARTS_WITH '\U0010ffff'", "query.text_at", ["\U0010ffff"]),
    ],
)
def test_a_term_over_a_declared_path_is_told(text: str, function: str, limits: list[str]) -> None:
    hint, values = told(text)
    assert function in hint
    assert values[1:] == limits


@pytest.mark.parametrize(
    "text",
    [
        "properties.size = 5",
        "properties.size > 'x'",
        "properties.other > 5",
        "properties.a.name ENDS_WITH 'x'",
        "properties.a.name STARTS_WITH ''",
        "NOT properties.size > 5",
        "name > 'x'",
    ],
)
def test_of_anything_else_nothing_is_told(text: str) -> None:
    assert told(text) == ("", [])


def test_each_side_of_an_alternative_is_told_for_itself() -> None:
    condition, _ = to_sql(parse("properties.size > 5 OR properties.since < '2026-01-01T00:00:00Z'"), FIELDS, DECLARED)
    left, right = condition.split(") OR (")
    assert "query.number_at" in left
    assert "query.time_at" in right
