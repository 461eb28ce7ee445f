"""HTTP/1.1 byte by byte: sends what no client library would, and reads what comes back."""

from __future__ import annotations

import contextlib
import http.client
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from email.message import Message
from urllib.parse import urlsplit

_PATIENCE_SECONDS = 20.0

Headers = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Answer:
    """What came back; ``status`` 0: the connection was closed without an answer."""

    status: int
    headers: Message
    text: str


class Wire:
    """One connection to a server, made anew when it has been closed."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.host, self.port = str(parts.hostname), parts.port or 80
        self._socket: socket.socket | None = None

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def request(self, method: str, target: str, headers: Headers = (), body: bytes = b"") -> Answer:
        """Send a request; host and length are added unless ``headers`` has them. Text goes out as Latin-1."""
        named = {name.lower() for name, _ in headers}
        usual = [("Host", f"{self.host}:{self.port}")] if "host" not in named else []
        if not named & {"content-length", "transfer-encoding"}:
            usual.append(("Content-Length", str(len(body))))
        head = "".join(f"{name}: {value}\r\n" for name, value in (*usual, *headers))
        return self.send(f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body, method)

    def send(self, raw: bytes, method: str = "GET", *, fresh: bool = False) -> Answer:
        """Send bytes and read one answer.

        Args:
            fresh: on a connection of its own, with nothing to follow.
        """
        if fresh:
            self.close()
        try:
            return self._sent(raw, method)
        except (ConnectionError, http.client.BadStatusLine):
            # A server may close a connection that has been at rest, or refuse by closing: another tells the two apart.
            self.close()
            try:
                return self._sent(raw, method)
            except (ConnectionError, http.client.BadStatusLine):
                return Answer(0, Message(), "")
        finally:
            if fresh:
                self.close()

    def _sent(self, raw: bytes, method: str) -> Answer:
        if self._socket is None:
            self._socket = socket.create_connection((self.host, self.port), _PATIENCE_SECONDS)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A server that refuses by the head alone may close before it has taken the body.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._socket.sendall(raw)
        response = http.client.HTTPResponse(self._socket, method=method)
        try:
            response.begin()
            text = response.read().decode("utf-8", "replace")
            if response.will_close:
                self.close()
            return Answer(response.status, response.headers, text)
        finally:
            response.close()
