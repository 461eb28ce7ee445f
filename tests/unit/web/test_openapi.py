"""What the document says of one function, for each thing that a declaration may say."""

from __future__ import annotations

from typing import Any

import flask
import pytest
from pydantic import Field

from cfm_core.assembly.service_type import ServiceType
from cfm_core.contracts.documents import Document
from cfm_core.declaration import HttpFunction
from cfm_core.function import http_function
from cfm_core.web.openapi import document

SERVICE: ServiceType[object] = ServiceType("service")


class Thing(Document):
    id: str
    version: int


class NewThing(Document):
    some_name: str
    parts: list[str] = Field(default_factory=list)


def operation_of(method: str, path: str, **declared: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The document of one function, and its operation."""

    def openapi_example(request: flask.Request) -> flask.Response:
        """Does something.

        And says more of it.
        """
        raise NotImplementedError

    scope = declared.pop("scope", "things:all")
    declaration = http_function(method, path, scope=scope, **declared)(openapi_example).declaration
    assert isinstance(declaration, HttpFunction)
    whole = document([declaration])
    ((_, methods),) = whole["paths"].items()
    return whole, methods[method.lower()]


def parameters(operation: dict[str, Any]) -> list[str]:
    return [one.get("name") or one["$ref"].rpartition("/")[2] for one in operation["parameters"]]


def test_names_come_from_the_handler_and_its_module() -> None:
    whole, operation = operation_of("GET", "/some/{thing_id}/things", requires=[SERVICE])
    assert list(whole["paths"]) == ["/some/{thingId}/things"]
    assert (operation["operationId"], operation["tags"]) == ("openapi_example", ["test-openapi"])
    assert (operation["summary"], operation["description"]) == ("Does something.", "And says more of it.")
    assert operation["security"] == [{"token": ["things:all"]}]


@pytest.mark.parametrize(
    ("method", "path", "declared", "expected"),
    [
        ("GET", "/things", {"lists": Thing}, ["q", "offset", "limit", "after", "prefer"]),
        ("POST", "/things/query", {"lists": Thing}, ["prefer", "fieldValidation"]),
        ("POST", "/things", {"body": NewThing}, ["fieldValidation", "idempotencyKey"]),
        ("POST", "/things", {"body": NewThing, "scope": None}, ["fieldValidation"]),
        ("GET", "/things/{id}", {"gives": {200: Thing}}, ["id", "ifNoneMatch"]),
        ("GET", "/things/{id}", {}, ["id"]),
        ("PUT", "/things/{id}", {"body": NewThing}, ["id", "fieldValidation", "ifMatch", "ifNoneMatch"]),
        ("PATCH", "/things/{id}", {"body": NewThing}, ["id", "fieldValidation", "ifMatch"]),
        ("DELETE", "/things/{id}", {"query": {"purge": bool}}, ["id", "purge", "ifMatch"]),
    ],
)
def test_parameters_follow_from_what_is_declared(
    method: str, path: str, declared: dict[str, Any], expected: list[str]
) -> None:
    assert parameters(operation_of(method, path, **declared)[1]) == expected


@pytest.mark.parametrize(
    ("method", "path", "declared", "expected"),
    [
        ("GET", "/open", {"scope": None}, ["200", "429", "default"]),
        ("GET", "/things", {"lists": Thing}, ["200", "400", "401", "403", "429", "500", "503", "default"]),
        (
            "GET",
            "/things/{id}",
            {"gives": {200: Thing}},
            ["200", "304", "401", "403", "404", "429", "500", "503", "default"],
        ),
        (
            *("POST", "/things", {"body": NewThing, "gives": {201: Thing}}),
            ["201", "400", "401", "403", "409", "413", "415", "422", "429", "500", "503", "default"],
        ),
        (
            *("DELETE", "/things/{id}", {}),
            ["200", "400", "401", "403", "404", "409", "412", "422", "429", "500", "503", "default"],
        ),
    ],
)
def test_answers_follow_from_what_is_declared(
    method: str, path: str, declared: dict[str, Any], expected: list[str]
) -> None:
    assert list(operation_of(method, path, **declared)[1]["responses"]) == expected


def test_shapes_are_named_and_written_as_on_the_wire() -> None:
    whole, operation = operation_of("POST", "/things", body=NewThing, body_is_optional=True, gives={201: Thing})
    assert operation["requestBody"] == {
        "required": False,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/NewThing"}}},
    }
    assert list(whole["components"]["schemas"]["NewThing"]["properties"]) == ["someName", "parts"]
    created = operation["responses"]["201"]
    assert created["content"] == {"application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}}
    assert {"ETag", "Location", "X-Request-Id"} <= set(created["headers"])


def test_a_list_is_an_array_and_an_empty_answer_has_no_content() -> None:
    _, listed = operation_of("GET", "/things", lists=Thing)
    schema = listed["responses"]["200"]["content"]["application/json"]["schema"]
    assert schema == {"type": "array", "items": {"$ref": "#/components/schemas/Thing"}}
    _, deleted = operation_of("DELETE", "/things/{id}")
    assert "content" not in deleted["responses"]["200"]


def test_an_answer_of_another_kind_has_its_media_type() -> None:
    _, operation = operation_of("GET", "/page", scope=None, gives={200: str}, media="text/html")
    assert list(operation["responses"]["200"]["content"]) == ["text/html"]
