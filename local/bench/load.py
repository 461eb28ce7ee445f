"""A load generator that costs little itself: raw sockets with keep-alive, one thread a connection."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit


class Connection:
    """One HTTP/1.1 connection; not shared between threads."""

    def __init__(self, base_url: str, token: str = "") -> None:
        parts = urlsplit(base_url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._socket = socket.create_connection((parts.hostname, parts.port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        authorization = f"Authorization: Bearer {token}\r\n" if token else ""
        self._common = f"Host: {parts.netloc}\r\n{authorization}"

    def request(self, method: str, path: str, body: bytes = b"", headers: str = "") -> tuple[int, bytes, bytes]:
        """Send one request, with more ``headers``, each with its line break; gives status, head in lower case, and body."""
        head = f"{method} {path} HTTP/1.1\r\n{self._common}{headers}Content-Length: {len(body)}\r\n\r\n".encode()
        self._socket.sendall(head + body)
        received = b""
        while (end := received.find(b"\r\n\r\n")) < 0:
            received += self._more()
        answer_head = received[:end].lower()
        length = (
            int(answer_head.split(b"content-length:")[1].split(b"\r\n")[0]) if b"content-length:" in answer_head else 0
        )
        parts, missing = [received[end + 4 :]], end + 4 + length - len(received)
        while missing > 0:
            parts.append(self._more())
            missing -= len(parts[-1])
        return int(answer_head[9:12]), answer_head, b"".join(parts)

    def json(self, method: str, path: str, document: Any = None, *, expect: int) -> Any:
        """Send a document and give the answer's; raises AssertionError for any other status than ``expect``."""
        status, _, body = self.request(method, path, b"" if document is None else json.dumps(document).encode())
        assert status == expect, f"{method} {path} answered {status}: {body[:300]!r}"
        return json.loads(body) if body else None

    def close(self) -> None:
        self._socket.close()

    def _more(self) -> bytes:
        chunk = self._socket.recv(65536)
        if not chunk:
            raise ConnectionError("the server closed the connection")
        return chunk


@dataclass(frozen=True, slots=True)
class Rate:
    """``count`` calls in ``seconds``; ``median_ms`` is that of a single call."""

    count: int
    seconds: float
    median_ms: float

    def to_json(self) -> dict[str, float]:
        return {
            "perSecond": round(self.count / self.seconds, 1),
            "medianMs": round(self.median_ms, 3),
            "count": self.count,
            "seconds": round(self.seconds, 3),
        }


def run_for(seconds: float, connections: Sequence[Connection], call: Callable[[Connection], object]) -> Rate:
    """Repeat ``call`` on every connection for so long."""
    durations: list[list[float]] = [[] for _ in connections]
    end = time.perf_counter() + seconds

    def work(connection: Connection, mine: list[float]) -> None:
        while (begun := time.perf_counter()) < end:
            call(connection)
            mine.append(time.perf_counter() - begun)

    started = time.perf_counter()
    _in_threads(lambda index: work(connections[index], durations[index]), len(connections))
    elapsed = time.perf_counter() - started
    every = sorted(duration for mine in durations for duration in mine)
    return Rate(len(every), elapsed, every[len(every) // 2] * 1000)


def run_times(times: int, connections: Sequence[Connection], call: Callable[[Connection], object]) -> None:
    """Make ``times`` calls, spread over the connections."""
    share, rest = divmod(times, len(connections))

    def work(index: int) -> None:
        for _ in range(share + (index < rest)):
            call(connections[index])

    _in_threads(work, len(connections))


def _in_threads(work: Callable[[int], None], count: int) -> None:
    failures: list[BaseException] = []

    def guarded(index: int) -> None:
        try:
            work(index)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
