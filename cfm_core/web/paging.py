"""Lists as they are asked for: a predicate and a page, from the URL or from a document; and links to the other pages.

Source: CFM wire contract, section 7.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlencode

import flask
from pydantic import StrictInt

from cfm_core.contracts.documents import Document
from cfm_core.errors import FieldError, ValidationError
from cfm_core.query.page import MOST, JsonPage, Page
from cfm_core.web import urls

__all__ = ["MOST", "Asked", "Page", "QueryRequest", "asked_by_document", "asked_by_url", "headers"]

_INTEGER = re.compile(r"[+-]?[0-9]{1,4000}")
LONGEST_LINKED = 1024
"""Characters of a predicate that links repeat; a list with a longer one has none, so that headers stay small."""


class QueryRequest(Document):
    """The body of a ``POST .../query``."""

    predicate: str = ""
    offset: StrictInt = 0
    limit: StrictInt = 0
    after: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """A list that somebody asks for."""

    predicate: str
    page: Page


def asked_by_url(request: flask.Request) -> Asked:
    """What the URL says: ``q``, ``offset``, ``limit`` and ``after``; without ``q``, everything.

    Raises:
        ValidationError: ``offset`` or ``limit`` is not an integer, negative, or out of range.
    """
    numbers = {}
    for name in ("offset", "limit"):
        raw = request.args.get(name, "")
        if raw and not _INTEGER.fullmatch(raw):
            raise ValidationError(f"Invalid {name}: not an integer", [FieldError(f"/{name}", "must be an integer")])
        numbers[name] = int(raw or 0)
    predicate = request.args.get("q", "true")
    return Asked(predicate, _page(request, numbers["offset"], numbers["limit"], request.args.get("after", "")))


def asked_by_document(request: flask.Request, document: QueryRequest) -> Asked:
    """What the document says.

    Raises:
        ValidationError: ``offset`` or ``limit`` is negative, or out of range.
    """
    return Asked(document.predicate, _page(request, document.offset, document.limit, document.after))


def _page(request: flask.Request, offset: int, limit: int, after: str) -> Page:
    for name, value in (("offset", offset), ("limit", limit)):
        if not -(2**63) <= value < 2**63:
            raise ValidationError(f"Invalid {name}: it is out of range", [FieldError(f"/{name}", "out of range")])
        if value < 0:
            raise ValidationError(
                f"Invalid {name}: {value} is negative", [FieldError(f"/{name}", "must not be negative")]
            )
    return Page(offset, min(limit, MOST) or MOST, after, counted=not _count_is_unwanted(request))


def _count_is_unwanted(request: flask.Request) -> bool:
    preferences: str = request.environ.get("HTTP_PREFER", "")
    return any(one.split(";")[0].strip().lower() == "count=none" for one in preferences.split(","))


def headers(request: flask.Request, asked: Asked, found: JsonPage) -> dict[str, str]:
    """``X-Total-Count`` and ``Link`` for one page of a list.

    A link to the next page names both the place where it begins and the key of the entry before it, which leads there at
    once; where both are given, the key counts.
    """
    page = asked.page
    told = {"Preference-Applied": "count=none"} if not page.counted else {"X-Total-Count": str(found.total)}
    if len(asked.predicate) > LONGEST_LINKED:
        return told
    path = urls.path_of(request).rstrip("/").removesuffix("/query")
    base = urls.absolute(request, path)
    kept = {name: value for name, value in request.args.items() if name not in {"offset", "limit", "after", "q"}}
    if asked.predicate != "true":
        kept["q"] = asked.predicate

    def link(relation: str, offset: int, after: str = "") -> str:
        place = {"offset": str(offset), "limit": str(page.limit)} | ({"after": after} if after else {})
        return f'<{base}?{urlencode(kept | place)}>; rel="{relation}"'

    links = [link("self", page.offset, page.after)]
    if found.more:
        links.append(link("next", page.offset + found.size, found.last))
    if page.offset > 0:
        links.append(link("prev", max(0, page.offset - page.limit)))
    links.append(link("first", 0))
    if found.total is not None:
        links.append(link("last", max(0, (found.total - 1) // page.limit * page.limit)))
    return told | {"Link": ", ".join(links)}
