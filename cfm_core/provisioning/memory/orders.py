"""What operators do to runs; see the last part of migration 0003."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from cfm_core.contracts.activity import ActivityOutcome, OutcomeKind
from cfm_core.contracts.orchestration import compensation_id
from cfm_core.provisioning.engine.model import RESEND_COMPENSATION, ActivityState, OrchestrationState
from cfm_core.provisioning.memory.admission import release
from cfm_core.provisioning.memory.advancing import advance, fail_run
from cfm_core.provisioning.memory.announcing import announce_compensations, announce_endings, compensated_by
from cfm_core.provisioning.memory.runs import Move, Run, Runs


def cancel(runs: Runs, run: Run, reason: str, *, undoes: bool) -> None:
    """See ``provision_manager.cancel_run``."""
    now = runs.clock()
    fail_run(runs, run, reason, now, final=OrchestrationState.CANCELLED, undoes=undoes)
    announce_endings(runs, [run])
    if run.state is OrchestrationState.COMPENSATING and run.remaining == 0:
        run.resend_at = now + RESEND_COMPENSATION
        announce_compensations(runs, [run])


def retry(runs: Runs, run: Run, ords: Sequence[int]) -> None:
    """See ``provision_manager.retry_run``."""
    now = runs.clock()
    for ord_ in ords:
        node = run.nodes[ord_]
        node.state = ActivityState.BLOCKED if node.deps_left else ActivityState.READY
        node.failures = node.unanswered = 0
    run.retries += 1
    run.error_detail, run.paused, run.resend_at = "", False, None
    run.enter(OrchestrationState.RUNNING if run.remaining else OrchestrationState.COMPLETED, now)
    undone = compensated_by(runs, run.manifest.id)
    if undone is not None and undone.state is OrchestrationState.COMPENSATION_FAILED:
        undone.enter(OrchestrationState.COMPENSATING, now)
    release(runs, run, now)
    if run.state is OrchestrationState.COMPLETED:
        announce_endings(runs, [run])


def compensate(runs: Runs, run: Run) -> None:
    """See ``provision_manager.compensate_run``."""
    before = runs.runs.get(compensation_id(run.manifest.id))
    if before is not None:
        undone = (ActivityState.FAILED, ActivityState.CANCELLED)
        retry(runs, before, [place for place, node in enumerate(before.nodes) if node.state in undone])
        return
    now = runs.clock()
    run.enter(OrchestrationState.COMPENSATING, now)
    if run.remaining == 0:
        run.resend_at = now + RESEND_COMPENSATION
        announce_compensations(runs, [run])


def hasten(runs: Runs, run: Run, place: int) -> None:
    """See ``provision_manager.hasten_activity``."""
    run.nodes[place].state, run.nodes[place].due_at = ActivityState.READY, None
    release(runs, run, runs.clock())


def resolve(
    runs: Runs, run: Run, place: int, reason: str, values: Mapping[str, Any], outputs: Mapping[str, Any]
) -> None:
    """See ``provision_manager.resolve_activity``."""
    outcome = ActivityOutcome(
        orchestration_id=run.manifest.id,
        phase=0,
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
        run.values, run.outputs, run.error_detail, run.is_erased = None, {}, "", True
        run.version += 1
    ids = {run.manifest.id for run in fresh}
    runs.history = [replace(told, reason="") if told.orchestration_id in ids else told for told in runs.history]
    return len(fresh), []
