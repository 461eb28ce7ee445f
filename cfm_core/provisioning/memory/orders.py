"""What operators do to runs; see migration 0014."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from cfm_core.contracts.activity import ActivityOutcome, OutcomeKind
from cfm_core.contracts.orchestration import compensation_id
from cfm_core.contracts.reply import OutboxRow
from cfm_core.provisioning.engine.model import RESEND_COMPENSATION, UNDONE, ActivityState, OrchestrationState
from cfm_core.provisioning.memory.admission import admit, leave_queue, release
from cfm_core.provisioning.memory.advancing import advance, fail_run, skip, undo_runs, unlock
from cfm_core.provisioning.memory.announcing import (
    announce_calls,
    announce_dispatches,
    announce_endings,
    become_ready,
    compensated_by,
)
from cfm_core.provisioning.memory.runs import Move, Run, Runs
from cfm_core.trace import NONE

_GOING = (
    (OrchestrationState.RUNNING, OrchestrationState.COMPLETED),
    (OrchestrationState.COMPENSATING, OrchestrationState.COMPENSATED),
)
"""By whether it is undone: of a run that goes on, and of one that has nothing left to do."""


def pause(runs: Runs, run: Run, *, above: bool = False) -> None:
    """See ``provision_manager.pause_run``."""
    leave_queue(runs, run)
    run.paused, run.paused_above, run.version = True, above, run.version + 1
    for child in _children(runs, run):
        if child.state is OrchestrationState.RUNNING and not child.paused:
            pause(runs, child, above=True)


def resume(runs: Runs, run: Run) -> list[OutboxRow]:
    """See ``provision_manager.resume_run``."""
    run.paused, run.version = False, run.version + 1
    rows = release(runs, run, runs.clock()) + announce_calls(runs, [run])
    below = [child for child in _children(runs, run) if child.paused and child.paused_above]
    return rows + [row for child in below for row in resume(runs, child)]


def _children(runs: Runs, run: Run) -> list[Run]:
    of_run = run.manifest.id
    return [one for one in runs.runs.values() if one.parent is not None and one.parent.orchestration_id == of_run]


def cancel(runs: Runs, run: Run, reason: str, *, undoes: bool | None) -> list[OutboxRow]:
    """See ``provision_manager.cancel_run``."""
    now = runs.clock()
    fail_run(runs, run, reason, now, final=OrchestrationState.CANCELLED, undoes=undoes)
    rows = announce_calls(runs, [run]) + announce_endings(runs, [run])
    if run.state is OrchestrationState.COMPENSATING and run.remaining == 0:
        run.resend_at = now + RESEND_COMPENSATION
        rows += undo_runs(runs, [run], now)
    return rows


def retry(runs: Runs, run: Run, ords: Sequence[int]) -> list[OutboxRow]:
    """See ``provision_manager.retry_run``."""
    now = runs.clock()
    crossed: set[str] = set()
    skipped = []
    for ord_ in ords:
        node = run.nodes[ord_]
        node.failures = node.unanswered = 0
        node.state, node.close_by, node.due_at = ActivityState.BLOCKED, None, None
        if not node.deps_left:
            become_ready(runs, node, now)
        if node.state is ActivityState.READY and not node.dispatches and skip(runs, run, ord_, now):
            skipped.append(ord_)
    sent = unlock(runs, run, skipped, now, crossed, open=True)
    run.retries += 1
    run.error_detail = run.error_detail.split("; not undone: ")[0] if run.is_undone else ""
    run.paused, run.resend_at = False, None
    going, done = _GOING[run.is_undone]
    run.enter(going if run.remaining else done, now)
    undone = compensated_by(runs, run.manifest.id)
    if undone is not None and undone.state is OrchestrationState.COMPENSATION_FAILED and undone.phase == 0:
        undone.enter(OrchestrationState.COMPENSATING, now)
    rows = announce_dispatches(runs, sent) + admit(runs, crossed) + release(runs, run, now)
    if run.state is done:
        rows += announce_endings(runs, *(([], [run]) if run.is_undone else ([run], [])))
    return rows


def compensate(runs: Runs, run: Run) -> None:
    """See ``provision_manager.compensate_run``."""
    before = run if run.is_undone else runs.runs.get(compensation_id(run.manifest.id))
    if before is not None:
        retry(runs, before, [place for place, node in before.nodes.items() if node.state in UNDONE])
        return
    now = runs.clock()
    run.enter(OrchestrationState.COMPENSATING, now)
    if run.remaining == 0:
        run.resend_at = now + RESEND_COMPENSATION
        undo_runs(runs, [run], now)


def hasten(runs: Runs, run: Run, place: int) -> None:
    """See ``provision_manager.hasten_activity``."""
    node = run.nodes[place]
    node.state, node.due_at = ActivityState.READY, node.close_by
    release(runs, run, runs.clock())


def resolve(
    runs: Runs, run: Run, place: int, reason: str, values: Mapping[str, Any], outputs: Mapping[str, Any]
) -> None:
    """See ``provision_manager.resolve_activity``."""
    outcome = ActivityOutcome(
        orchestration_id=run.manifest.id,
        phase=run.phase,
        ord=place,
        token=run.nodes[place].token,
        kind=OutcomeKind.COMPLETE,
        values=dict(values),
        outputs=dict(outputs),
    )
    advance(runs, [Move(run, place, ActivityState.DONE, "resolved", reason=reason, outcome=outcome)])


def erase(runs: Runs, correlation_id: str) -> tuple[int, list[str]]:
    """See ``provision_manager.erase_runs``."""
    found = [run for _, run in sorted(runs.runs.items()) if run.manifest.correlation_id == correlation_id]
    going = [run.manifest.id for run in found if run.remaining or run.resend_at is not None]
    if going:
        return 0, going[:10]
    fresh = [run for run in found if not run.is_erased]
    for run in fresh:
        run.manifest = run.manifest.model_copy(update={"payload": {}})
        run.values, run.outputs, run.error_detail, run.belongs_to, run.is_erased = None, {}, "", NONE, True
        for node in (node for nodes in run.phases.values() for node in nodes.values()):
            node.progress = node.ending = None
        run.version += 1
    ids = {run.manifest.id for run in fresh}
    runs.fan_outs = {key: kept for key, kept in runs.fan_outs.items() if key[0] not in ids}
    runs.history = [replace(told, reason="") if told.orchestration_id in ids else told for told in runs.history]
    return len(fresh), []
