"""Provides the kept answers of requests with an Idempotency-Key, where the managers' entities are."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from cfm_core.assembly.assembler import InitContext, ServiceAssembly
from cfm_core.assembly.database import DATABASE
from cfm_core.assembly.service_type import ServiceType
from cfm_core.errors import ClientError
from cfm_core.idempotency import KEPT, IdempotentAnswers, KeptAnswer, RequestKey, check_same, still_running
from cfm_core.settings import Settings

IDEMPOTENT_ANSWERS: ServiceType[IdempotentAnswers] = ServiceType("idempotent-answers")


class PostgresIdempotencyAssembly(ServiceAssembly):
    """Answers kept in the transaction of their effect."""

    name = "idempotency-postgres"
    provides = (IDEMPOTENT_ANSWERS,)
    requires = (DATABASE,)

    def init(self, context: InitContext) -> None:
        from cfm_core.store.idempotent_answers import PostgresIdempotentAnswers

        database = context.registry.resolve(DATABASE)
        context.registry.register(IDEMPOTENT_ANSWERS, PostgresIdempotentAnswers(database))


class MemoryIdempotencyAssembly(ServiceAssembly):
    """Answers kept until the process ends."""

    name = "idempotency-memory"
    provides = (IDEMPOTENT_ANSWERS,)

    def init(self, context: InitContext) -> None:
        context.registry.register(IDEMPOTENT_ANSWERS, MemoryIdempotentAnswers())


def idempotency_assembly(settings: Settings) -> ServiceAssembly:
    """The assembly for ``CFM_STORE``."""
    return MemoryIdempotencyAssembly() if settings.store == "memory" else PostgresIdempotencyAssembly()


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
