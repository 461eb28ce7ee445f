"""The answers of the API: JSON always, by status."""

from __future__ import annotations

import json
from typing import Any, Protocol

import flask

from cfm_core.web.paging import Page, headers

JSON = "application/json"


class Found(Protocol):
    """The entries of a page as a JSON array, and how many there are in all."""

    @property
    def text(self) -> str: ...

    @property
    def total(self) -> int: ...


def json_text(text: str, status: int = 200, headers: dict[str, str] | None = None) -> flask.Response:
    """Answer with a JSON text as it is."""
    return flask.Response(text, status, headers, content_type=JSON)


def json_value(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> flask.Response:
    """Answer with a value as compact JSON."""
    return json_text(json.dumps(value, separators=(",", ":"), ensure_ascii=False), status, headers)


def page(request: flask.Request, wanted: Page, found: Found) -> flask.Response:
    """One page of a list, with its total and links."""
    return json_text(found.text, 200, headers(request, wanted, found.total))


def created(text: str, location: str) -> flask.Response:
    """201 with the new entity and where it is."""
    return json_text(text, 201, {"Location": location})


def accepted(text: str, monitor: str) -> flask.Response:
    """202: the work goes on, and ``monitor`` is where it can be followed."""
    return json_text(text, 202, {"Link": f'<{monitor}>; rel="monitor"', "Retry-After": "1"})


def empty(status: int = 200, headers: dict[str, str] | None = None) -> flask.Response:
    """A JSON answer of zero bytes, as the contract has them."""
    return json_text("", status, headers)
