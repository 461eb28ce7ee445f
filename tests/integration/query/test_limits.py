"""No predicate that is read brings the database into trouble."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cfm_core.errors import ValidationError
from cfm_core.query import parse, to_sql, to_test
from cfm_core.store.database import Database
from tests.support.predicates import FIELDS, rubbish

ENTITY = {"properties": {"a": {"b": [1, "x", None]}}, "roles": {}, "vpas": [{"a": "x"}], "ids": ["x"]}
_ONE = """
SELECT count(*)
  FROM (SELECT NULL::uuid AS id, NULL::integer AS version, NULL AS name, NULL::boolean AS error, NULL::timestamptz AS at,
               properties, roles, vpas, ids
          FROM jsonb_to_record(:entity::jsonb) AS r (properties jsonb, roles jsonb, vpas jsonb, ids jsonb)) t
 WHERE """


def answer(database: Database, text: str) -> bool:
    """Whether the predicate holds for the entity, which both stores say."""
    predicate = parse(text)
    condition, params = to_sql(predicate, FIELDS)
    with database.transaction() as transaction:
        (row,) = transaction.rows(_ONE + condition, entity=json.dumps(ENTITY), **params)
    assert row == [int(to_test(predicate, FIELDS)(ENTITY))]
    return bool(row[0])


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("properties" + ".a" * 2000 + " = 1", False),
        ("properties" + ".a" * 2000 + " IS NULL", True),
        ("properties" + ".a" * 2000 + " LIKE '%'", False),
        ("properties.a.b IN (" + ",".join(["2"] * 2000) + ", 1)", True),
        ("properties.a.b NOT IN (" + ",".join(["2"] * 2000) + ")", True),
        ("vpas.a NOT IN (" + ",".join(["'x'"] * 1000) + ")", False),
        (f"properties.a.b < {'9' * 4000}", True),
        (f"version = {'9' * 4000}", False),
        (f"version < {'9' * 4000}", False),
        (f"properties.a.b = {'0.' + '0' * 3000}1", False),
        ("properties.a.b LIKE '" + "%_" * 2000 + "'", False),
        ("properties.a.b CONTAINS '" + "x" * 4000 + "'", False),
        (" AND ".join(["properties.a.b = 1 OR vpas.a != 'y'"] * 32), True),
        ("NOT " * 31 + "properties.a.b = 1", False),
        ("(" * 2000 + "ids = 'x'" + ")" * 2000, True),
    ],
    ids=range(15),
)
def test_the_largest_predicates_are_answered(shared: Database, text: str, holds: bool) -> None:
    assert answer(shared, text) is holds


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.lists(rubbish, min_size=20, max_size=20))
def test_rubbish_is_refused_or_answered(shared: Database, texts: list[str]) -> None:
    for text in texts:
        refused: ValidationError | None = None
        try:
            answer(shared, text)
        except ValidationError as error:
            refused = error
        assert refused is None or str(refused).startswith("Client error: parse error: position ")
