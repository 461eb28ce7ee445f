"""Moves carried out: see ``provision_manager.advance``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from cfm_core.contracts.activity import ActivityOutcome, OutcomeKind
from cfm_core.contracts.orchestration import DEPLOY, DISPOSE, VPA_STATE
from cfm_core.contracts.reply import OutboxRow
from cfm_core.provisioning.definitions.model import UndoMode
from cfm_core.provisioning.engine.model import ENDED, RESEND_COMPENSATION, UNDONE, ActivityState, OrchestrationState
from cfm_core.provisioning.memory.admission import admit, count_failures, enqueue, leave, leave_queue, release, send
from cfm_core.provisioning.memory.announcing import (
    announce_calls,
    announce_compensations,
    announce_dispatches,
    announce_endings,
    announce_to_parents,
    become_ready,
    dispatch,
)
from cfm_core.provisioning.memory.runs import Move, Run, Runs, Told, nodes_of
from cfm_core.provisioning.storable import copy
from cfm_core.query import holds

_ENDINGS = (
    (OrchestrationState.COMPLETED, OrchestrationState.ERRORED),
    (OrchestrationState.COMPENSATED, OrchestrationState.COMPENSATION_FAILED),
)
"""By whether it is undone: of a run whose activities have all been done, and of one of which some were left out."""
_NOT_SENT = (ActivityState.BLOCKED, ActivityState.READY, ActivityState.BACKOFF, ActivityState.WAITING)


def advance(runs: Runs, moves: Sequence[Move]) -> list[OutboxRow]:
    now = runs.clock()
    touched = {move.run.manifest.id: move.run for move in moves}
    went_on = {id_ for id_, run in touched.items() if run.goes_on}
    reasons: dict[str, str] = {}
    sent: list[tuple[Run, int]] = []
    crossed = {slot.type for move in moves if (slot := leave(runs, move.run, move.ord)) is not None}

    for move in moves:
        run, node = move.run, move.run.nodes[move.ord]
        if move.outcome is not None:
            _merge(run, move.outcome)
            node.recorded = move.outcome if move.state is ActivityState.DONE else None
        if move.kind:
            next_at = None if move.due_in is None else node.due(now + move.due_in)
            attempt = node.failures + 1
            told = Told(
                *(run.manifest.id, move.ord, move.kind, move.reason, now),
                *(node.dispatches, attempt, node.dispatched_at, next_at),
                phase=run.phase,
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
        if move.state in ENDED:
            node.due_at = None
        else:
            node.due_at = node.due(None if move.due_in is None else now + move.due_in)
        if move.state in (ActivityState.DONE, ActivityState.FAILED) and node.ending is not None:
            # One that was ended with the token of an earlier dispatch is known by that one to whoever asks again.
            node.token = node.ending.token
            if move.state is ActivityState.DONE or node.ending.kind is OutcomeKind.FATAL:
                # What somebody outside has completed is completed if it is tried again.
                node.ending = None
        if move.state is ActivityState.FAILED and run.manifest.id in went_on:
            reasons.setdefault(run.manifest.id, move.reason)

    for id_, run in touched.items():
        done = [move.ord for move in moves if move.run is run and move.state is ActivityState.DONE]
        sent += unlock(runs, run, done, now, crossed, open=id_ in went_on and id_ not in reasons)

    if any(move.failed for move in moves) or any(gate.failures for gate in runs.gates.values()):
        crossed |= count_failures(runs, moves, now)
    ended: list[Run] = []
    undone: list[Run] = []
    undoing: list[Run] = []
    stopped: list[Run] = []
    calling: list[Run] = []
    seen = {move.run.manifest.id for move in moves if move.state in ENDED or _has_data(move.outcome)}
    for id_, run in sorted(touched.items()):
        if id_ in reasons:
            (undone if run.is_undone else ended).append(run)
            fail_run(runs, run, reasons[id_], now)
            calling.append(run)
        elif run.remaining == 0 and run.goes_on:
            _finish(run, now)
            (undone if run.is_undone else ended).append(run)
        elif run.remaining == 0 and run.state is OrchestrationState.CANCELLING:
            run.enter(OrchestrationState.CANCELLED, now)
            stopped.append(run)
        elif id_ in seen:
            run.version += 1
        if run.state is OrchestrationState.COMPENSATING and run.remaining == 0:
            run.resend_at = now + RESEND_COMPENSATION
            undoing.append(run)
    rows = announce_dispatches(runs, sent) + announce_endings(runs, ended, undone) + undo_runs(runs, undoing, now)
    rows += announce_calls(runs, calling) + announce_to_parents(runs, stopped)
    return rows + admit(runs, crossed)


def unlock(
    runs: Runs, run: Run, ended: Iterable[int], now: datetime, crossed: set[str], *, open: bool
) -> list[tuple[Run, int]]:
    """See ``provision_manager.unlock``."""
    told, sent = list(ended), []
    while told:
        skipped = []
        for place in (child for parent in told for child in run.nodes[parent].children if child in run.nodes):
            child = run.nodes[place]
            child.deps_left -= 1
            if open and child.deps_left == 0 and child.state is ActivityState.BLOCKED:
                if skip(runs, run, place, now):
                    skipped.append(place)
                else:
                    become_ready(runs, child, now)
                    sent += send(runs, run, place, now, crossed)
        told = skipped
    return sent


def skip(runs: Runs, run: Run, place: int, now: datetime) -> bool:
    """Whether the condition of an activity that could be sent does not hold; then it is skipped."""
    node = run.nodes[place]
    if node.compiled.condition is None or holds(node.compiled.condition, run.processing_data):
        return False
    node.state, node.close_by, node.due_at = ActivityState.SKIPPED, None, None
    runs.history.append(Told(run.manifest.id, place, "skipped", "", now, phase=run.phase))
    return True


def undo_runs(runs: Runs, undoing: Sequence[Run], now: datetime) -> list[OutboxRow]:
    """See ``provision_manager.undo_runs``."""
    by_activities = [run for run in undoing if way_to_undo(runs, run) == "activities"]
    rows = announce_compensations(runs, [run for run in undoing if run not in by_activities])
    for run in by_activities:
        again = {place for place, node in run.nodes.items() if node.dispatches or node.state is ActivityState.DONE}
        run.phases[1] = nodes_of({place: one for place, one in run.made.undoing.items() if place in again})
        run.resend_at = None
        run.enter(OrchestrationState.COMPENSATING if run.nodes else OrchestrationState.COMPENSATED, now)
        for node in run.nodes.values():
            if node.deps_left == 0:
                become_ready(runs, node, now)
        rows += release(runs, run, now)
    return rows + announce_endings(runs, [], [run for run in by_activities if not run.nodes])


def _has_data(outcome: ActivityOutcome | None) -> bool:
    return outcome is not None and bool(outcome.values or outcome.deleted or outcome.outputs)


def _merge(run: Run, outcome: ActivityOutcome) -> None:
    if outcome.values or outcome.deleted:
        kept = {key: value for key, value in run.processing_data.items() if key not in outcome.deleted}
        run.values = kept | copy(outcome.values)
    run.outputs |= copy(outcome.outputs)


def _finish(run: Run, now: datetime) -> None:
    left_out = [node for _, node in sorted(run.nodes.items()) if node.state in UNDONE]
    run.paused = False
    good, bad = _ENDINGS[run.is_undone]
    if left_out:
        _explain(run, f"activity {left_out[0].id} ({left_out[0].type}) was not retried")
    run.enter(bad if left_out else good, now)


def _explain(run: Run, reason: str) -> None:
    run.error_detail = f"{run.error_detail}; not undone: {reason}" if run.is_undone else reason


def fail_run(
    runs: Runs,
    run: Run,
    reason: str,
    now: datetime,
    *,
    final: OrchestrationState = OrchestrationState.ERRORED,
    undoes: bool | None = None,
) -> None:
    """See ``provision_manager.fail_runs``."""
    for node in run.nodes.values():
        if node.state in _NOT_SENT and not (node.compiled.calls and node.state is ActivityState.WAITING):
            node.state, node.due_at = ActivityState.CANCELLED, None
    leave_queue(runs, run)
    _explain(run, reason)
    run.paused = False
    undo = run.definition.undo
    # A live participant, whose state goes along, must not end because of a change that failed.
    compensable = run.phase == 0 and way_to_undo(runs, run) is not None and not changes_live(run)
    if compensable and undoes is None and undo.after is not None:
        run.resend_at = now + undo.after
    if run.is_undone:
        run.enter(OrchestrationState.COMPENSATION_FAILED, now)
    elif compensable and (undo.mode is UndoMode.AUTO if undoes is None else undoes):
        run.enter(OrchestrationState.COMPENSATING, now)
    elif final is OrchestrationState.CANCELLED and run.remaining:
        run.enter(OrchestrationState.CANCELLING, now)
    else:
        run.enter(final, now)


def way_to_undo(runs: Runs, run: Run) -> str | None:
    """See ``provision_manager.way_to_undo``."""
    own, now = run.definition.template_ref, runs.active(run.definition.type)
    if run.definition.type == DISPOSE or run.phase > 1:
        return None
    if any(
        one.definition.template_ref == own
        or (one.definition.active and now is not None and one.definition.template_ref == now.definition.template_ref)
        for one in runs.in_force(DISPOSE)
    ):
        return "manifest"
    return "activities" if run.made.undoing else None


def changes_live(run: Run) -> bool:
    return run.definition.type == DEPLOY and VPA_STATE in run.manifest.payload
