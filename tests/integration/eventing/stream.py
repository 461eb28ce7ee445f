"""A look into JetStream, and a hand in it, from outside the trigger."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import nats
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

T = TypeVar("T")


@dataclass(frozen=True)
class Stored:
    subject: str
    body: bytes
    headers: dict[str, str]


def ask(url: str, what: Callable[[JetStreamContext], Awaitable[T]], inbox: str = "_INBOX") -> T:
    """Run ``what`` with a connection of its own, whose answers come below ``inbox``."""

    async def run() -> T:
        client = await nats.connect(url, inbox_prefix=inbox)
        try:
            return await what(client.jetstream())
        finally:
            await client.close()

    return asyncio.run(run())


def stored(url: str, stream: str) -> list[Stored]:
    """What a stream holds, the oldest first; nothing where there is no such stream."""

    async def look(context: JetStreamContext) -> list[Stored]:
        try:
            state = (await context.stream_info(stream)).state
        except NotFoundError:
            return []
        found = []
        for seq in range(state.first_seq, state.last_seq + 1) if state.messages else ():
            try:
                message = await context.get_msg(stream, seq)
            except NotFoundError:
                continue
            found.append(Stored(message.subject or "", message.data or b"", dict(message.headers or {})))
        return found

    return ask(url, look)


def publish(
    url: str, subject: str, body: bytes, headers: Mapping[str, str] | None = None, inbox: str = "_INBOX"
) -> None:
    async def send(context: JetStreamContext) -> None:
        await context.publish(subject, body, headers=dict(headers) if headers else None)

    ask(url, send, inbox)
