"""The answers of the API: JSON always, by status."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import flask

from cfm_core.errors import FieldError
from cfm_core.query.page import JsonPage
from cfm_core.web import conditional, urls
from cfm_core.web.paging import Asked, headers

JSON = "application/json"
_MOST_WARNINGS = 5
_LONGEST_WARNING = 200


class Entity(Protocol):
    """An entity as the API shows it, and its version."""

    @property
    def text(self) -> str: ...

    @property
    def version(self) -> int: ...


def json_text(text: str | bytes, status: int = 200, headers: dict[str, str] | None = None) -> flask.Response:
    """Answer with a JSON text as it is."""
    return flask.Response(text, status, headers, content_type=JSON)


def json_value(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> flask.Response:
    """Answer with a value as compact JSON."""
    return json_text(json.dumps(value, separators=(",", ":"), ensure_ascii=False), status, headers)


def page(request: flask.Request, asked: Asked, found: JsonPage) -> flask.Response:
    """One page of a list, with its total and links."""
    return json_text(found.json, 200, headers(request, asked, found))


def entity(request: flask.Request, found: Entity) -> flask.Response:
    """One entity with its tag; 304 for a reader who has this version already."""
    told = {"ETag": conditional.tag(found.version)}
    if request.method in {"GET", "HEAD"} and conditional.is_known(request, found.version):
        return flask.Response(status=304, headers=told)
    return json_text(found.text, 200, told)


def created(request: flask.Request, found: Entity, path: str) -> flask.Response:
    """201 with the new entity and where it is."""
    return json_text(found.text, 201, {"Location": urls.local(request, path), "ETag": conditional.tag(found.version)})


def accepted(request: flask.Request, text: str, monitor: str, version: int | None = None) -> flask.Response:
    """202: the work goes on, and ``monitor`` is the path where it can be followed."""
    told = {"Link": f'<{urls.local(request, monitor)}>; rel="monitor"', "Retry-After": "1"}
    return json_text(text, 202, told | ({} if version is None else {"ETag": conditional.tag(version)}))


def empty(status: int = 200, headers: dict[str, str] | None = None) -> flask.Response:
    """A JSON answer of zero bytes, as the contract has them."""
    return json_text("", status, headers)


def with_warnings(response: flask.Response, doubts: Sequence[FieldError]) -> flask.Response:
    """The answer, with a ``Warning`` about the first of what is doubtful in the request's body."""
    for one in doubts[:_MOST_WARNINGS]:
        warn(response, f"{one.pointer}: {one.detail}"[:_LONGEST_WARNING])
    return response


def warn(response: flask.Response, text: str) -> None:
    # As JSON a text is a quoted string of ASCII, whatever stands in it.
    told = f"299 - {json.dumps(text)}"
    response.headers["Warning"] = ", ".join(filter(None, (response.headers.get("Warning"), told)))


def no_such_page() -> flask.Response:
    """404 for a path that nobody answers, as the contract has it."""
    return flask.Response("404 page not found\n", 404, content_type="text/plain; charset=utf-8")


def not_allowed(methods: Iterable[str]) -> flask.Response:
    """405 for a method that the path does not answer, as the contract has it: without a body."""
    response = flask.Response(status=405, headers={"Allow": ", ".join(methods)})
    del response.headers["Content-Type"]
    return response
