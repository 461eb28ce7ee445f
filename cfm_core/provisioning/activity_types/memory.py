"""Activity types in memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from cfm_core.audit.model import Kind, Subject
from cfm_core.errors import NotFoundError
from cfm_core.provisioning.activity_types.model import ActivityType
from cfm_core.provisioning.engine.model import ENDED, ActivityState
from cfm_core.provisioning.memory.admission import admit, rate_opens_at
from cfm_core.provisioning.memory.runs import Gate, Runs
from cfm_core.provisioning.operations.model import Order
from cfm_core.provisioning.orchestrations.actions import Action


class MemoryActivityTypes:
    """See ``ActivityTypeStore``."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs

    @contextlib.contextmanager
    def held(self, type_: str) -> Iterator[None]:
        with self._runs.lock:
            yield

    def all(self) -> list[ActivityType]:
        with self._runs.lock:
            paused = {type_ for type_, gate in self._runs.gates.items() if gate.paused}
            types = {*self._runs.activity_definitions, *self._runs.announced, *paused}
            return [self._shown(type_) for type_ in sorted(types)]

    def get(self, type_: str) -> ActivityType:
        for one in self.all():
            if one.type == type_:
                return one
        raise NotFoundError("activity type", type_)

    def set_paused(self, type_: str, paused: bool) -> None:
        gate = self._runs.gates.setdefault(type_, Gate())
        gate.paused, gate.version = paused, gate.version + 1
        if not paused:
            admit(self._runs, [type_])

    def note(self, type_: str, action: Action, order: Order, before: str, after: str) -> None:
        self._runs.note(Subject(Kind.ACTIVITY_TYPES, type_), action, order, before, after)

    def _shown(self, type_: str) -> ActivityType:
        gate, limits = self._runs.gates.get(type_, Gate()), self._runs.limits(type_)
        now = self._runs.clock()
        counts: dict[str, dict[ActivityState, int]] = {}
        for run in self._runs.runs.values():
            for node in run.nodes.values():
                held_back = node.state is ActivityState.READY and run.paused
                if (
                    node.type == type_
                    and not node.compiled.calls
                    and node.state not in {*ENDED, ActivityState.BLOCKED}
                    and not held_back
                ):
                    of_tenant = counts.setdefault(run.tenant_id, {})
                    of_tenant[node.state] = of_tenant.get(node.state, 0) + 1
        return ActivityType(
            type=type_,
            version=gate.version,
            has_agent=type_ in self._runs.announced,
            paused=gate.paused,
            concurrency=limits.concurrency,
            concurrency_per_tenant=limits.concurrency_per_tenant,
            rate=limits.rate,
            rate_per_tenant=limits.rate_per_tenant,
            rate_opens_at=rate_opens_at(self._runs, type_, None, now),
            tenant_rates_open_at={
                tenant: at
                for tenant, of_tenant in counts.items()
                if limits.rate_per_tenant is not None
                and ActivityState.READY in of_tenant
                and (at := rate_opens_at(self._runs, type_, tenant, now)) is not None
            },
            failures=gate.failures,
            probe_at=gate.probe_at,
            counts=counts,
        )
