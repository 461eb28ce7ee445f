from __future__ import annotations

from typing import Any

import pytest

from cfm_core.json_schema import MOST_PARTS, problem_of, problem_of_schema


def chain(length: int, each: int) -> dict[str, Any]:
    """Definitions that each refer to the next one several times."""
    refer = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * each} for n in range(length)}
    return {"$defs": refer | {f"d{length}": {"type": "string"}}, "$ref": "#/$defs/d0"}


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"anything": 1, "required": []},
        {"$id": "https://example.com/x", "$schema": "http://json-schema.org/draft-07/schema#", "type": "object"},
        {"properties": {"$ref": {"type": "string"}, "$id": {"type": "string"}}},
        {"const": {"$ref": "nowhere"}, "examples": [{"$id": "x"}]},
        {"$defs": {"a/b": {"type": "string"}}, "properties": {"x": {"$ref": "#/$defs/a~1b"}}},
        chain(4, 3),
    ],
)
def test_schemas_that_can_be_applied(schema: dict[str, Any]) -> None:
    assert problem_of_schema(schema) is None


@pytest.mark.parametrize(
    ("schema", "pointer"),
    [
        ({"type": "text"}, "/type"),
        ({"properties": {"a/b": {"minimum": "1"}}}, "/properties/a~1b/minimum"),
        ({"pattern": "(?=a)b"}, "/pattern"),
        ({"$schema": "https://example.com/mine"}, ""),
        ({"$ref": "https://example.com/x.json"}, "/$ref"),
        ({"$ref": "file:///etc/passwd"}, "/$ref"),
        ({"$ref": "#/nowhere"}, "/$ref"),
        ({"properties": {"x": {"$ref": "#"}}}, "/properties/x/$ref"),
        ({"properties": {"x": {"$id": "other"}}}, "/properties/x/$id"),
        ({"$dynamicRef": "#x"}, "/$dynamicRef"),
    ],
)
def test_schemas_that_cannot_be_applied(schema: dict[str, Any], pointer: str) -> None:
    problem = problem_of_schema(schema)
    assert problem is not None
    assert problem.pointer == pointer


def test_a_schema_that_grows_beyond_measure_is_refused_before_it_is_compiled() -> None:
    problem = problem_of_schema(chain(60, 2))
    assert problem is not None
    assert problem.detail == f"has more than {MOST_PARTS} parts, with what it refers to"


@pytest.mark.parametrize("depth", [300, 5000])
def test_a_schema_that_is_too_deep_is_refused(depth: int) -> None:
    schema: dict[str, Any] = {}
    for _ in range(depth):
        schema = {"not": schema}
    problem = problem_of_schema(schema)
    assert problem is not None
    assert problem.detail == "is nested too deeply"


def test_a_problem_of_a_document_has_its_place_and_no_value() -> None:
    schema = {"properties": {"a/b": {"items": {"enum": ["x"]}}}}
    assert problem_of(schema, {"a/b": ["x"]}) is None
    problem = problem_of(schema, {"a/b": ["x", "secret"]})
    assert problem is not None
    assert problem.pointer == "/a~1b/1"
    assert "secret" not in problem.detail


def test_a_document_that_is_too_deep_is_a_problem() -> None:
    document: Any = 1
    for _ in range(500):
        document = {"a": document}
    problem = problem_of({"required": ["b"]}, document)
    assert problem is not None
    assert problem.detail == "is nested too deeply"
