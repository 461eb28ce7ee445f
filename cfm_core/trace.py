"""The W3C trace context of what is being done: it comes with a request or an event, and goes on with every call that follows."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from types import MappingProxyType

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_TRACESTATE = re.compile(r"[\x20-\x7e]{1,512}")
_NONE: Mapping[str, str] = MappingProxyType({})

_current: ContextVar[Mapping[str, str]] = ContextVar("trace", default=_NONE)


def of(source: Mapping[str, object]) -> Mapping[str, str]:
    """The trace context among headers or attributes, whose names are in lower case; empty where there is none that holds."""
    parent, state = source.get("traceparent"), source.get("tracestate")
    if not isinstance(parent, str) or not _TRACEPARENT.fullmatch(parent):
        return _NONE
    if not isinstance(state, str) or not _TRACESTATE.fullmatch(state):
        return MappingProxyType({"traceparent": parent})
    return MappingProxyType({"traceparent": parent, "tracestate": state})


@contextlib.contextmanager
def within(context: Mapping[str, str]) -> Iterator[None]:
    """What this thread does in the block belongs to ``context``."""
    token = _current.set(context)
    try:
        yield
    finally:
        _current.reset(token)


def headers() -> Mapping[str, str]:
    """The headers with which a call belongs to what this thread is doing; empty outside of any trace."""
    return _current.get()
