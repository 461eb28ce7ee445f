"""Answers of the trigger to probes: ``/livez`` while the loop turns, ``/readyz`` while the outbox is reached."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any

_READ_SECONDS = 5.0


async def serve(address: str, report: Callable[[], tuple[bool, dict[str, Any]]]) -> asyncio.Server:
    """Answer at ``host:port``.

    Args:
        report: whether the trigger is ready, and what there is to say about it.
    """

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), _READ_SECONDS)
            parts = head.split(b" ", 2)
            path = parts[1].split(b"?")[0] if len(parts) > 1 else b""
            if path == b"/livez":
                status, document = "200 OK", {"live": True}
            elif path == b"/readyz":
                ready, details = report()
                status, document = ("200 OK" if ready else "503 Service Unavailable"), {"ready": ready, **details}
            else:
                status, document = "404 Not Found", {}
            body = json.dumps(document).encode()
            writer.write(
                f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
                "Connection: close\r\n\r\n".encode()
                + body
            )
            await writer.drain()
        writer.close()

    host, _, port = address.rpartition(":")
    return await asyncio.start_server(answer, host, int(port), limit=16 * 1024)
