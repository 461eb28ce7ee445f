"""Wires: small proxies on loopback between the processes of a run, which lose, double, delay and reorder what they carry.

They live in one event loop, in a thread of the harness. A wire that is cut drops its connections and takes none.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from typing import Any, Protocol, TypeVar

from local.chaos.dice import Dice
from local.servers.process import free_port

T = TypeVar("T")

_CHUNK = 65536


class Wire(Protocol):
    """What can be put between two processes."""

    async def begin(self) -> None: ...

    def cut(self, is_cut: bool) -> None: ...

    async def end(self) -> None: ...


class Loop:
    """The event loop of all wires, in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="wires", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do ``work`` in the loop and give what it gives."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def call(self, wire: Wire, is_cut: bool) -> None:
        """Cut a wire, or mend it."""
        self._loop.call_soon_threadsafe(wire.cut, is_cut)

    def stop(self) -> None:
        """Stop whatever still runs in the loop."""

        async def cancel() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        self.run(cancel())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Broken(Exception):
    """The connection is to be broken."""


class Connection:
    """One connection over a wire: what comes from either side is handed to a method, which passes it on or does not."""

    def __init__(self, dice: Dice, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self._dice = dice
        self._client = client
        self._server = server

    async def from_client(self, chunk: bytes) -> None:
        """Raises Broken where the connection is to end here."""
        self._server.write(chunk)

    async def from_server(self, chunk: bytes) -> None:
        """Raises Broken where the connection is to end here."""
        self._client.write(chunk)


class TcpWire:
    """Carries the connections to one port of this machine.

    Args:
        upstream: that port.
        kind: what is made of each connection.
    """

    def __init__(self, upstream: int, kind: type[Connection], dice: Dice) -> None:
        self.port = free_port()
        self._upstream = upstream
        self._kind = kind
        self._dice = dice
        self._is_cut = False
        self._open: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def begin(self) -> None:
        """Take connections from now on."""
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", self.port)

    def cut(self, is_cut: bool) -> None:
        """Drop all connections and take none, until it is mended."""
        self._is_cut = is_cut
        for writer in self._open if is_cut else ():
            writer.transport.abort()

    async def end(self) -> None:
        """Take no more connections, and drop those that there are."""
        self.cut(True)
        if self._server is not None:
            self._server.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            if not self._is_cut:
                with contextlib.suppress(OSError):
                    await self._carry_to(reader, writer, *await asyncio.open_connection("127.0.0.1", self._upstream))
        finally:
            self._open.discard(writer)
            writer.transport.abort()

    async def _carry_to(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        up_reader: asyncio.StreamReader,
        up_writer: asyncio.StreamWriter,
    ) -> None:
        connection = self._kind(self._dice, writer, up_writer)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, take: Any) -> None:
            while chunk := await source.read(_CHUNK):
                await take(chunk)
                await sink.drain()

        pumps = [
            asyncio.ensure_future(pump(reader, up_writer, connection.from_client)),
            asyncio.ensure_future(pump(up_reader, writer, connection.from_server)),
        ]
        try:
            done, _ = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for one in done:
                with contextlib.suppress(OSError, Broken):
                    one.result()
        finally:
            for one in pumps:
                one.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            # What the client has said last still arrives: a kill takes away what was to come, not what was sent.
            up_writer.close()
