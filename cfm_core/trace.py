"""The W3C trace context of what is being done: it comes with a request or an event, and goes on with all that follows.

Source: W3C Trace Context, W3C Baggage; CFM wire contract, sections 9.2 and 11.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from types import MappingProxyType
from typing import Protocol

Context = Mapping[str, str]
"""``traceparent``, with ``tracestate`` and ``baggage`` where there are any; or nothing."""

NAMES = ("traceparent", "tracestate", "baggage")
"""What headers and attributes of events are called that carry it."""
NONE: Context = MappingProxyType({})

# All that a header may hold, no line break, and no space at either end: what is not understood here is for others to understand.
_FORMS = (
    ("tracestate", re.compile(r"(?=[\x20-\x7e]{1,512}\Z)(?! ).*(?<! )")),
    ("baggage", re.compile(r"(?=[\x20-\x7e]{1,8192}\Z)(?! ).*(?<! )")),
)
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")

_current: ContextVar[Context] = ContextVar("trace", default=NONE)


class Source(Protocol):
    """Headers, or attributes of an event."""

    def get(self, name: str, /) -> object:
        """What has this name, in lower case; None where there is nothing."""
        ...


def of(source: Source) -> Context:
    """The trace context among headers or attributes; empty where there is none that holds.

    What is malformed or too long is left out; without a ``traceparent`` the others belong to nothing.
    """
    parent = source.get("traceparent")
    if not isinstance(parent, str) or not _TRACEPARENT.fullmatch(parent):
        return NONE
    context = {"traceparent": parent}
    for name, form in _FORMS:
        value = source.get(name)
        if isinstance(value, str) and form.fullmatch(value):
            context[name] = value
    return MappingProxyType(context)


def common(contexts: Sequence[Context]) -> Context:
    """The one that all of them are; empty where they differ, or there is none."""
    first, *others = contexts or [NONE]
    return first if first and all(one == first for one in others) else NONE


def text_of(context: Context) -> str | None:
    """A context as JSON, as it is stored; None where there is none."""
    return json.dumps(dict(context)) if context else None


@contextlib.contextmanager
def within(context: Context) -> Iterator[None]:
    """What this thread does in the block belongs to ``context``, and so does each line that it logs."""
    token = _current.set(context)
    try:
        yield
    finally:
        _current.reset(token)


def headers() -> Context:
    """The headers with which a call belongs to what this thread is doing; empty outside of any trace."""
    return _current.get()
