"""The feed of what has happened to the Tenant Manager's entities."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from flask import Request, Response
from pydantic import Field

from cfm_core.errors import FieldError, ValidationError
from cfm_core.eventing.cloudevents import BATCH
from cfm_core.function import http_function
from cfm_core.tenancy.assembly import FEED
from cfm_core.tenancy.feed.service import Feed
from cfm_core.tenancy.feed.v1alpha1 import EventDocument
from cfm_core.web import urls
from cfm_core.web.auth import TM_READ

PATH = "/api/v1alpha1/events"


@http_function(
    *("GET", PATH),
    scope=TM_READ,
    rights=["read *"],
    requires=[FEED],
    gives={200: list[EventDocument]},
    media=BATCH,
    query={"after": str, "subject": str, "limit": Annotated[int, Field(ge=0)]},
)
def list_events(request: Request, feed: Feed) -> Response:
    """What has happened behind ``after``, the sequence of an event, or since the oldest that is kept; events last 7 days.

    ``subject`` is that of one entity, such as ``tenants/<id>``, or of a kind, such as ``tenants``. ``limit`` is 100 unless
    given, and 1,000 at most. The link to the next batch is there even if this one is empty: whoever follows it again and
    again misses nothing and gets nothing twice.
    """
    asked = {name: request.args.get(name, "") for name in ("subject", "limit", "after")}
    batch = feed.read(asked["after"], asked["subject"], _number(asked["limit"]))
    following = urlencode({name: value for name, value in (asked | {"after": batch.last}).items() if value})
    link = f'<{urls.absolute(request, PATH)}?{following}>; rel="next"'
    return Response(batch.text, 200, {"Link": link}, content_type=BATCH)


def _number(text: str) -> int:
    try:
        return int(text or 0)
    except ValueError:
        raise ValidationError(f"Invalid limit: {text!r} is not an integer", [FieldError("/limit", "integer")]) from None
