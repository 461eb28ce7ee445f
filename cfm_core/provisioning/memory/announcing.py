"""What a step writes to the outbox; see the functions ``announce_...`` of migration 0012."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from cfm_core.contracts import subjects
from cfm_core.contracts.activity import CALL_EVENT, DISPATCH_EVENT, ActivityDispatch
from cfm_core.contracts.orchestration import DISPOSE, VPA_STATE, OrchestrationManifest, compensation_id
from cfm_core.contracts.reply import EventDict, OutboxRow
from cfm_core.provisioning.calls.model import Call
from cfm_core.provisioning.definitions.compiled import CompiledInput
from cfm_core.provisioning.engine.events import cloud_event, manifest_event, response_to
from cfm_core.provisioning.engine.model import ActivityState, OrchestrationState
from cfm_core.provisioning.memory.runs import Node, Run, Runs
from cfm_core.trace import Context


def dispatch(runs: Runs, node: Node, now: datetime) -> None:
    node.state = ActivityState.DISPATCHED
    node.dispatches += 1
    node.unanswered += 1
    node.token = str(uuid.uuid4())
    node.dispatched_at, node.started_at = now, None
    node.due_at = node.due(now + runs.policy(node).start_in)


def become_ready(runs: Runs, node: Node, now: datetime) -> None:
    """From now on it could be sent."""
    closes_in = runs.policy(node).schedule_to_close
    node.state = ActivityState.READY
    node.close_by = node.due_at = None if closes_in is None else now + closes_in


def announce_dispatches(runs: Runs, sent: Sequence[tuple[Run, int]]) -> list[OutboxRow]:
    by_subject: dict[str, list[EventDict]] = {}
    for run, place in sent:
        node, policy = run.nodes[place], runs.policy(run.nodes[place])
        event_id = f"{run.manifest.id}/{run.phase}/{place}/{node.dispatches}"
        if node.compiled.calls:
            by_subject.setdefault(subjects.CALLS, []).append(call_event(event_id, run, place))
            continue
        assert node.dispatched_at is not None
        dispatch = ActivityDispatch(
            orchestration_id=run.manifest.id,
            phase=run.phase,
            ord=place,
            token=node.token,
            activity_id=node.id,
            activity_type=node.type,
            discriminator=DISPOSE if run.phase % 2 else run.definition.type,
            correlation_id=run.manifest.correlation_id,
            attempt=node.failures + 1,
            deadline=node.due(node.dispatched_at + (policy.schedule_to_start or timedelta(0)) + policy.timeout),
            timeout_seconds=None if policy.schedule_to_start is None else policy.timeout.total_seconds(),
            values=values_for(run, place),
            outputs=run.outputs,
        )
        data, subject = dispatch.to_json(), subjects.activity(node.type)
        if node.compiled.input_schema is not None:
            data, subject = data | {"inputSchema": node.compiled.input_schema}, subjects.INPUTS
        by_subject.setdefault(subject, []).append(
            cloud_event(
                id=event_id,
                type=DISPATCH_EVENT,
                orchestration_id=run.manifest.id,
                data=data,
                belongs_to=run.belongs_to,
            )
        )
    return [row for subject, events in by_subject.items() for row in runs.put(subject, events)]


def values_for(run: Run, place: int) -> dict[str, Any]:
    inputs = run.nodes[place].compiled.inputs
    values = mapped_inputs(run, inputs) if inputs else run.processing_data
    return values | recorded(run, place) if run.is_undone else values


def recorded(run: Run, place: int) -> dict[str, Any]:
    """See ``provision_manager.recorded``."""
    node = run.phases[0][place]
    told = node.recorded or node.ending
    return {} if told is None else told.values | told.outputs


def kept_endings(run: Run, phase: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """See ``provision_manager.kept_endings``."""
    values: dict[str, Any] = {}
    outputs: dict[str, Any] = {}
    for _, node in sorted(run.phases[phase].items()):
        if node.ending is not None:
            values |= node.ending.values
            outputs |= node.ending.outputs
    return values, outputs


def mapped_inputs(run: Run, inputs: Iterable[CompiledInput]) -> dict[str, Any]:
    """See ``provision_manager.mapped_inputs``."""
    values = {}
    for one in inputs:
        recorded = run.phases[0][one.ord].recorded if one.ord is not None else None
        places = (recorded.values, recorded.outputs) if recorded is not None else ()
        for place in (*places, run.processing_data):
            if one.key in place:
                values[one.target] = place[one.key]
                break
    return values


def announce_endings(runs: Runs, ended: Sequence[Run], undone: Sequence[Run] = ()) -> list[OutboxRow]:
    """See ``provision_manager.announce_endings``."""
    for run in ended:
        succeeded = run.state is OrchestrationState.COMPLETED
        settle_compensated(
            runs,
            run.manifest.id,
            OrchestrationState.COMPENSATED if succeeded else OrchestrationState.COMPENSATION_FAILED,
        )
    answered = [(run, run.manifest, OrchestrationState.COMPLETED) for run in ended if run.parent is None]
    answered += [(run, _compensation(run), OrchestrationState.COMPENSATED) for run in undone if run.parent is None]
    rows = runs.put(
        subjects.RESPONSES,
        [
            response_to(
                manifest,
                run.belongs_to,
                success=run.state is good,
                error_detail="" if run.state is good else run.error_detail,
                properties=run.outputs,
                retries=run.retries,
            )
            for run, manifest, good in answered
        ],
    )
    return rows + announce_to_parents(runs, [*ended, *undone])


def call_event(event_id: str, run: Run, place: int) -> EventDict:
    """Has somebody look after an activity that orchestrations carry out."""
    return _call_event(event_id, Call(run.manifest.id, run.phase, place), run.belongs_to)


def _call_event(event_id: str, call: Call, belongs_to: Context) -> EventDict:
    data = {"orchestrationId": call.orchestration_id, "phase": call.phase, "ord": call.ord}
    return cloud_event(
        id=event_id, type=CALL_EVENT, orchestration_id=call.orchestration_id, data=data, belongs_to=belongs_to
    )


def announce_keys(runs: Runs, calls: Iterable[Call]) -> list[OutboxRow]:
    """See ``provision_manager.announce_keys``."""
    events = [_call_event(str(uuid.uuid4()), one, runs.runs[one.orchestration_id].belongs_to) for one in calls]
    return runs.put(subjects.CALLS, events)


def announce_to_parents(runs: Runs, ended: Iterable[Run]) -> list[OutboxRow]:
    """See ``provision_manager.announce_to_parents``."""
    both = [one for run in ended for one in (run, compensated_by(runs, run.manifest.id)) if one is not None]
    return announce_keys(runs, sorted({run.parent for run in both if run.parent is not None}))


def announce_calls(runs: Runs, failed: Iterable[Run]) -> list[OutboxRow]:
    """See ``provision_manager.announce_calls``."""
    live = (ActivityState.DISPATCHED, ActivityState.WAITING)
    return announce_keys(
        runs,
        [
            Call(run.manifest.id, run.phase, place)
            for run in failed
            for place, node in run.nodes.items()
            if node.compiled.calls and node.state in live
        ],
    )


def announce_compensations(runs: Runs, undone: Sequence[Run]) -> list[OutboxRow]:
    return runs.put(
        subjects.MANIFESTS,
        [manifest_event(_compensation(run), run.manifest.id, run.belongs_to) for run in undone],
    )


def _compensation(run: Run) -> OrchestrationManifest:
    """What undoes a run gets its data twice: key by key, and what the run has given out as the state of a participant too."""
    values, outputs = kept_endings(run, 0)
    data = run.processing_data | values
    state = data.get(VPA_STATE)
    return OrchestrationManifest(
        id=compensation_id(run.manifest.id),
        correlation_id=run.manifest.correlation_id,
        orchestration_type=DISPOSE,
        payload=data | {VPA_STATE: (state if isinstance(state, dict) else {}) | run.outputs | outputs},
    )


def compensated_by(runs: Runs, id_: str) -> Run | None:
    suffix = compensation_id("")
    return runs.runs.get(id_.removesuffix(suffix)) if id_.endswith(suffix) else None


def settle_compensated(runs: Runs, id_: str, state: OrchestrationState) -> None:
    failed = compensated_by(runs, id_)
    if failed is not None and failed.state is OrchestrationState.COMPENSATING and failed.phase == 0:
        failed.enter(state, runs.clock())
        failed.resend_at = None
