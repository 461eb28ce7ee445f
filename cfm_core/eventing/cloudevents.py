"""CloudEvents 1.0 over HTTP, all three content modes, and the form in which they travel over NATS.

The one module that knows the ``cloudevents`` package.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.parse import quote, unquote

from cloudevents.exceptions import GenericException
from cloudevents.http import from_http

from cfm_core import trace
from cfm_core.contracts.reply import EventDict
from cfm_core.errors import ValidationError

if TYPE_CHECKING:
    from werkzeug.datastructures import Headers

T = TypeVar("T")

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
_REQUIRED = ("id", "source", "type")
_NO_ATTRIBUTES = frozenset({"data", "datacontenttype", *trace.NAMES})
_UNQUOTED = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')
"""What a header value may hold as it is; CloudEvents has everything else percent-encoded."""


@dataclass(frozen=True, slots=True)
class CloudEvent(Generic[T]):
    """An event as a handler sees it: ``source`` and ``id`` together identify it, ``data`` is checked already."""

    id: str
    source: str
    type: str
    subject: str
    data: T
    time: datetime | None = None
    """When it happened, as far as its sender says; aware."""
    trace: Mapping[str, str] = field(default_factory=dict)
    """The W3C trace context that it belongs to; empty where there is none."""


def time_of(event: Mapping[str, Any]) -> datetime | None:
    """When the event in its JSON form happened; None where it does not say so, or not in a way that can be understood."""
    try:
        found = datetime.fromisoformat(str(event.get("time")))
    except ValueError:
        return None
    return found if found.tzinfo else None


def event(
    *, type: str, source: str, subject: str, data: Any, id: str | None = None, belongs_to: trace.Context = trace.NONE
) -> EventDict:
    """Make an event in its JSON form, with a random id unless one is given, and with the trace context ``belongs_to``."""
    return {
        "specversion": "1.0",
        "id": id or str(uuid.uuid4()),
        "source": source,
        "type": type,
        "subject": subject,
        "datacontenttype": "application/json",
        "data": data,
        **belongs_to,
    }


def from_request(headers: Mapping[str, str] | Headers, body: bytes) -> tuple[list[EventDict], bool]:
    """Read the events of an HTTP request in structured, binary or batch mode.

    Returns:
        The events in their JSON form, and whether they came as a batch.

    Raises:
        ValidationError: the request holds no well-formed event.
    """
    content_type = headers.get("Content-Type", "").split(";")[0].strip().lower()
    if content_type == BATCH:
        try:
            items = json.loads(body)
        except RecursionError:
            raise ValidationError("the batch is nested too deeply") from None
        except ValueError as error:
            raise ValidationError(f"the batch is not JSON: {error}") from None
        if not isinstance(items, list):
            raise ValidationError("a batch of CloudEvents is a JSON array")
        for index, item in enumerate(items):
            if not isinstance(item, dict) or not _has_what_is_required(item):
                raise ValidationError(f"item {index} of the batch is not a CloudEvent")
        return items, True
    try:
        parsed = from_http(dict(headers), body)
    except (GenericException, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValidationError(f"the request is not a CloudEvent: {error}") from None
    if not _has_what_is_required(parsed.get_attributes()):
        raise ValidationError(
            f"the request is not a CloudEvent: {', '.join(_REQUIRED)} must be texts that are not empty"
        )
    return [{**parsed.get_attributes(), "data": parsed.get_data()}], False


def _has_what_is_required(attributes: Mapping[str, Any]) -> bool:
    return all(isinstance(attributes.get(name), str) and attributes[name] for name in _REQUIRED)


def to_batch(events: Sequence[EventDict]) -> bytes:
    """The body of a request or message in batch mode."""
    return json.dumps(events, separators=(",", ":"), ensure_ascii=False).encode()


def to_nats(events: Sequence[EventDict], *, bare: bool) -> tuple[bytes, dict[str, str]]:
    """The body and headers of a NATS message.

    Args:
        bare: write the data alone as the body and the attributes as ``ce-`` headers (binary mode), as the wire contract's
            subjects need it; takes exactly one event. The trace context is in headers of its own names there, and one that does
            not hold is left out.
    """
    if not bare:
        return to_batch(events), {"Content-Type": BATCH}
    (one,) = events
    attributes = {name: str(value) for name, value in one.items() if name not in _NO_ATTRIBUTES}
    headers = {f"ce-{name}": quote(value, safe=_UNQUOTED) for name, value in attributes.items()}
    headers |= {"Content-Type": "application/json", **trace.of(one)}
    return json.dumps(one["data"], separators=(",", ":")).encode(), headers


def from_nats(subject: str, headers: Mapping[str, str] | None, body: bytes, *, fallback_id: str) -> list[EventDict]:
    """Read the events of a NATS message: a batch, one structured event, binary mode, or the contract's bare document.

    A bare document without headers, as the reference writes it, becomes an event whose id is ``fallback_id``. The trace context
    that is in the headers is the event's, unless that has one of its own; one that does not hold is left out.

    Raises:
        ValidationError: the body is nothing of these.
    """
    found = {name.lower(): value for name, value in (headers or {}).items()}
    content_type = found.get("content-type", "").split(";")[0].lower()
    if content_type == BATCH:
        return from_request({"Content-Type": BATCH}, body)[0]
    if content_type == STRUCTURED or "ce-specversion" in found:
        quoted = {name: unquote(value) if name.startswith("ce-") else value for name, value in found.items()}
        read, _ = from_request(
            {name.title() if name == "content-type" else name: value for name, value in quoted.items()}, body
        )
        return [_traced(one, trace.of(one) or trace.of(found)) for one in read]
    try:
        data = json.loads(body)
    except ValueError as error:
        raise ValidationError(f"the message is not JSON: {error}") from None
    carried = event(type=subject, source=f"nats:{subject}", subject=subject, data=data, id=fallback_id)
    return [_traced(carried, trace.of(found))]


def _traced(event: EventDict, context: trace.Context) -> EventDict:
    return {**{name: value for name, value in event.items() if name not in trace.NAMES}, **context}
