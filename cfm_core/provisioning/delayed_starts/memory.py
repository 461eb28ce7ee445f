"""Orchestrations that are to start later, in memory; ``MemoryOrchestrations`` keeps them."""

from __future__ import annotations

from cfm_core.provisioning.engine.model import OrchestrationState, Progress, unknown_type_detail
from cfm_core.provisioning.memory.runs import Delayed, Runs
from cfm_core.provisioning.memory.starting import start


class MemoryDelayedStarts:
    """See ``Due``."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs

    def cancel(self, id_: str, reason: str) -> bool:
        """Whether there was something to cancel that had not been started."""
        with self._runs.lock:
            delayed = self._runs.delayed.get(id_)
            if id_ in self._runs.runs or delayed is None or delayed.state is not OrchestrationState.SCHEDULED:
                return False
            delayed.end(OrchestrationState.CANCELLED, reason, self._runs.clock())
            return True

    def scheduled(self, correlation_id: str) -> list[str]:
        """The ids of those of a correlation id that are to start."""
        return sorted(one.manifest.id for one in self._of(correlation_id) if one.state is OrchestrationState.SCHEDULED)

    def erase(self, correlation_id: str) -> int:
        """Forget those of a correlation id; gives their number."""
        gone = self._of(correlation_id)
        for one in gone:
            del self._runs.delayed[one.manifest.id]
        return len(gone)

    def list_due(self, most: int) -> list[str]:
        with self._runs.lock:
            return [one.manifest.id for one in self._due()][:most]

    def start_due(self, most: int, among: list[str] | None) -> Progress:
        with self._runs.lock:
            due = [one for one in self._due() if among is None or one.manifest.id in among][:most]
            traces = {one.manifest.id: one.belongs_to for one in due}
            rows, started = start(self._runs, [one.manifest for one in due], traces)
            for one in due:
                if one.manifest.id in started:
                    # Another version than what was shown before.
                    self._runs.runs[one.manifest.id].version += 1
                    del self._runs.delayed[one.manifest.id]
                else:
                    detail = unknown_type_detail(one.manifest.orchestration_type, one.manifest.template_ref)
                    self.set_aside(one.manifest.id, detail)
            return Progress(rows)

    def set_aside(self, id_: str, reason: str) -> None:
        with self._runs.lock:
            self._runs.delayed[id_].end(OrchestrationState.ERRORED, reason, self._runs.clock())

    def _of(self, correlation_id: str) -> list[Delayed]:
        return [one for one in self._runs.delayed.values() if one.manifest.correlation_id == correlation_id]

    def _due(self) -> list[Delayed]:
        now = self._runs.clock()
        due = [
            one
            for one in self._runs.delayed.values()
            if one.state is OrchestrationState.SCHEDULED and one.start_at <= now
        ]
        return sorted(due, key=lambda one: (one.start_at, one.manifest.id))
