"""What the API says of itself: its OpenAPI document, a page that shows it, and the meaning of problems. No token is needed."""

from __future__ import annotations

import functools
import importlib
from typing import Any

from flask import Request, Response

from cfm_core.contracts.documents import Document
from cfm_core.declaration import HttpFunction, discover
from cfm_core.errors import NotFoundError
from cfm_core.function import http_function
from cfm_core.web import answers, docs, openapi, problems, urls

DOCS = "/docs"

_HERE = "functions"
_MANAGERS = ("managers", "provision_manager", "tenant_manager")


class ProblemKindDocument(Document):
    """One kind of problem: what it means, and what to do about it."""

    name: str
    status: int
    title: str
    meaning: str
    remedy: str


@http_function("GET", "/openapi.json", scope=None, gives={200: dict[str, Any]})
def get_openapi(request: Request) -> Response:
    """The OpenAPI document of both managers."""
    document = _document()
    if base := urls.local(request, ""):
        document = document | {"servers": [{"url": base}]}
    return answers.json_value(document)


@http_function("GET", DOCS, scope=None, gives={200: str}, media="text/html")
def get_docs(request: Request) -> Response:
    """A page that shows the OpenAPI document."""
    return docs.page(request, DOCS)


@http_function("GET", DOCS + "/{name}", scope=None, gives={200: str}, media="*/*")
def get_docs_file(request: Request, name: str) -> Response:
    """A file of that page."""
    found = docs.file(name)
    if found is None:
        raise NotFoundError("file", name)
    return found


@http_function("GET", problems.PATH + "/{name}", scope=None, gives={200: ProblemKindDocument})
def get_problem(request: Request, name: str) -> Response:
    """What the type of a problem means, and what to do about it: a page for a browser, else JSON."""
    found = problems.find(name)
    if found is None:
        raise NotFoundError("problem", name)
    if "text/html" in request.headers.get("Accept", ""):
        return docs.problem_page(found)
    kind = ProblemKindDocument(
        name=found.name, status=found.status, title=found.title, meaning=found.meaning, remedy=found.remedy
    )
    return answers.json_value(kind.to_json())


@functools.cache
def _document() -> dict[str, Any]:
    # A process that serves this function alone has imported no other one.
    packages = [importlib.import_module(f"{_HERE}.{name}") for name in _MANAGERS]
    return openapi.document(one for package in packages for one in discover(package) if isinstance(one, HttpFunction))
