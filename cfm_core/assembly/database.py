"""Provides the database: a pool of connections that wakes the relay when something was announced."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from cfm_core.assembly.assembler import InitContext, ServiceAssembly
from cfm_core.assembly.service_type import ServiceType
from cfm_core.errors import FatalError

if TYPE_CHECKING:
    from cfm_core.store.database import Database

DATABASE: ServiceType[Database] = ServiceType("database")


def waker(address: str) -> Callable[[], None]:
    """What wakes the trigger at ``host:port``: one empty datagram.

    It may be lost, and it tells nothing: whoever forges one makes the trigger look into the outbox, no more.
    """
    if not address:
        return lambda: None
    host, _, port = address.rpartition(":")
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    destination = (host, int(port))

    def wake() -> None:
        try:
            sock.sendto(b"", destination)
        except OSError:
            # The trigger looks into the outbox by itself before long.
            return

    return wake


class DatabaseAssembly(ServiceAssembly):
    """The pool of this process; opens no connection before one is needed."""

    name = "database"
    provides = (DATABASE,)

    def __init__(self) -> None:
        self._database: Database | None = None

    def init(self, context: InitContext) -> None:
        from cfm_core.store.database import Database

        settings = context.settings
        if not settings.database_url:
            raise FatalError("CFM_DATABASE_URL is not set, and this function needs a database")
        self._database = Database(
            settings.database_url, size=settings.database_pool_size, announce=waker(settings.trigger_address)
        )
        context.registry.register(DATABASE, self._database)

    def shutdown(self, context: InitContext) -> None:
        if self._database is not None:
            self._database.close()
