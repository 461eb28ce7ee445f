"""Hands requests on to the process of their function, for stacks in which each function has its own."""

from __future__ import annotations

import http.client
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING
from urllib.parse import quote

from cfm_core.declaration import HttpFunction
from cfm_core.errors import RecoverableError

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

_TIMEOUT_SECONDS = 60
_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade"})


class Upstreams:
    """Where the functions are: their ports on this machine, by name."""

    def __init__(self, ports: Mapping[str, int]) -> None:
        self._ports = dict(ports)

    def of(self, function: HttpFunction) -> WSGIApplication:
        """What hands a request on to ``function``."""
        port = self._ports[function.name]

        def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            return _forward(port, function.name, environ, start_response)

        return app


def _forward(port: int, name: str, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_SECONDS)
    path = quote(environ["PATH_INFO"].encode("latin-1"), safe="/:@!$&'()*+,;=~")
    query = environ.get("QUERY_STRING", "")
    try:
        connection.request(
            environ["REQUEST_METHOD"],
            f"{path}?{query}" if query else path,
            environ["wsgi.input"].read(),
            _headers(environ),
        )
        answer = connection.getresponse()
        body = answer.read()
    except OSError:
        return _away(name, environ, start_response)
    finally:
        connection.close()
    headers = [(key, value) for key, value in answer.getheaders() if key.lower() not in _HOP_BY_HOP]
    start_response(f"{answer.status} {answer.reason}", headers)
    return [body]


def _headers(environ: WSGIEnvironment) -> dict[str, str]:
    headers = {
        key[5:].replace("_", "-").title(): value
        for key, value in environ.items()
        if key.startswith("HTTP_") and key[5:].replace("_", "-").lower() not in _HOP_BY_HOP
    }
    if address := environ.get("REMOTE_ADDR"):
        headers["X-Forwarded-For"] = ", ".join(filter(None, (headers.get("X-Forwarded-For"), address)))
    if content_type := environ.get("CONTENT_TYPE"):
        headers["Content-Type"] = content_type
    if content_length := environ.get("CONTENT_LENGTH"):
        # Also of a body that is too large to be passed on: it is what the function refuses.
        headers["Content-Length"] = content_length
    return headers


def _away(name: str, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    import flask

    from cfm_core.web import edge

    request = flask.Request(environ)
    error = RecoverableError(f"the function {name} does not answer now", retry_after=1)
    return edge.refused(request, error)(environ, start_response)
