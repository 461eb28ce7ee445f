"""Moves carried out: see ``provision_manager.advance``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from cfm_core.contracts.activity import ActivityOutcome
from cfm_core.contracts.orchestration import DEPLOY, DISPOSE, VPA_STATE
from cfm_core.contracts.reply import OutboxRow
from cfm_core.provisioning.engine.model import ENDED, RESEND_COMPENSATION, ActivityState, OrchestrationState
from cfm_core.provisioning.memory.admission import admit, count_failures, enqueue, leave, leave_queue, send
from cfm_core.provisioning.memory.announcing import (
    announce_compensations,
    announce_dispatches,
    announce_endings,
    dispatch,
)
from cfm_core.provisioning.memory.runs import Move, Run, Runs, Told
from cfm_core.provisioning.storable import copy

_NOT_SENT = (ActivityState.BLOCKED, ActivityState.READY, ActivityState.BACKOFF, ActivityState.WAITING)


def advance(runs: Runs, moves: Sequence[Move]) -> list[OutboxRow]:
    now = runs.clock()
    touched = {move.run.manifest.id: move.run for move in moves}
    was_running = {id_ for id_, run in touched.items() if run.state is OrchestrationState.RUNNING}
    reasons: dict[str, str] = {}
    sent: list[tuple[Run, int]] = []
    crossed = {slot.type for move in moves if (slot := leave(runs, move.run, move.ord)) is not None}

    for move in moves:
        run, node = move.run, move.run.nodes[move.ord]
        if move.outcome is not None:
            _merge(run, move.outcome)
            node.recorded = move.outcome if move.state is ActivityState.DONE else None
        if move.kind:
            next_at = None if move.due_in is None else now + move.due_in
            attempt = node.failures + 1
            told = Told(
                *(run.manifest.id, move.ord, move.kind, move.reason, now),
                *(node.dispatches, attempt, node.dispatched_at, next_at),
            )
            runs.history.append(told)
        node.state = move.state
        node.failures += move.failed
        if move.state is ActivityState.DISPATCHED:
            dispatch(runs, node, now)
            sent.append((run, move.ord))
            continue
        if move.state is ActivityState.READY:
            enqueue(runs, run, move.ord, now, crossed)
        else:
            node.unanswered = 0
        node.due_at = None if move.due_in is None else now + move.due_in
        if move.state is ActivityState.FAILED and run.manifest.id in was_running:
            reasons.setdefault(run.manifest.id, move.reason)

    for move in moves:
        if move.state is not ActivityState.DONE:
            continue
        for place in move.run.nodes[move.ord].children:
            child = move.run.nodes[place]
            child.deps_left -= 1
            goes_on = move.run.manifest.id in was_running and move.run.manifest.id not in reasons
            if goes_on and child.deps_left == 0 and child.state is ActivityState.BLOCKED:
                sent += send(runs, move.run, place, now, crossed)

    if any(move.failed for move in moves) or any(gate.failures for gate in runs.gates.values()):
        crossed |= count_failures(runs, moves, now)
    ended, undone = [], []
    seen = {move.run.manifest.id for move in moves if move.state in ENDED or _has_data(move.outcome)}
    for id_, run in sorted(touched.items()):
        if id_ in reasons:
            fail_run(runs, run, reasons[id_], now)
            ended.append(run)
        elif run.remaining == 0 and run.state is OrchestrationState.RUNNING:
            _finish(run, now)
            ended.append(run)
        elif run.remaining == 0 and run.state is OrchestrationState.CANCELLING:
            run.enter(OrchestrationState.CANCELLED, now)
        elif id_ in seen:
            run.version += 1
        if run.state is OrchestrationState.COMPENSATING and run.remaining == 0:
            run.resend_at = now + RESEND_COMPENSATION
            undone.append(run)
    rows = announce_dispatches(runs, sent) + announce_endings(runs, ended) + announce_compensations(runs, undone)
    return rows + admit(runs, crossed)


def _has_data(outcome: ActivityOutcome | None) -> bool:
    return outcome is not None and bool(outcome.values or outcome.deleted or outcome.outputs)


def _merge(run: Run, outcome: ActivityOutcome) -> None:
    if outcome.values or outcome.deleted:
        kept = {key: value for key, value in run.processing_data.items() if key not in outcome.deleted}
        run.values = kept | copy(outcome.values)
    run.outputs |= copy(outcome.outputs)


def _finish(run: Run, now: datetime) -> None:
    left_out = [node for node in run.nodes if node.state is not ActivityState.DONE]
    run.paused = False
    if left_out:
        run.error_detail = f"activity {left_out[0].id} ({left_out[0].type}) was not retried"
    run.enter(OrchestrationState.ERRORED if left_out else OrchestrationState.COMPLETED, now)


def fail_run(
    runs: Runs,
    run: Run,
    reason: str,
    now: datetime,
    *,
    final: OrchestrationState = OrchestrationState.ERRORED,
    undoes: bool = True,
) -> None:
    for node in run.nodes:
        if node.state in _NOT_SENT:
            node.state, node.due_at = ActivityState.CANCELLED, None
    leave_queue(runs, run)
    run.error_detail, run.paused = reason, False
    # A live participant, whose state goes along, must not end because of a change that failed.
    if undoes and is_compensable(runs, run) and not changes_live(run):
        run.enter(OrchestrationState.COMPENSATING, now)
    elif final is OrchestrationState.CANCELLED and run.remaining:
        run.enter(OrchestrationState.CANCELLING, now)
    else:
        run.enter(final, now)


def is_compensable(runs: Runs, run: Run) -> bool:
    own, now = run.definition.template_ref, runs.active(run.definition.type)
    return run.definition.type != DISPOSE and any(
        one.definition.template_ref == own
        or (one.definition.active and now is not None and one.definition.template_ref == now.definition.template_ref)
        for one in runs.in_force(DISPOSE)
    )


def changes_live(run: Run) -> bool:
    return run.definition.type == DEPLOY and VPA_STATE in run.manifest.payload
