"""The OpenAPI document of declared HTTP functions. Nothing in it is written down twice: it follows from the declarations."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.alias_generators import to_camel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode

from cfm_core.declaration import HttpFunction
from cfm_core.eventing.cloudevents import BATCH
from cfm_core.web import idempotency
from cfm_core.web.paging import QueryRequest
from cfm_core.web.problem import MEDIA, ProblemDocument
from cfm_core.web.problems import PROBLEMS

JSON = "application/json"

Json = dict[str, Any]

_DESCRIPTION = """\
Tenant Manager and Provision Manager of the Connector Fabric Manager.

Every list takes a predicate of the query language (`q`, or the body of `POST .../query`) and is read page by page; its \
links lead to the other pages. Every `POST` takes an `Idempotency-Key`: sent again with the same key within 24 hours, a \
request takes effect once and has the same answer. Fields of a body that nobody knows are ignored and named in a header \
`Warning`. A request may carry `X-Request-Id` and `traceparent`; both come back. All that follows from a request belongs to \
its trace context, `tracestate` and `baggage` included."""


def _parameter(name: str, place: str, schema: Json, description: str) -> Json:
    return {"name": name, "in": place, "schema": schema, "description": description}


_TEXT: Json = {"type": "string"}
_COUNT: Json = {"type": "integer", "minimum": 0, "maximum": 2**63 - 1}

_PARAMETERS: dict[str, Json] = {
    "q": _parameter("q", "query", _TEXT, "A predicate of the query language; without one, everything."),
    "offset": _parameter("offset", "query", _COUNT, "How many entries of the list come before the page."),
    "limit": _parameter(
        *("limit", "query", _COUNT),
        "How many entries the page has at most. 0, none, and more than 10,000 stand for 10,000.",
    ),
    "after": _parameter(
        *("after", "query", _TEXT),
        "The key of the entry before the page, as in the link to the next one. It wins over an offset.",
    ),
    "fieldValidation": _parameter(
        *("fieldValidation", "query", {"type": "string", "enum": ["Strict", "Warn"]}),
        "Strict: a field of the body that nobody knows is an error, not a warning.",
    ),
    "prefer": _parameter(
        *("Prefer", "header", _TEXT), "count=none: without the total, which takes time where the list is long."
    ),
    "idempotencyKey": _parameter(
        *("Idempotency-Key", "header", {"type": "string", "pattern": idempotency.PATTERN}),
        "Names the request, so that it takes effect once however often it is sent.",
    ),
    "reason": _parameter(
        *("X-Reason", "header", {"type": "string", "maxLength": 1000}),
        "Why something is to be changed, for the audit trail; UTF-8.",
    ),
    "ifMatch": _parameter(
        *("If-Match", "header", _TEXT), "The ETag of the version that the change is for; another one is not touched."
    ),
    "ifNoneMatch": _parameter(
        *("If-None-Match", "header", _TEXT),
        "Reading: the ETag that is known already. Writing: * creates, and replaces nothing.",
    ),
}

_HEADERS: dict[str, Json] = {
    "X-Request-Id": {"schema": _TEXT, "description": "The request's id; every line of the logs about it has it."},
    "ETag": {"schema": _TEXT, "description": "The version, which rises with every write."},
    "Location": {"schema": _TEXT, "description": "Where the new entity is."},
    "Link": {
        "schema": _TEXT,
        "description": "Of a list: first, prev, self, next, last. Of what goes on: monitor, where it can be followed.",
    },
    "X-Total-Count": {"schema": {"type": "integer"}, "description": "How many entries the list has."},
    "Preference-Applied": {"schema": _TEXT, "description": "What was heeded of Prefer."},
    "Retry-After": {"schema": {"type": "integer"}, "description": "Seconds after which to ask again."},
    "Warning": {
        "schema": _TEXT,
        "description": "Names what is doubtful in the body, such as fields that nobody knows.",
    },
    "Idempotency-Replayed": {"schema": _TEXT, "description": "true: this is the answer to the first of the requests."},
    "RateLimit": {
        "schema": _TEXT,
        "description": "What is left of the limit that is met, and in how many seconds there is more.",
    },
    "RateLimit-Policy": {
        "schema": _TEXT,
        "description": "The limit that is met: how many requests, in how many seconds.",
    },
    "WWW-Authenticate": {"schema": _TEXT, "description": "How to authenticate, and what was wrong."},
}

_VARIABLE_SCHEMA: Json = {"type": "string", "pattern": r"^[^/\n]+$"}
_VARIABLE = re.compile(r"\{(\w+)\}")
_RESULTS = {200: "Done.", 201: "Created.", 202: "Accepted: the work goes on.", 204: "Done."}


def document(functions: Iterable[HttpFunction]) -> Json:
    """The document (OpenAPI 3.1) of ``functions``; operations in the order of their paths."""
    listed = sorted(functions, key=lambda one: (one.path, one.method))
    schemas, definitions = _schemas(listed)
    failures = {status for function in listed for status in _failures(function)}
    paths: dict[str, Json] = {}
    for function in listed:
        path = _VARIABLE.sub(lambda found: f"{{{to_camel(found[1])}}}", function.path)
        paths.setdefault(path, {})[function.method.lower()] = _operation(function, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Connector Fabric Manager", "version": "v1alpha1", "description": _DESCRIPTION},
        "paths": paths,
        "components": {
            "schemas": definitions,
            "parameters": _PARAMETERS,
            "headers": _HEADERS,
            "responses": {
                problem.name: _problem(problem.status, f"{problem.title}. {problem.meaning}")
                for problem in PROBLEMS
                if problem.status in failures
            }
            | {"problem": _problem(0, "Another failure.")},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


class _Untitled(GenerateJsonSchema):
    """Leaves out the titles that only repeat the names of fields."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


Key = tuple[str, int]
"""A function's name and the status of an answer; 0 for the body."""

_PROBLEM: Key = ("", 0)


def _schemas(functions: Sequence[HttpFunction]) -> tuple[dict[Key, Json], Json]:
    """The schema of every body and answer, and the named ones to which they refer."""
    shapes: list[tuple[Key, JsonSchemaMode, TypeAdapter[Any]]] = [
        (_PROBLEM, "serialization", TypeAdapter(ProblemDocument))
    ]
    for function in functions:
        if (body := _body_of(function)) is not None:
            shapes.append(((function.name, 0), "validation", TypeAdapter(body)))
        for status, shape in function.gives.items():
            if shape is not None:
                shapes.append(((function.name, status), "serialization", TypeAdapter(shape)))
    found, definitions = TypeAdapter.json_schemas(
        shapes, ref_template="#/components/schemas/{model}", schema_generator=_Untitled
    )
    return {key: schema for (key, _), schema in found.items()}, definitions["$defs"]


def _body_of(function: HttpFunction) -> type[BaseModel] | None:
    return QueryRequest if function.lists is not None and function.method == "POST" else function.body


def _operation(function: HttpFunction, schemas: Mapping[Key, Json]) -> Json:
    summary, _, more = inspect.cleandoc(function.handler.__doc__ or "").partition("\n")
    operation: Json = {
        "operationId": function.name,
        "tags": [function.source.stem.replace("_", "-")],
        "summary": summary.strip(),
        "security": [] if function.scope is None else [{"token": [function.scope]}],
        "parameters": _parameters(function),
        "responses": _responses(function, schemas),
    }
    if function.rights:
        # Needed by users, and by clients with roles, beside the scope.
        operation["x-rights"] = [f"{action} {resource}" for action, resource in function.rights]
    if more.strip():
        operation["description"] = more.strip()
    if (function.name, 0) in schemas:
        operation["requestBody"] = {
            "required": not function.body_is_optional,
            "content": {JSON: {"schema": schemas[function.name, 0]}},
        }
    return operation


def _parameters(function: HttpFunction) -> list[Json]:
    parameters: list[Json] = [
        {"name": to_camel(name), "in": "path", "required": True, "schema": _VARIABLE_SCHEMA}
        for name in _VARIABLE.findall(function.path)
    ]
    parameters += [
        {"name": name, "in": "query", "schema": TypeAdapter(shape).json_schema()}
        for name, shape in function.query.items()
    ]
    return parameters + [{"$ref": f"#/components/parameters/{name}"} for name in _common_parameters(function)]


def _common_parameters(function: HttpFunction) -> Iterable[str]:
    if function.lists is not None:
        yield from ("prefer",) if function.method == "POST" else ("q", "offset", "limit", "after", "prefer")
    if _body_of(function) is not None:
        yield "fieldValidation"
    if _takes_key(function):
        yield "idempotencyKey"
    if function.scope is not None and function.method != "GET" and function.lists is None:
        yield "reason"
    if function.acts:
        yield "ifMatch"
    if function.method == "PUT" or (function.method == "GET" and _has_version(function.gives.get(200))):
        yield "ifNoneMatch"


def _responses(function: HttpFunction, schemas: Mapping[Key, Json]) -> Json:
    responses: Json = {}
    for status, shape in function.gives.items():
        names = ["X-Request-Id", *_header_names(function, status, shape)]
        responses[str(status)] = {
            "description": _RESULTS.get(status, "Done."),
            "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in names},
        }
        if shape is not None:
            responses[str(status)]["content"] = {function.media: {"schema": schemas[function.name, status]}}
    if function.method == "GET" and _has_version(function.gives.get(200)):
        responses["304"] = {
            "description": "This version is known already.",
            "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in ("X-Request-Id", "ETag")},
        }
    statuses = set(_failures(function))
    for problem in PROBLEMS:
        if problem.status in statuses:
            responses[str(problem.status)] = {"$ref": f"#/components/responses/{problem.name}"}
    return responses | {"default": {"$ref": "#/components/responses/problem"}}


def _header_names(function: HttpFunction, status: int, shape: Any) -> Iterable[str]:
    if _has_version(shape):
        yield "ETag"
    if status == 201 and shape is not None:
        yield "Location"
    if status == 202:
        yield from ("Link", "Retry-After")
    if function.lists is not None:
        yield from ("X-Total-Count", "Link", "Preference-Applied")
    if function.media == BATCH:
        yield "Link"
    if _body_of(function) is not None:
        yield "Warning"
    if _takes_key(function):
        yield "Idempotency-Replayed"


def _failures(function: HttpFunction) -> Iterable[int]:
    """The statuses of the failures that are to be reckoned with."""
    changes = function.method != "GET" and function.lists is None
    if changes or function.lists is not None or function.query:
        yield 400
    if function.scope is not None:
        yield from (401, 403)
    elif function.requires:
        # What needs no scope is allowed by a token of its own.
        yield 403
    if not function.gives:
        yield 405
    if "{" in function.path:
        yield 404
    if changes:
        yield from (409, 422)
    if function.acts:
        yield 412
    if _body_of(function) is not None or _takes_key(function):
        yield from (413, 415)
    yield 429
    if function.scope is not None or function.requires:
        yield from (500, 503)


def _takes_key(function: HttpFunction) -> bool:
    return function.method == "POST" and function.lists is None and function.scope is not None


def _has_version(shape: Any) -> bool:
    return isinstance(shape, type) and issubclass(shape, BaseModel) and "version" in shape.model_fields


def _problem(status: int, description: str) -> Json:
    names = ["X-Request-Id"]
    names += ["WWW-Authenticate"] if status in {401, 403} else []
    names += ["Retry-After"] if status in {409, 429, 503} else []
    names += ["RateLimit", "RateLimit-Policy"] if status == 429 else []
    content = {"schema": {"$ref": f"#/components/schemas/{ProblemDocument.__name__}"}}
    return {
        "description": description,
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in names},
        "content": {JSON: content, MEDIA: content},
    }
