"""Pages of a list: offset and limit as the contract has them, and links that work.

Source: CFM wire contract, section 7.
"""

from __future__ import annotations

from urllib.parse import urlencode

import flask
from pydantic import StrictInt

from cfm_core.contracts.documents import Document
from cfm_core.errors import FieldError, ValidationError
from cfm_core.query.page import MOST, Page

__all__ = ["MOST", "Page", "QueryRequest", "headers", "page_of"]


class QueryRequest(Document):
    """The body of a ``POST .../query``."""

    predicate: str = ""
    offset: StrictInt = 0
    limit: StrictInt = 0

    def page(self) -> Page:
        """Raises ValidationError for a negative offset or limit."""
        return _checked(self.offset, self.limit)


def page_of(request: flask.Request) -> Page:
    """The page that the URL asks for.

    Raises:
        ValidationError: ``offset`` or ``limit`` is not an integer, or negative.
    """
    numbers = {}
    for name in ("offset", "limit"):
        raw = request.args.get(name, "")
        try:
            numbers[name] = int(raw) if raw else 0
        except ValueError:
            raise ValidationError(
                f"Invalid {name}: {raw!r} is not an integer", [FieldError(f"/{name}", "integer")]
            ) from None
    return _checked(numbers["offset"], numbers["limit"])


def _checked(offset: int, limit: int) -> Page:
    for name, value in (("offset", offset), ("limit", limit)):
        if value < 0:
            raise ValidationError(
                f"Invalid {name}: {value} is negative", [FieldError(f"/{name}", "must not be negative")]
            )
        if value >= 2**63:
            raise ValidationError(f"Invalid {name}: {value} is too large", [FieldError(f"/{name}", "too large")])
    return Page(offset, min(limit, MOST) or MOST)


def headers(request: flask.Request, page: Page, total: int) -> dict[str, str]:
    """``X-Total-Count`` and ``Link`` for one page of a list of ``total`` entries."""
    base = request.base_url

    def link(offset: int, relation: str) -> str:
        query = {name: value for name, value in request.args.items() if name not in {"offset", "limit"}}
        return f'<{base}?{urlencode(query | {"offset": str(offset), "limit": str(page.limit)})}>; rel="{relation}"'

    links = [link(page.offset, "self")]
    if page.offset + page.limit < total:
        links.append(link(page.offset + page.limit, "next"))
    if page.offset > 0:
        links.append(link(max(0, page.offset - page.limit), "prev"))
    links.append(link(0, "first"))
    links.append(link(max(0, (total - 1) // page.limit * page.limit), "last"))
    return {"X-Total-Count": str(total), "Link": ", ".join(links)}
