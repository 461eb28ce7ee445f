from __future__ import annotations

from typing import Any

import pytest

from cfm_core.errors import ValidationError
from cfm_core.query import Column, Fields, Json, JsonArray, Kind, parse, to_sql

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
        ("ID = 'x'", "false", {}),
        ("version = 2.0", "t.version = :q0::bigint", {"q0": 2}),
        ("version = '2'", "false", {}),
        ("version = true", "false", {}),
        ("version = 9223372036854775808", "false", {}),
        ("identifier = 5", "false", {}),
        ("error = true", "t.error = :q0::boolean", {"q0": True}),
        ("error = 1", "false", {}),
        (
            "createdtimestamp = '2026-11-23T08:07:23.5+01:00'",
            "t.created_at = :q0::timestamptz",
            {"q0": "2026-11-23T07:07:23.500000+00:00"},
        ),
        ("createdTimestamp = 'yesterday'", "false", {}),
        (
            "properties.a.b = 'é'",
            "(t.properties @> :q0::jsonb OR t.properties @> :q1::jsonb)",
            {"q0": '{"a": {"b": "é"}}', "q1": '{"a": {"b": ["é"]}}'},
        ),
        (
            "vpas.state = 'active'",
            "(t.vpas @> :q0::jsonb OR t.vpas @> :q1::jsonb)",
            {"q0": '[{"state": "active"}]', "q1": '[{"state": ["active"]}]'},
        ),
        ("vpas = 'x'", "t.vpas @> :q0::jsonb", {"q0": '["x"]'}),
        (
            "error = false AND identifier = 'x'' OR 1=1 --'",
            "t.error = :q0::boolean AND t.identifier = :q1::text",
            {"q0": False, "q1": "x' OR 1=1 --"},
        ),
    ],
)
def test_a_predicate_becomes_a_condition_with_parameters(text: str, where: str, params: dict[str, Any]) -> None:
    assert to_sql(parse(text), FIELDS) == (where, params)


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("version = 1 AND ctid = 'x'", "position 17: there is no field 'ctid'; there are id, version, "),
        ("identifier.x = 1", "position 1: the field 'identifier' has no fields of its own"),
        ("properties = 'x'", "position 1: the field 'properties' is an object: name a key of it, as in properties.key"),
    ],
)
def test_a_field_that_the_entity_lacks_is_refused(text: str, detail: str) -> None:
    with pytest.raises(ValidationError) as caught:
        to_sql(parse(text), FIELDS)
    assert str(caught.value).startswith(f"Client error: parse error: {detail}")
