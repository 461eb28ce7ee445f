"""The wire between an agent and the services that it calls: sees every call, and cuts the agent off where it is told to.

It is made of the standard library's server and client, which take any method, also such as LIST.
"""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

_TIMEOUT_SECONDS = 60
_KEPT_BACK = frozenset(
    # What is true of one connection only; and no encoding, so that bodies can be read here.
    {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "host", "content-length"}
    | {"accept-encoding"}
)
_WITHOUT_BODY = frozenset({204, 304})


@dataclass(frozen=True, slots=True)
class Call:
    """One request that a service has answered; ``path`` is still encoded, and without the query."""

    service: str
    method: str
    path: str
    query: str
    idempotency_key: str
    body: bytes
    status: int
    answer: bytes
    location: str

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


class Cut(Enum):
    """What goes wrong after a call has taken effect."""

    CRASH = "crash"
    """The caller gets no answer, and no further call gets through: its process is gone."""
    LOST = "lost"
    """The caller gets no answer; the calls that follow go through."""


class Wire:
    """Addresses in front of services; usable in a ``with`` block.

    ``calls`` holds what was answered since ``forget``; ``counted`` those of them since ``begin``.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._begun = 0
        self._upstreams: dict[str, str] = {}
        self._at = 0
        self._count = 0
        self._cut: Cut | None = None
        self._meanwhile: Callable[[], object] | None = None
        self._is_cut = False
        self._is_dead = False
        self._lock = threading.Lock()
        self._fronts: list[_Front] = []

    def __enter__(self) -> Wire:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for front in self._fronts:
            front.end()

    def front(self, service: str, url: str) -> str:
        """Give the address at which calls for ``url`` are taken from now on."""
        self.lead(service, url)
        front = _Front(lambda request: self._carry(service, request))
        self._fronts.append(front)
        return f"{front.url}{urlsplit(url).path.rstrip('/')}"

    def lead(self, service: str, url: str) -> None:
        """Let the calls for a service, which has an address already, go to ``url``; its path stays what it was."""
        parts = urlsplit(url)
        self._upstreams[service] = f"{parts.scheme}://{parts.netloc}"

    def forget(self) -> None:
        """Forget all calls, and mend the wire."""
        self.calls = []
        self.begin()

    def begin(self, at: int = 0, cut: Cut | None = None, meanwhile: Callable[[], object] | None = None) -> None:
        """Mend the wire and count calls from now on.

        Args:
            at: the call, counted from 1, at which something happens; 0: at none.
            cut: what goes wrong after that call has taken effect.
            meanwhile: is called in another thread before that call goes on to its service.
        """
        self._begun = len(self.calls)
        self._count = 0
        self._at, self._cut, self._meanwhile = at, cut, meanwhile
        self._is_cut = self._is_dead = False

    @property
    def counted(self) -> list[Call]:
        return self.calls[self._begun :]

    @property
    def is_cut(self) -> bool:
        """Whether what was to go wrong since ``begin`` has."""
        return self._is_cut

    @property
    def is_crashed(self) -> bool:
        """Whether that was a crash."""
        return self._is_dead

    def _carry(self, service: str, request: _Request) -> _Answer | None:
        """Hand a call on; None where its caller gets no answer."""
        with self._lock:
            if self._is_dead:
                return None
            self._count += 1
            is_it = self._count == self._at
            meanwhile = self._meanwhile if is_it else None
        if meanwhile is not None:
            meanwhile()
        try:
            answer = _ask(self._upstreams[service], request)
        except (OSError, http.client.HTTPException):
            return None
        path, _, query = request.target.partition("?")
        headers = {name.lower(): value for name, value in answer.headers}
        key = next((value for name, value in request.headers if name.lower() == "idempotency-key"), "")
        location = headers.get("location", "")
        call = Call(service, request.method, path, query, key, request.body, answer.status, answer.body, location)
        with self._lock:
            self.calls.append(call)
            if is_it and self._cut is not None:
                self._is_cut = True
                self._is_dead = self._cut is Cut.CRASH
                return None
        return answer


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes


def _ask(upstream: str, request: _Request) -> _Answer:
    parts = urlsplit(upstream)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.netloc, timeout=_TIMEOUT_SECONDS)
    try:
        connection.putrequest(request.method, request.target, skip_accept_encoding=True)
        for name, value in request.headers:
            connection.putheader(name, value)
        if request.body or request.method not in {"GET", "HEAD"}:
            connection.putheader("Content-Length", str(len(request.body)))
        connection.endheaders(request.body or None)
        answer = connection.getresponse()
        kept = [(name, value) for name, value in answer.getheaders() if name.lower() not in _KEPT_BACK]
        return _Answer(answer.status, kept, answer.read())
    finally:
        connection.close()


class _Front(ThreadingTCPServer):
    """A server on a port of this machine, whose requests ``carry`` answers."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, carry: Callable[[_Request], _Answer | None]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.carry = carry
        self._thread = threading.Thread(target=self.serve_forever, args=[0.05], daemon=True, name="wire")
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def end(self) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: _Front
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __getattr__(self, name: str) -> Any:
        # The library looks for a method of its own for each of HTTP's.
        if name.startswith("do_"):
            return self._carry
        raise AttributeError(name)

    def _carry(self) -> None:
        kept = [(name, value) for name, value in self.headers.items() if name.lower() not in _KEPT_BACK]
        answer = self.server.carry(_Request(self.command, self.path, kept, self._body()))
        if answer is None:
            self.close_connection = True
            return
        self.send_response_only(answer.status)
        for name, value in answer.headers:
            self.send_header(name, value)
        if answer.status not in _WITHOUT_BODY:
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return body

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is logged: what matters is in ``calls``."""
