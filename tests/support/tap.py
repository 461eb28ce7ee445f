"""What is published on NATS, heard by somebody who takes part in nothing."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from typing import Any

import nats


@dataclass(frozen=True)
class Heard:
    subject: str
    headers: dict[str, str]
    body: bytes

    @property
    def whole(self) -> bytes:
        head = "".join(f"{name}: {value}\n" for name, value in self.headers.items())
        return f"{self.subject}\n{head}".encode() + self.body


class Tap:
    """Keeps every message that is published on NATS: what is stored there, and what is not."""

    def __init__(self, url: str) -> None:
        self.messages: list[Heard] = []
        self._url = url
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._listen(),))
        self._end = asyncio.Event()

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(20)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()
        self._loop.close()

    async def _listen(self) -> None:
        connection = await nats.connect(self._url)

        async def keep(message: Any) -> None:
            self.messages.append(Heard(message.subject, dict(message.headers or {}), message.data))

        await connection.subscribe(">", cb=keep)
        await connection.flush()
        self._ready.set()
        await self._end.wait()
        await connection.drain()
