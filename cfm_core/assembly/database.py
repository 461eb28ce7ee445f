"""Provides the database: a pool of connections that wakes the relay when something was announced."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from cfm_core.assembly.assembler import InitContext, ServiceAssembly
from cfm_core.assembly.service_type import ServiceType
from cfm_core.errors import FatalError

if TYPE_CHECKING:
    from cfm_core.store.database import Database

DATABASE: ServiceType[Database] = ServiceType("database")


class Waker:
    """Wakes the trigger at ``host:port`` with one empty datagram a call; at an empty address it wakes nobody.

    A datagram may be lost, and it tells nothing: whoever forges one makes the trigger look into the outbox, no more.
    """

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._destination = (host, int(port)) if address else None
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def __call__(self) -> None:
        if self._destination is None:
            return
        try:
            self._socket.sendto(b"", self._destination)
        except OSError:
            # The trigger looks into the outbox by itself before long.
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
        self._waker = Waker(settings.trigger_address)
        self._database = Database(settings.database_url, size=settings.database_pool_size, announce=self._waker)
        context.registry.register(DATABASE, self._database)

    def shutdown(self, context: InitContext) -> None:
        if self._database is not None:
            self._database.close()
        if self._waker is not None:
            self._waker.close()
