"""Provides the kept answers of requests with an Idempotency-Key, where the managers' entities are."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from cfm_core.assembly.assembler import InitContext, ServiceAssembly
from cfm_core.assembly.database import PROVISION_MANAGER_DATABASE, TENANT_MANAGER_DATABASE
from cfm_core.assembly.service_type import ServiceType
from cfm_core.errors import ClientError
from cfm_core.idempotency import KEPT, IdempotentAnswers, KeptAnswer, RequestKey, check_same, still_running
from cfm_core.settings import Settings

if TYPE_CHECKING:
    from cfm_core.store.database import Database

TENANT_MANAGER_ANSWERS: ServiceType[IdempotentAnswers] = ServiceType("tenant-manager-answers")
PROVISION_MANAGER_ANSWERS: ServiceType[IdempotentAnswers] = ServiceType("provision-manager-answers")


class PostgresIdempotencyAssembly(ServiceAssembly):
    """The answers of one manager, kept in the transaction of their effect."""

    def __init__(self, provides: ServiceType[IdempotentAnswers], database: ServiceType[Database]) -> None:
        self.name = f"{provides.name}-postgres"
        self.provides = (provides,)
        self.requires = (database,)

    def init(self, context: InitContext) -> None:
        from cfm_core.store.idempotent_answers import PostgresIdempotentAnswers

        ((key,), (database,)) = self.provides, self.requires
        context.registry.register(key, PostgresIdempotentAnswers(context.registry.resolve(database)))


class MemoryIdempotencyAssembly(ServiceAssembly):
    """Answers kept until the process ends."""

    name = "idempotency-memory"
    provides = (TENANT_MANAGER_ANSWERS, PROVISION_MANAGER_ANSWERS)

    def init(self, context: InitContext) -> None:
        for key in self.provides:
            context.registry.register(key, MemoryIdempotentAnswers())


def idempotency_assemblies(settings: Settings) -> Sequence[ServiceAssembly]:
    """The assemblies for ``CFM_STORE``."""
    if settings.store == "memory":
        return (MemoryIdempotencyAssembly(),)
    return (
        PostgresIdempotencyAssembly(TENANT_MANAGER_ANSWERS, TENANT_MANAGER_DATABASE),
        PostgresIdempotencyAssembly(PROVISION_MANAGER_ANSWERS, PROVISION_MANAGER_DATABASE),
    )


class MemoryIdempotentAnswers:
    """See ``IdempotentAnswers``. A change in memory happens as a whole or not at all, so there is nothing to undo."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._running: set[RequestKey] = set()
        self._kept: dict[RequestKey, tuple[float, str, KeptAnswer]] = {}

    def once(
        self,
        key: RequestKey,
        fingerprint: str,
        work: Callable[[], KeptAnswer],
        refused: Callable[[ClientError], KeptAnswer],
    ) -> tuple[KeptAnswer, bool]:
        with self._lock:
            if key in self._running:
                raise still_running()
            if (known := self._kept.get(key)) is not None and known[0] > self._clock() - KEPT.total_seconds():
                check_same(known[1], fingerprint)
                return known[2], True
            self._running.add(key)
        try:
            try:
                answer = work()
            except ClientError as error:
                answer = refused(error)
            with self._lock:
                self._kept[key] = (self._clock(), fingerprint, answer)
        finally:
            with self._lock:
                self._running.discard(key)
        return answer, False

    def forget(self) -> None:
        with self._lock:
            limit = self._clock() - KEPT.total_seconds()
            self._kept = {key: kept for key, kept in self._kept.items() if kept[0] > limit}
