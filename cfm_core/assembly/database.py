"""Provides the database to each role: a pool of connections that wakes the relay when something was announced."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from cfm_core.assembly.assembler import InitContext, ServiceAssembly
from cfm_core.assembly.service_type import ServiceType
from cfm_core.contracts import wake
from cfm_core.contracts.reply import OutboxRow
from cfm_core.errors import FatalError
from cfm_core.settings import Settings

if TYPE_CHECKING:
    from cfm_core.store.database import Database

TENANT_MANAGER_DATABASE: ServiceType[Database] = ServiceType("tenant-manager-database")
PROVISION_MANAGER_DATABASE: ServiceType[Database] = ServiceType("provision-manager-database")
MAINTENANCE_DATABASE: ServiceType[Database] = ServiceType("maintenance-database")
"""For what changes tables: partitions, declared indexes."""


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
    """One pool of this process, for one or several roles; opens no connection before one is needed.

    Args:
        provides: the roles that connect to ``url``.
        url: gives it whenever a connection is opened: its password may change.
        wake_key: the secret by which the trigger believes the rows that this pool's commits announce; empty: it looks itself.
    """

    def __init__(self, provides: Sequence[ServiceType[Database]], url: Callable[[], str], wake_key: str) -> None:
        self.name = "-and-".join(key.name for key in provides)
        self.provides = tuple(provides)
        self._url = url
        self._wake_key = wake_key
        self._database: Database | None = None
        self._waker: Waker | None = None

    def init(self, context: InitContext) -> None:
        from cfm_core.store.database import Database

        settings = context.settings
        if not self._url():
            raise FatalError("CFM_DATABASE_URL is not set, and this function needs a database")
        self._waker = Waker(settings.trigger_address, wake.key_of(self._wake_key))
        self._database = Database(
            self._url,
            size=settings.database_pool_size,
            announce=self._waker,
            hands_over=bool(settings.trigger_address and self._wake_key),
        )
        for key in self.provides:
            context.registry.register(key, self._database)

    def shutdown(self, context: InitContext) -> None:
        if self._database is not None:
            self._database.close()
        if self._waker is not None:
            self._waker.close()


def database_assemblies(settings: Settings) -> list[ServiceAssembly]:
    """One for each URL, so that roles with one URL share its connections."""
    told = (
        (TENANT_MANAGER_DATABASE, "tenant_manager_database_url", settings.tenant_manager_wake_key),
        (PROVISION_MANAGER_DATABASE, "provision_manager_database_url", settings.provision_manager_wake_key),
        (MAINTENANCE_DATABASE, "maintenance_database_url", ""),
    )
    pools: dict[str, tuple[list[ServiceType[Database]], Callable[[], str], str]] = {}
    for key, name, wake_key in told:
        url = settings.reader(name if getattr(settings, name) else "database_url")
        now = url()
        keys, read, known = pools.get(now, ([], url, ""))
        pools[now] = [*keys, key], read, known or wake_key
    return [DatabaseAssembly(keys, read, wake_key) for keys, read, wake_key in pools.values()]
