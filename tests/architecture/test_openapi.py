"""The OpenAPI document of all declared functions."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from flask import Request
from openapi_spec_validator import OpenAPIV31SpecValidator
from pydantic.alias_generators import to_camel
from werkzeug.test import EnvironBuilder

import functions
from cfm_core.declaration import HttpFunction, discover
from functions.managers.docs import get_openapi

HTTP = [one for one in discover(functions) if isinstance(one, HttpFunction)]


def document(**headers: str) -> dict[str, Any]:
    request = Request(EnvironBuilder(path="/openapi.json", headers=headers.items()).get_environ())
    found: dict[str, Any] = json.loads(get_openapi(request).get_data())
    return found


DOCUMENT = document()


def operation(function: HttpFunction) -> dict[str, Any]:
    path = re.sub(r"\{(\w+)\}", lambda found: f"{{{to_camel(found[1])}}}", function.path)
    found: dict[str, Any] = DOCUMENT["paths"][path][function.method.lower()]
    return found


def test_the_document_is_openapi() -> None:
    assert DOCUMENT["openapi"].startswith("3.1.")
    assert list(OpenAPIV31SpecValidator(DOCUMENT).iter_errors()) == []


def test_it_has_every_http_function_and_no_other() -> None:
    operations = [one["operationId"] for path in DOCUMENT["paths"].values() for one in path.values()]
    assert sorted(operations) == sorted(function.name for function in HTTP)


def test_a_path_is_spelled_one_way() -> None:
    templates = [re.sub(r"\{\w+\}", "{}", path) for path in DOCUMENT["paths"]]
    assert sorted(templates) == sorted(set(templates))


@pytest.mark.parametrize("function", HTTP, ids=lambda function: function.name)
def test_an_operation_says_what_its_declaration_says(function: HttpFunction) -> None:
    found = operation(function)
    assert found["security"] == ([{"token": [function.scope]}] if function.scope else [])
    assert found["summary"]
    has_body = function.body is not None or (function.lists is not None and function.method == "POST")
    assert ("requestBody" in found) == has_body
    assert {str(status) for status in function.gives} <= set(found["responses"])
    assert ("401" in found["responses"]) == (function.scope is not None)


@pytest.mark.parametrize("function", [one for one in HTTP if one.method == "GET"], ids=lambda function: function.name)
def test_whoever_reads_is_told_the_shape_of_what_comes(function: HttpFunction) -> None:
    assert function.lists is not dict
    assert None not in function.gives.values()


def test_whatever_is_named_in_the_document_is_used() -> None:
    text = json.dumps(DOCUMENT)
    unused = [
        f"{kind}/{name}"
        for kind, named in DOCUMENT["components"].items()
        for name in named
        if kind != "securitySchemes" and f'"#/components/{kind}/{name}"' not in text
    ]
    assert unused == []


def test_the_document_names_the_prefix_of_a_proxy() -> None:
    assert document(**{"X-Forwarded-Prefix": "/fabric/"})["servers"] == [{"url": "/fabric"}]
    assert "servers" not in DOCUMENT
