"""Provides the database: a pool of connections that wakes the relay when something was announced."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from cfm_core.assembly.assembler import InitContext, ServiceAssembly
from cfm_core.assembly.service_type import ServiceType
from cfm_core.contracts import wake
from cfm_core.contracts.reply import OutboxRow
from cfm_core.errors import FatalError

if TYPE_CHECKING:
    from cfm_core.store.database import Database

DATABASE: ServiceType[Database] = ServiceType("database")


class Waker:
    """Wakes the trigger at ``host:port`` with one datagram a call; at an empty address it wakes nobody.

    A datagram may be lost, and only one sealed with ``key`` is believed: whoever forges one makes the trigger look into the
    outbox, no more.
    """

    def __init__(self, address: str, key: bytes) -> None:
        self._key = key
        host, _, port = address.rpartition(":")
        self._destination = (host, int(port)) if address else None
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def __call__(self, row: OutboxRow | None) -> None:
        if self._destination is None:
            return
        try:
            self._socket.sendto(b"" if row is None else wake.sealed(row, self._key), self._destination)
        except OSError:
            # The trigger looks into the outbox by itself before long, and takes what has no lease any more.
            return

    def close(self) -> None:
        self._socket.close()


class DatabaseAssembly(ServiceAssembly):
    """The pool of this process; opens no connection before one is needed."""

    name = "database"
    provides = (DATABASE,)

    def __init__(self) -> None:
        self._database: Database | None = None
        self._waker: Waker | None = None

    def init(self, context: InitContext) -> None:
        from cfm_core.store.database import Database

        settings = context.settings
        if not settings.database_url:
            raise FatalError("CFM_DATABASE_URL is not set, and this function needs a database")
        self._waker = Waker(settings.trigger_address, wake.key_of(settings.database_url))
        self._database = Database(
            settings.reader("database_url"),
            size=settings.database_pool_size,
            announce=self._waker,
            hands_over=bool(settings.trigger_address),
        )
        context.registry.register(DATABASE, self._database)

    def shutdown(self, context: InitContext) -> None:
        if self._database is not None:
            self._database.close()
        if self._waker is not None:
            self._waker.close()
