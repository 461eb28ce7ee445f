"""What operators do, in Postgres."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

from cfm_core import trace
from cfm_core.access.model import Bounds
from cfm_core.audit.model import Subject
from cfm_core.contracts.orchestration import OrchestrationManifest, compensation_id
from cfm_core.provisioning.dead_letters.store import PostgresDeadLetters
from cfm_core.provisioning.delayed_starts.store import PostgresDelayedStarts
from cfm_core.provisioning.operations.model import Order, Resolution
from cfm_core.provisioning.operations.notes import note
from cfm_core.provisioning.orchestrations.actions import Action
from cfm_core.provisioning.orchestrations.model import Orchestration
from cfm_core.provisioning.orchestrations.store import PostgresOrchestrations
from cfm_core.store.database import Database
from cfm_core.store.sql import Queries

SQL = Queries("cfm_core.provisioning.operations")


class PostgresOperations:
    """See ``OperationStore``."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._orchestrations = PostgresOrchestrations(database)
        self._delayed_starts = PostgresDelayedStarts(database)
        self._dead_letters = PostgresDeadLetters(database)

    @contextlib.contextmanager
    def held(self, id_: str, *, with_below: bool = False) -> Iterator[None]:
        with self._database.joined() as transaction:
            if "\0" not in id_:
                # In this order, as whoever starts it takes them.
                transaction.rows(SQL["lock_delayed"], id=id_)
                transaction.rows(SQL["hold"], id=id_, with_below=with_below)
            yield

    def get(self, id_: str) -> Orchestration:
        return self._orchestrations.get(id_)

    def find(self, id_: str, bounds: Bounds) -> Orchestration | None:
        return None if "\0" in id_ else self._orchestrations.find(id_, bounds)

    def pause(self, id_: str) -> None:
        self._database.rows(SQL["pause"], id=id_)

    def resume(self, id_: str) -> None:
        self._step("resume", id=id_)

    def cancel(self, id_: str, reason: str, *, undoes: bool) -> None:
        if not self._delayed_starts.cancel(id_, reason):
            self._step("cancel", id=id_, reason=reason, undoes=undoes)

    def retry(self, id_: str, ords: Sequence[int]) -> None:
        self._belong_to_caller(id_)
        self._step("retry", id=id_, ords=list(ords))

    def compensate(self, id_: str) -> None:
        # What has undone it before, and failed, goes on by that.
        self._belong_to_caller(id_, compensation_id(id_))
        self._step("compensate", id=id_)

    def hasten(self, id_: str, ord_: int) -> None:
        self._step("hasten_activity", id=id_, ord=ord_)

    def resolve(self, id_: str, ord_: int, reason: str, resolution: Resolution) -> None:
        self._step(
            "resolve_activity",
            id=id_,
            ord=ord_,
            reason=reason,
            values=json.dumps(resolution.values) if resolution.values else None,
            outputs=json.dumps(resolution.outputs) if resolution.outputs else None,
        )

    def erase(self, correlation_id: str) -> tuple[int, list[str]]:
        if "\0" in correlation_id:
            return 0, []
        if scheduled := self._delayed_starts.lock(correlation_id):
            return 0, scheduled[:10]
        ((erased, going),) = self._database.rows(SQL["erase"], correlation_id=correlation_id)
        if not going:
            erased += self._delayed_starts.erase(correlation_id)
            runs = self._database.rows(SQL["list_runs"], correlation_id=correlation_id)
            self._dead_letters.erase(correlation_id, (id_ for (id_,) in runs))
        return erased, going or []

    def manifest_of(self, id_: str) -> OrchestrationManifest:
        run = self.get(id_)
        return OrchestrationManifest(
            id=id_,
            correlation_id=run.correlation_id,
            orchestration_type=run.type,
            payload=self._database.value(SQL["input"], id=id_),
        )

    def start(self, manifest: OrchestrationManifest) -> Orchestration:
        return self._orchestrations.start(manifest)

    def note(self, subject: Subject, action: Action, order: Order, before: str, after: str) -> None:
        note(self._database, subject, action, order, before, after)

    def _belong_to_caller(self, *ids: str) -> None:
        """What follows from ended runs that go on belongs to the trace of whoever lets them, if there is one."""
        if belongs_to := trace.headers():
            self._database.rows(SQL["belong_to"], ids=list(ids), trace=trace.text_of(belongs_to))

    def _step(self, name: str, **params: Any) -> None:
        if self._database.rows(SQL[name], **params):
            self._database.announce()
