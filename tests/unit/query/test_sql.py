from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings

from cfm_core.errors import ValidationError
from cfm_core.query import Column, Fields, Json, JsonArray, Kind, parse, to_sql, to_test
from tests.support.predicates import FIELDS as FIELDS_OF_EVERY_KIND
from tests.support.predicates import rubbish

FIELDS = Fields(
    {
        "id": Column("t.id", Kind.UUID),
        "version": Column("t.version", Kind.INTEGER),
        "identifier": Column("t.identifier"),
        "error": Column("t.error", Kind.BOOLEAN),
        "createdTimestamp": Column("t.created_at", Kind.TIMESTAMP),
        "properties": Json("t.properties"),
        "vpas": JsonArray("t.vpas"),
    }
)
UUID = "0ffab9ba-b53e-45c1-83b6-2d60c5dd7efd"


@pytest.mark.parametrize(
    ("text", "where", "params"),
    [
        ("true", "true", {}),
        (f"id = '{UUID}'", "t.id = :q0::uuid", {"q0": UUID}),
        (f"id IN ('x', '{UUID}')", "t.id = :q0::uuid", {"q0": UUID}),
        (f"id > '{UUID}'", "t.id > :q0::uuid", {"q0": UUID}),
        ("id > '0f'", 't.id::text COLLATE "C" > :q0::text', {"q0": "0f"}),
        ("ID = 'x'", "false", {}),
        ("version = 2.0", "t.version = :q0::bigint", {"q0": 2}),
        ("version = '2'", "false", {}),
        ("version = true", "false", {}),
        ("version = 9223372036854775808", "false", {}),
        ("version != 'x'", "t.version IS NOT NULL", {}),
        ("version > 2", "t.version > :q0::bigint", {"q0": 2}),
        ("version > 2.5", "t.version > :q0::bigint", {"q0": 2}),
        ("version >= 2.5", "t.version > :q0::bigint", {"q0": 2}),
        ("version < -2.5", "t.version <= :q0::bigint", {"q0": -3}),
        ("version <= 2.5", "t.version <= :q0::bigint", {"q0": 2}),
        ("version < 1e19", "t.version < :q0::numeric", {"q0": "1e+19"}),
        ("identifier = 5", "false", {}),
        ("identifier IN ('a', 'NULL\"')", "t.identifier = ANY (:q0::text[])", {"q0": '{"a","NULL\\""}'}),
        ("identifier NOT IN ('a')", "t.identifier <> ALL (:q0::text[])", {"q0": '{"a"}'}),
        ("identifier LIKE 'a\\'", "t.identifier::text LIKE :q0::text", {"q0": "a\\\\"}),
        ("error = true", "t.error = :q0::boolean", {"q0": True}),
        ("error = 1", "false", {}),
        (
            "createdtimestamp = '2026-11-23T08:07:23.5+01:00'",
            "t.created_at = :q0::timestamptz",
            {"q0": "2026-11-23T07:07:23.500000+00:00"},
        ),
        ("createdTimestamp = 'yesterday'", "false", {}),
        ("properties.a.b = 'é'", "t.properties @@ :q0::jsonpath", {"q0": '$."a"."b" == "é"'}),
        ("properties.a IN (1, '1')", "t.properties @@ :q0::jsonpath", {"q0": '$."a" == 1 || $."a" == "1"'}),
        ("vpas.state = 'active'", "t.vpas @@ :q0::jsonpath", {"q0": '$."state" == "active"'}),
        ("vpas CONTAINS 'x'", "t.vpas @@ :q0::jsonpath", {"q0": '$ == "x"'}),
        (
            "properties.a < -5",
            "jsonb_path_match(t.properties, :q0::jsonpath, silent => true)",
            {"q0": '$."a" < -5'},
        ),
        (
            "properties.a IS NULL",
            "(jsonb_path_match(t.properties, :q0::jsonpath, silent => true) IS NOT TRUE)",
            {"q0": '$."a".type() != "null"'},
        ),
        (
            "properties.a != 'x'",
            "EXISTS (SELECT FROM jsonb_path_query(t.properties, :q1::jsonpath) v"
            " WHERE v <> 'null' AND v <> ALL (:q0::jsonb[]))",
            {"q0": '{"\\"x\\""}', "q1": '$."a"[*]'},
        ),
        (
            "error = false AND (identifier = 'x'' OR 1=1 --' OR NOT version = 1)",
            "(t.error = :q0::boolean AND (t.identifier = :q1::text OR (t.version = :q2::bigint IS NOT TRUE)))",
            {"q0": False, "q1": "x' OR 1=1 --", "q2": 1},
        ),
    ],
)
def test_a_predicate_becomes_a_condition_with_parameters(text: str, where: str, params: dict[str, Any]) -> None:
    assert to_sql(parse(text), FIELDS) == (where, params)


def test_nothing_of_a_predicate_is_in_the_condition() -> None:
    text = "properties.`marker` {0} AND vpas.`marker` {0} AND identifier {0}"
    for condition in ("= 'marker'", "LIKE 'marker'", "< 'marker'", "CONTAINS 'marker'", "NOT IN ('marker')", "IS NULL"):
        sql, _ = to_sql(parse(text.format(condition)), FIELDS)
        assert "marker" not in sql


def test_a_field_that_the_entity_lacks_is_refused() -> None:
    with pytest.raises(ValidationError, match="position 17: there is no field 'ctid'; there are id, version, "):
        to_sql(parse("version = 1 AND ctid = 'x'"), FIELDS)


@settings(max_examples=500, derandomize=True, deadline=None)
@given(rubbish)
def test_rubbish_is_refused_or_translated(text: str) -> None:
    refused: ValidationError | None = None
    try:
        predicate = parse(text)
        to_sql(predicate, FIELDS_OF_EVERY_KIND)
        to_test(predicate, FIELDS_OF_EVERY_KIND)({"properties": {"a": 1}, "vpas": [{"a": "b"}]})
    except ValidationError as error:
        refused = error
    assert refused is None or str(refused).startswith("Client error: parse error: position ")
