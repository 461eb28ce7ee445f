"""Ends the connections on which a client lets its server wait: it sends no whole request, or takes no answer.

A server under WSGI cannot tell which connection a request came by, and has no limit for how long a body may take. So the
kernel is asked, which counts for each connection of this process what the other side has sent and taken.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
import termios
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

_SENT_AND_TAKEN = struct.Struct("=QQ")
_OFFSET = 120
"""Of ``tcpi_bytes_acked`` and ``tcpi_bytes_received`` in the kernel's ``struct tcp_info``."""
_LOOKS = 6
"""So many looks are taken within the patience."""


@dataclass(slots=True)
class _Seen:
    """What the other side of a connection did last, and since when that is so."""

    taken: int
    sent: int
    since: float
    asks: bool = False
    is_deaf: bool = False


class Connections:
    """The connections that others have made to ``port`` of this process.

    Each has ``patience`` seconds, for a whole request from its first byte, and for taking anything of an answer.
    """

    def __init__(self, port: int, patience: float) -> None:
        self._port = port
        self._patience = patience
        self._seen: dict[int, _Seen] = {}
        self.in_hand: dict[int, float] = {}
        """Since when requests that have wholly arrived have not been answered, by the thread that does it."""
        self.ended = 0
        """How often a connection has been ended so far."""

    def watch(self) -> None:
        """Look from now on until the process ends."""
        threading.Thread(target=self._watch, name="connections", daemon=True).start()

    def look(self, now: float) -> None:
        """End what has used up its patience; ``now`` as of ``time.monotonic``.

        Which connection waits for a function that takes long is not known, so while one does none is ended.
        """
        may_end = all(now - begun < self._patience / 2 for begun in list(self.in_hand.values()))
        still: dict[int, _Seen] = {}
        for connection in _sockets_at(self._port):
            # One that listens, or is not connected any more, has no other side.
            with contextlib.suppress(OSError):
                connection.getpeername()
                info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _OFFSET + _SENT_AND_TAKEN.size)
                taken, sent = _SENT_AND_TAKEN.unpack_from(info, _OFFSET)
                key = os.fstat(connection.fileno()).st_ino
                seen = self._seen.get(key)
                if seen is None or seen.taken != taken:
                    seen = _Seen(taken, sent, now)
                elif not seen.asks and seen.sent != sent:
                    seen.asks, seen.since = True, now
                elif may_end and now - seen.since > self._patience:
                    self._end(connection, seen)
                still[key] = seen
        self._seen = still

    def _end(self, connection: socket.socket, seen: _Seen) -> None:
        was_deaf, seen.is_deaf = seen.is_deaf, True
        # Counted before it is done: who reads of the connection looks at the count as soon as it ends.
        self.ended += 1
        if was_deaf or _unsent(connection):
            # What the other side does not take is thrown away at once, not kept for it.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("@ii", 1, 0))
            connection.shutdown(socket.SHUT_RDWR)
        else:
            # Whoever waits for the rest of a request learns that there is none, and can still say so.
            connection.shutdown(socket.SHUT_RD)

    def _watch(self) -> None:
        never = threading.Event()
        while not never.wait(self._patience / _LOOKS):
            self.look(time.monotonic())


def _unsent(connection: socket.socket) -> int:
    """How many bytes of an answer the other side has not taken yet."""
    (count,) = struct.unpack("@i", fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)))
    return int(count)


def is_listening(port: int) -> bool:
    """Whether this process takes connections at ``port``."""
    return any(one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) for one in _sockets_at(port))


def _sockets_at(port: int) -> Iterator[socket.socket]:
    """A handle of each socket of this process that is bound to ``port``, good until the next is asked for."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if not os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                continue
            with socket.fromfd(int(name), socket.AF_INET, socket.SOCK_STREAM) as found:
                address = found.getsockname()
                if isinstance(address, tuple) and address[1] == port:
                    yield found
