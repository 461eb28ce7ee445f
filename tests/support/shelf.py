"""A small service of somebody's own: things in memory, by id."""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Shelf(ThreadingHTTPServer):
    """``POST /things`` makes one, with a number for an id where none is given; 409 where it is there already."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.things: dict[str, Any] = {}
        self.headers_seen: list[dict[str, str]] = []
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def answer(self, method: str, path: str, document: Any) -> tuple[int, Any]:
        """The status and document for one request."""
        with self._lock:
            if path == "/things":
                if method == "GET":
                    return 200, [{"id": key} for key in self.things]
                key = str(document.get("id") or next(self._numbers))
                if key in self.things:
                    return 409, {"error": "there already"}
                self.things[key] = document
                return 201, {"id": key}
            key = path.removeprefix("/things/")
            if method == "PUT":
                self.things[key] = document
                return 200, {}
            if method == "GET":
                return (200, self.things[key]) if key in self.things else (404, {})
            return (200, {}) if self.things.pop(key, None) is not None else (404, {})


class _Handler(BaseHTTPRequestHandler):
    server: Shelf
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.headers_seen.append({name.lower(): value for name, value in self.headers.items()})
        status, document = self.server.answer(self.command, self.path, json.loads(body) if body else None)
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_DELETE = _answer

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is logged."""


@contextlib.contextmanager
def running() -> Iterator[Shelf]:
    """The service, answering in a thread of its own until the block ends."""
    with Shelf() as shelf:
        thread = threading.Thread(target=shelf.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield shelf
        finally:
            shelf.shutdown()
            thread.join()
