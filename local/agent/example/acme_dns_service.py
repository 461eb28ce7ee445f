"""A stand-in for the service that the agent calls: names in memory, each published when it is looked at twice.

Alone, for a try: python acme_dns_service.py 9053
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PREFIX = "/records/"


@dataclass
class Record:
    owner: str
    looks: int = 0


class Service(ThreadingHTTPServer):
    """The service on a port of this machine; 0 picks a free one. ``fails`` is a status for all answers, if not 0."""

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.records: dict[str, Record] = {}
        self.fails = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def answer(self, method: str, name: str, body: bytes) -> tuple[int, dict[str, str]]:
        """The status and document for one request."""
        record = self.records.get(name)
        if self.fails:
            return self.fails, {"error": "unwell"}
        match method:
            case "PUT":
                owner = json.loads(body)["owner"]
                if record is not None and record.owner != owner:
                    return 409, {"error": "taken"}
                self.records[name] = record or Record(owner)
                return 200 if record else 201, {"owner": owner}
            case "GET" if record is not None:
                record.looks += 1
                return 200, {"owner": record.owner, "state": "published" if record.looks > 1 else "pending"}
            case "DELETE" if record is not None:
                del self.records[name]
                return 200, {}
        return 404, {"error": "no such record"}


class _Handler(BaseHTTPRequestHandler):
    server: Service
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, document = self.server.answer(self.command, self.path.removeprefix(PREFIX), body)
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PUT = do_DELETE = _answer

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is logged."""


@contextlib.contextmanager
def running(port: int = 0) -> Iterator[Service]:
    """The service, answering in a thread of its own until the block ends."""
    with Service(port) as service:
        thread = threading.Thread(target=service.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield service
        finally:
            service.shutdown()
            thread.join()


if __name__ == "__main__":
    with Service(int(sys.argv[1]) if len(sys.argv) > 1 else 0) as alone:
        print(f"the service is at {alone.url}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            alone.serve_forever()
