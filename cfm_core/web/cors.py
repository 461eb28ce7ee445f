"""Pages of other origins that may ask from a browser: none, unless they are configured one by one.

Nothing is allowed with credentials: a caller is known by a token in a header, which a page has to have, and by no cookie.

Source: Fetch Standard, "CORS protocol".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

import flask

from cfm_core import trace

_SENT = (
    *("Authorization", "Content-Type", "If-Match", "If-None-Match", "Idempotency-Key", "Prefer"),
    *("X-Reason", "X-Request-Id", *trace.NAMES),
)
"""What a page may send besides what every page may."""
_SHOWN = (
    *("ETag", "Idempotency-Replayed", "Link", "Location", "Preference-Applied", "RateLimit", "RateLimit-Policy"),
    *("Retry-After", "Warning", "WWW-Authenticate", "X-Request-Id", "X-Total-Count"),
)
"""What a page may read of an answer besides what every page may."""
_HOLDS_SECONDS = 600
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Origins:
    """The origins that may ask, each as a browser writes it."""

    allowed: frozenset[str] = frozenset()

    @classmethod
    def of(cls, text: str) -> Origins:
        """The origins of a text with commas between them.

        Raises:
            ValueError: one is not written as a browser writes it; a wildcard and ``null`` are none.
        """
        found = frozenset(part.strip() for part in text.split(",") if part.strip())
        for one in found:
            _check(one)
        return cls(found)

    def preflight(self, request: flask.Request, methods: Iterable[str]) -> flask.Response | None:
        """The answer to a browser that asks whether a page may send a request; None where it does not ask, or may not."""
        asks = request.method == "OPTIONS" and "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in request.environ
        if not asks or request.environ.get("HTTP_ORIGIN") not in self.allowed:
            return None
        response = flask.Response(status=204)
        del response.headers["Content-Type"]
        response.headers["Access-Control-Allow-Methods"] = ", ".join(methods)
        response.headers["Access-Control-Allow-Headers"] = ", ".join(_SENT)
        response.headers["Access-Control-Max-Age"] = str(_HOLDS_SECONDS)
        return response

    def show(self, request: flask.Request, response: flask.Response) -> None:
        """Let the page that has asked read the answer, if it is of an origin that may; nobody else's page can."""
        if not self.allowed:
            return
        # Also for others: what is kept for one origin must not be given to another.
        response.headers.add("Vary", "Origin")
        origin = request.environ.get("HTTP_ORIGIN")
        if origin in self.allowed:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Expose-Headers"] = ", ".join(_SHOWN)


def _check(origin: str) -> None:
    parts = urlsplit(origin)
    # Raises ValueError, too.
    port = parts.port
    written = f"{parts.scheme}://{parts.netloc}"
    if (
        parts.scheme not in _PORTS
        or not parts.hostname
        or origin != written
        or origin != origin.lower()
        or not origin.isascii()
        or not origin.isprintable()
        or any(letter in parts.netloc for letter in "@*\\ ")
        or port == _PORTS[parts.scheme]
    ):
        raise ValueError(f"{origin!r} is no origin such as https://console.example or http://localhost:3000")
