"""Lets requests through to functions so that slow clients hold nobody up: bodies are awaited before, answers given whole."""

from __future__ import annotations

import io
import queue
import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from cfm_core.errors import RecoverableError
from cfm_core.web.body import LIMIT
from local.connections import Connections

if TYPE_CHECKING:
    from wsgiref.types import InputStream, StartResponse, WSGIApplication, WSGIEnvironment


class TooSlowError(RecoverableError):
    """The request has not come to its end in time."""

    status = 408


class Admission:
    """Calls ``app`` for requests whose body is there, ``places`` of them at a time.

    Args:
        connections: ends those whose requests take too long to arrive.
    """

    def __init__(self, app: WSGIApplication, places: int, connections: Connections) -> None:
        self._app = app
        self._connections = connections
        self._places: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(places):
            self._places.put(None)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        if not self._has_arrived(environ):
            return _too_slow(environ, start_response)
        thread = threading.get_ident()
        self._connections.in_hand[thread] = time.monotonic()
        self._places.get()
        try:
            return _whole(self._app(environ, start_response))
        finally:
            self._places.put(None)
            del self._connections.in_hand[thread]

    def _has_arrived(self, environ: WSGIEnvironment) -> bool:
        """Await the body and put it, or what tells that it is too large, where its stream was; False: it broke off."""
        chunked = "HTTP_TRANSFER_ENCODING" in environ
        length = LIMIT + 1 if chunked else int(environ.get("CONTENT_LENGTH") or 0)
        if length == 0 or (length > LIMIT and not chunked):
            # What is announced as too large is refused for its length alone.
            environ["wsgi.input"] = io.BytesIO()
            return True
        ended = self._connections.ended
        body = _read(environ["wsgi.input"], length)
        environ["wsgi.input"] = io.BytesIO(body)
        # A stream of chunks looks whole when its connection has been ended.
        return ended == self._connections.ended if chunked else len(body) == length


def _read(stream: InputStream, most: int) -> bytes:
    parts = []
    while most > 0 and (part := stream.read(most)):
        parts.append(part)
        most -= len(part)
    return b"".join(parts)


def _whole(body: Iterable[bytes]) -> list[bytes]:
    """All of an answer: what is given in pieces keeps its thread until the client has taken all but the last."""
    try:
        return list(body)
    finally:
        if (close := getattr(body, "close", None)) is not None:
            close()


def _too_slow(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    import flask

    from cfm_core.web import edge

    request = flask.Request(environ)
    error = TooSlowError("the request has not come to its end in time")
    return _whole(edge.refused(request, error)(environ, start_response))
