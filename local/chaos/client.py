"""Patient clients of the API, whose connections stay open."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

from local.bench.load import Connection

_CLIENTS = 24
_PAUSE_SECONDS = 0.1

P = ParamSpec("P")
T = TypeVar("T")


class Client:
    """Asks the fabric with patience, from any thread.

    Args:
        connect: makes a connection to the API.
        patience: so many seconds one waits for anything, counted from now.
    """

    def __init__(self, connect: Callable[[], Connection], patience: float) -> None:
        self.stopped = threading.Event()
        """Once it is set nobody waits any more."""
        self._connect = connect
        self._deadline = time.monotonic() + patience
        self._idle: list[Connection] = []
        self._threads = ThreadPoolExecutor(_CLIENTS, thread_name_prefix="client")

    def close(self) -> None:
        """Stop waiting for anything, and end the threads."""
        self.stopped.set()
        self._threads.shutdown()
        while self._idle:
            self._idle.pop().close()

    @property
    def has_patience(self) -> bool:
        return not self.stopped.is_set() and time.monotonic() < self._deadline

    def later(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Do ``work`` in one of the client's threads."""
        return self._threads.submit(work, *args, **kwargs)

    def ask(self, method: str, path: str, document: Any = None, headers: str = "") -> tuple[int, bytes]:
        """Send one request until it is answered, by whatever else than "not now".

        Raises:
            TimeoutError: the patience has ended.
        """
        body = b"" if document is None else json.dumps(document).encode()
        while True:
            try:
                status, answer = self._try(method, path, body, headers)
            except (OSError, ValueError) as error:  # an answer that breaks off cannot be read either
                status, answer = 503, str(error).encode()
            # Under an idempotency key a 409 may say that the request before is still being worked on.
            if status != 503 and not (status == 409 and headers):
                return status, answer
            self.stopped.wait(_PAUSE_SECONDS)
            if not self.has_patience:
                raise TimeoutError(f"{method} {path}: {status} {answer[:300]!r}")

    def _try(self, method: str, path: str, body: bytes, headers: str) -> tuple[int, bytes]:
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._connect()
        try:
            status, _, answer = connection.request(method, path, body, headers)
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)
        return status, answer
