"""What the stand-ins have in common: requests, answers, routes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote


@dataclass(frozen=True, slots=True)
class Answer:
    """``body`` is sent as JSON, a text as it is; None sends nothing."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def encoded(self) -> tuple[bytes, str]:
        """The body's bytes and type."""
        match self.body:
            case None:
                return b"", ""
            case str():
                return self.body.encode(), "text/plain;charset=utf-8"
            case _:
                return json.dumps(self.body, separators=(",", ":")).encode(), "application/json"


class Refused(Exception):
    """Ends the handling of a request with an answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Request:
    """``path`` is still encoded, and begins behind the service's prefix; names of headers are in lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def bearer(self) -> str:
        kind, _, token = self.headers.get("authorization", "").partition(" ")
        return token.strip() if kind.lower() == "bearer" else ""

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "").split(";")[0].strip().lower()


Handler = Callable[..., Answer]


class Service:
    """One stand-in: its routes, in the order in which they are tried. The server calls it by one thread at a time."""

    name = ""
    prefix = ""

    def __init__(self) -> None:
        self._routes: list[tuple[str, re.Pattern[str], Handler]] = []

    def route(self, method: str, path: str, handler: Handler) -> None:
        """Let ``handler`` answer ``method`` on ``path``; called with the request and the path's variables by name."""
        pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(path))
        pattern = re.sub(r"\\{(\w+)\\\.\\\.\\\.\\}", r"(?P<\1>.+)", pattern)
        self._routes.append((method, re.compile(pattern), handler))

    def answer(self, request: Request) -> Answer:
        """Answer a request by its route; 404 where no path fits, 405 where no method does."""
        allowed = []
        for method, pattern, handler in self._routes:
            if found := pattern.fullmatch(request.path):
                if method == request.method:
                    variables = {name: unquote(value) for name, value in found.groupdict().items()}
                    try:
                        return handler(request, **variables)
                    except Refused as refused:
                        return refused.answer
                allowed.append(method)
        if allowed:
            return Answer(405, headers={"Allow": ", ".join(sorted(set(allowed)))})
        return Answer(404, "not found")

    def state(self) -> Any:
        """All that the stand-in holds, as JSON; no secrets."""
        return None

    def secrets(self) -> Iterator[str]:
        """Every secret that the stand-in holds or has given away, for whoever looks where they have got to."""
        yield from ()
