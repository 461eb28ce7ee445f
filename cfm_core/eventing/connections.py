"""HTTP/1.1 as the trigger needs it: POSTs over connections that are kept, one at a time on each.

A client for all purposes takes longer for a request than the function that answers it; there are eight in a deployment.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast
from urllib.parse import SplitResult, urlsplit

_CONNECT_SECONDS = 5.0
_KEPT_SECONDS = 25.0
_MOST_HEAD_BYTES = 64 * 1024
_WITHOUT_BODY = frozenset({204, 304})


class NotAcceptedError(OSError):
    """The connection was not accepted in time."""


@dataclass(frozen=True, slots=True)
class Response:
    """An answer; ``headers`` by their names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    keeps: bool
    """Whether the connection may be used again."""


def read(received: bytes | bytearray, *, ended: bool) -> Response | None:
    """Read the answer that ``received`` holds; None while something is missing.

    Args:
        ended: nothing more will come.

    Raises:
        ValueError: this is no HTTP/1.1, or it ends too early.
    """
    at = 0
    while True:
        end = received.find(b"\r\n\r\n", at)
        if end < 0:
            if ended or len(received) - at > _MOST_HEAD_BYTES:
                raise ValueError("no whole head")
            return None
        lines = bytes(received[at:end]).decode("latin-1").split("\r\n")
        version, _, rest = lines[0].partition(" ")
        if not version.startswith("HTTP/1."):
            raise ValueError("not HTTP/1.1")
        status = int(rest[:3])
        at = end + 4
        if status >= 200:
            break
        # An interim answer; the one that counts follows.
    headers = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    keeps = version == "HTTP/1.1" and headers.get("connection", "").lower() != "close"
    if status in _WITHOUT_BODY:
        return Response(status, headers, b"", keeps)
    if "chunked" in headers.get("transfer-encoding", "").lower():
        body = _unchunked(received, at)
    elif (length := headers.get("content-length")) is not None:
        size = _size(length, 10)
        body = bytes(received[at : at + size]) if len(received) >= at + size else None
    else:
        keeps = False
        body = bytes(received[at:]) if ended else None
    if body is None:
        if ended:
            raise ValueError("no whole body")
        return None
    return Response(status, headers, body, keeps)


def _unchunked(received: bytes | bytearray, at: int) -> bytes | None:
    parts: list[bytes] = []
    while (end := received.find(b"\r\n", at)) >= 0:
        size = _size(bytes(received[at:end]).split(b";")[0].decode("latin-1"), 16)
        at = end + 2
        if size == 0:
            # Trailers, if any, then an empty line.
            whole = received.startswith(b"\r\n", at) or received.find(b"\r\n\r\n", at) >= 0
            return b"".join(parts) if whole else None
        if len(received) < at + size + 2:
            return None
        parts.append(bytes(received[at : at + size]))
        at += size + 2
    return None


def _size(text: str, base: int) -> int:
    if (size := int(text, base)) < 0:
        raise ValueError("a length is negative")
    return size


class _Connection(asyncio.Protocol):
    """One connection. Lost ones have no transport."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.used_at = 0.0
        self._received = bytearray()
        self._answer: asyncio.Future[Response] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._look(ended=False)

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        self._look(ended=True)

    async def request(self, request: bytes) -> Response:
        """Send ``request`` and wait for the answer.

        Raises:
            ConnectionError: the connection broke, or what came is no answer.
        """
        if self.transport is None:
            raise ConnectionError("the connection was closed")
        self._received.clear()
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return await self._answer

    def close(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def _look(self, *, ended: bool) -> None:
        if self._answer is None or self._answer.done():
            # Nobody has asked for this.
            self.close()
            return
        try:
            response = read(self._received, ended=ended)
        except ValueError as error:
            self._answer.set_exception(ConnectionError(f"the connection broke, or gave no answer: {error}"))
            self.close()
            return
        if response is not None:
            self._answer.set_result(response)


class Connections:
    """The connections of one event loop, as many to each server as there are requests at a time.

    Args:
        headers: are sent with each request.
    """

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._idle: dict[tuple[str, str], list[_Connection]] = {}
        self._heads: dict[str, tuple[str, SplitResult, bytes]] = {}
        self._tls: ssl.SSLContext | None = None

    async def post(self, url: str, body: bytes, seconds: float, authorization: str = "") -> Response:
        """Send ``body`` and wait for the answer.

        Args:
            authorization: the header of that name; empty: none.

        Raises:
            NotAcceptedError: no connection in time.
            TimeoutError: no answer within ``seconds``.
            OSError: the server was not reached, or the connection broke.
        """
        loop = asyncio.get_running_loop()
        parts, head = self._head(url, authorization)
        idle = self._idle.setdefault((parts.scheme, parts.netloc), [])
        async with asyncio.timeout(seconds):
            connection = _kept(idle, loop.time()) or await self._connect(parts, seconds)
            try:
                response = await connection.request(head + b"%d\r\n\r\n" % len(body) + body)
            except BaseException:
                connection.close()
                raise
        if response.keeps:
            connection.used_at = loop.time()
            idle.append(connection)
        else:
            connection.close()
        return response

    def close(self) -> None:
        """Close what is idle."""
        for connections in self._idle.values():
            for connection in connections:
                connection.close()
        self._idle.clear()

    def _head(self, url: str, authorization: str) -> tuple[SplitResult, bytes]:
        known = self._heads.get(url)
        if known is None or known[0] != authorization:
            parts = urlsplit(url)
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            host = parts.netloc.rpartition("@")[2]
            shown = f"Authorization: {authorization}\r\n" if authorization else ""
            head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\n{self._headers}{shown}Content-Length: ".encode()
            known = self._heads[url] = authorization, parts, head
        return known[1:]

    async def _connect(self, parts: SplitResult, seconds: float) -> _Connection:
        if parts.scheme == "https" and self._tls is None:
            self._tls = ssl.create_default_context()
        is_secure = parts.scheme == "https"
        connecting = asyncio.get_running_loop().create_connection(
            _Connection,
            parts.hostname or "",
            parts.port or (443 if is_secure else 80),
            ssl=self._tls if is_secure else None,
        )
        try:
            async with asyncio.timeout(min(seconds, _CONNECT_SECONDS)):
                _, connection = await connecting
        except TimeoutError:
            raise NotAcceptedError("the connection was not accepted in time") from None
        return connection


def _kept(idle: list[_Connection], now: float) -> _Connection | None:
    """Take the connection that was used last, and close those that nobody has needed for long."""
    while idle and idle[0].used_at < now - _KEPT_SECONDS:
        idle.pop(0).close()
    while idle:
        connection = idle.pop()
        if connection.transport is not None:
            return connection
    return None
