"""Activities that are carried out by orchestrations, in memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from cfm_core.contracts.activity import ActivityOutcome
from cfm_core.contracts.orchestration import OrchestrationManifest
from cfm_core.contracts.reply import OutboxRow
from cfm_core.errors import ConflictError, NotFoundError
from cfm_core.provisioning.calls.model import Call, CalledActivity, Child, Elements, NewChild
from cfm_core.provisioning.definitions.model import orchestration_in
from cfm_core.provisioning.engine.model import UNDONE, ActivityState
from cfm_core.provisioning.memory import orders
from cfm_core.provisioning.memory.advancing import advance
from cfm_core.provisioning.memory.announcing import kept_endings, mapped_inputs, values_for
from cfm_core.provisioning.memory.outcomes import decide
from cfm_core.provisioning.memory.runs import Run, Runs, nodes_of
from cfm_core.provisioning.memory.starting import begin, definition_for
from cfm_core.provisioning.storable import copy


class MemoryCalls:
    """See ``CallStore``."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs

    @contextlib.contextmanager
    def held(self, call: Call) -> Iterator[_HeldActivity]:
        with self._runs.lock:
            yield _HeldActivity(self._runs, call)


class _HeldActivity:
    """See ``HeldActivity``."""

    def __init__(self, runs: Runs, call: Call) -> None:
        self._runs = runs
        self._call = call
        self.activity = self._look(call)

    def keep_elements(self, elements: Sequence[object]) -> None:
        self._runs.fan_outs[self._call.orchestration_id, self._call.ord] = copy({"": list(elements)})[""]

    def start(self, children: Sequence[NewChild]) -> list[OutboxRow]:
        now = self._runs.clock()
        return begin(self._runs, [self._new_run(child, now) for child in children], now)

    def retry(self, id_: str) -> list[OutboxRow]:
        run = self._runs.runs[id_]
        run.belongs_to = self._runs.runs[self._call.orchestration_id].belongs_to
        return orders.retry(self._runs, run, [place for place, node in run.nodes.items() if node.state in UNDONE])

    def cancel(self, id_: str, reason: str) -> list[OutboxRow]:
        return orders.cancel(self._runs, self._runs.runs[id_], reason, undoes=None)

    def record(self, outcome: ActivityOutcome) -> list[OutboxRow]:
        return advance(self._runs, decide(self._runs, [outcome]))

    def _look(self, call: Call) -> CalledActivity | None:
        run = self._runs.runs.get(call.orchestration_id)
        node = run.nodes.get(call.ord) if run is not None and run.phase == call.phase else None
        if run is None or node is None or not node.compiled.calls or node.dispatched_at is None:
            return None
        if node.state not in (ActivityState.DISPATCHED, ActivityState.WAITING):
            return None
        each = node.compiled.for_each
        return CalledActivity(
            call=call,
            id=node.id,
            token=node.token,
            waits=node.state is ActivityState.WAITING,
            dispatched_at=node.dispatched_at,
            goes_on=run.goes_on,
            paused=run.paused,
            depth=self._depth(run),
            values=values_for(run, call.ord),
            elements=None
            if each is None
            else Elements(
                source=each.source.key,
                name=each.name,
                concurrency=each.concurrency,
                kept=self._runs.fan_outs.get((call.orchestration_id, call.ord)),
                found=mapped_inputs(run, [each.source]).get("source"),
            ),
            children=self._children(call),
            undone=self._children(Call(call.orchestration_id, 0, call.ord)) if call.phase == 1 else (),
        )

    def _depth(self, run: Run) -> int:
        return 0 if run.parent is None else 1 + self._depth(self._runs.runs[run.parent.orchestration_id])

    def _children(self, call: Call) -> list[Child]:
        found = [run for run in self._runs.runs.values() if run.parent == call]
        return sorted((_child(run) for run in found), key=lambda child: child.element)

    def _new_run(self, child: NewChild, now: Any) -> Run:
        parent = self._runs.runs[self._call.orchestration_id]
        node = parent.nodes[self._call.ord]
        called = orchestration_in(node.type)
        manifest = OrchestrationManifest(
            id=child.id[:512],
            correlation_id=parent.manifest.correlation_id,
            orchestration_type=called or parent.definition.type,
            payload=copy(dict(child.payload)),
        ).model_copy(update={"id": child.id})
        if child.id in self._runs.runs:
            raise ConflictError(f"there is another orchestration {child.id}")
        if called:
            defined = definition_for(self._runs, manifest)
            if defined is None:
                raise NotFoundError("active orchestration type", called)
            definition, made, phases = defined.definition, defined.made, {0: dict(enumerate(defined.made.activities))}
        else:
            assert node.compiled.child_phase is not None
            phase = node.compiled.child_phase
            definition, made, phases = parent.definition, parent.made, {phase: {0: parent.made.single[phase]}}
        return Run(
            manifest,
            definition,
            made,
            {phase: nodes_of(activities) for phase, activities in phases.items()},
            now,
            now,
            tenant_id=parent.tenant_id,
            parent=self._call,
            element=child.element,
            belongs_to=parent.belongs_to,
        )


def _child(run: Run) -> Child:
    single = run.phase > 1
    values, outputs = kept_endings(run, run.phase if single else 0)
    if not single:
        values = outputs = run.outputs | outputs
    elif (recorded := run.nodes[0].recorded) is not None:
        values, outputs = recorded.values, recorded.outputs
    return Child(
        id=run.manifest.id,
        element=run.element or 0,
        state=run.state,
        state_at=run.state_at,
        error_detail=run.error_detail,
        values=values,
        outputs=outputs,
    )
