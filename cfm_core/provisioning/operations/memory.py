"""What operators do, in memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from cfm_core import trace
from cfm_core.access.model import Bounds
from cfm_core.audit.model import Subject
from cfm_core.contracts.orchestration import OrchestrationManifest, compensation_id
from cfm_core.provisioning.dead_letters.memory import MemoryDeadLetters
from cfm_core.provisioning.delayed_starts.memory import MemoryDelayedStarts
from cfm_core.provisioning.memory import orders
from cfm_core.provisioning.memory.orchestrations import MemoryOrchestrations
from cfm_core.provisioning.memory.runs import Runs
from cfm_core.provisioning.operations.model import Order, Resolution
from cfm_core.provisioning.orchestrations.actions import Action
from cfm_core.provisioning.orchestrations.model import Orchestration
from cfm_core.provisioning.storable import check_storable


class MemoryOperations:
    """See ``OperationStore``."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self._orchestrations = MemoryOrchestrations(runs)
        self._delayed_starts = MemoryDelayedStarts(runs)

    @contextlib.contextmanager
    def held(self, id_: str, *, with_below: bool = False) -> Iterator[None]:
        with self._runs.lock:
            yield

    def get(self, id_: str) -> Orchestration:
        return self._orchestrations.get(id_)

    def find(self, id_: str, bounds: Bounds) -> Orchestration | None:
        return self._orchestrations.find(id_, bounds)

    def pause(self, id_: str) -> None:
        orders.pause(self._runs, self._runs.runs[id_])

    def resume(self, id_: str) -> None:
        orders.resume(self._runs, self._runs.runs[id_])

    def cancel(self, id_: str, reason: str, *, undoes: bool) -> None:
        check_storable(reason)
        if self._delayed_starts.cancel(id_, reason):
            return
        orders.cancel(self._runs, self._runs.runs[id_], reason, undoes=undoes)

    def retry(self, id_: str, ords: Sequence[int]) -> None:
        self._belong_to_caller(id_)
        orders.retry(self._runs, self._runs.runs[id_], ords)

    def compensate(self, id_: str) -> None:
        self._belong_to_caller(id_, compensation_id(id_))
        orders.compensate(self._runs, self._runs.runs[id_])

    def hasten(self, id_: str, ord_: int) -> None:
        orders.hasten(self._runs, self._runs.runs[id_], ord_)

    def resolve(self, id_: str, ord_: int, reason: str, resolution: Resolution) -> None:
        check_storable([reason, resolution.values, resolution.outputs])
        orders.resolve(self._runs, self._runs.runs[id_], ord_, reason, resolution.values, resolution.outputs)

    def erase(self, correlation_id: str) -> tuple[int, list[str]]:
        if scheduled := self._delayed_starts.scheduled(correlation_id):
            return 0, scheduled[:10]
        erased, going = orders.erase(self._runs, correlation_id)
        if not going:
            erased += self._delayed_starts.erase(correlation_id)
            runs = [id_ for id_, run in self._runs.runs.items() if run.manifest.correlation_id == correlation_id]
            MemoryDeadLetters(self._runs).erase(correlation_id, runs)
        return erased, going

    def manifest_of(self, id_: str) -> OrchestrationManifest:
        run = self._runs.runs.get(id_)
        return run.manifest if run else self._runs.delayed[id_].manifest

    def start(self, manifest: OrchestrationManifest) -> Orchestration:
        return self._orchestrations.start(manifest)

    def note(self, subject: Subject, action: Action, order: Order, before: str, after: str) -> None:
        self._runs.note(subject, action, order, before, after)

    def _belong_to_caller(self, *ids: str) -> None:
        if belongs_to := trace.headers():
            for run in (self._runs.runs[id_] for id_ in ids if id_ in self._runs.runs):
                run.belongs_to = belongs_to
