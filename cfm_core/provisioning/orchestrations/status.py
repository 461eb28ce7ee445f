"""What a run is doing, in words: the one place where that is worked out.

Source: interface decisions, "Status".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

from cfm_core.contracts.activity import OutcomeKind
from cfm_core.contracts.orchestration import compensation_id
from cfm_core.provisioning.engine.model import ActivityState, OrchestrationState
from cfm_core.provisioning.orchestrations.model import ActivityStatus, Orchestration

_LATE = timedelta(seconds=10)
"""After so long somebody should have taken care of what is due."""

Status = tuple[str, str]
"""A word, and the reason for it: never empty for a run that does not move by itself."""


def status_of(run: Orchestration, now: datetime) -> Status:
    """The run's status as of ``now``."""
    match run.state:
        case OrchestrationState.SCHEDULED:
            return "queued", f"it starts at {run.start_at:%Y-%m-%dT%H:%M:%SZ}"
        case OrchestrationState.RUNNING if run.paused:
            held = [one for one in run.graph if one.state is ActivityState.READY]
            what = f"{_named(held)} held back" if held else "nothing is sent until it is resumed"
            return "paused", f"with {run.parent}: {what}" if run.paused_above else what
        case OrchestrationState.RUNNING:
            return _of_running(run.graph, now)
        case OrchestrationState.COMPENSATING if run.is_undone:
            status, reason = _of_running(run.current, now)
            return "compensating", f"{status}: {reason}" if reason else f"its activities are undone: {run.error_detail}"
        case OrchestrationState.COMPENSATING:
            return "compensating", _of_ending(run) or f"{compensation_id(run.id)} undoes it: {run.error_detail}"
        case OrchestrationState.CANCELLING:
            return "cancelling", _of_ending(run)
        case state:
            return state.lower().replace("_", "-"), run.error_detail


def _of_running(graph: Iterable[ActivityStatus], now: datetime) -> Status:
    by_status: dict[str, list[ActivityStatus]] = {}
    for one in graph:
        if (status := _status_of_activity(one, now)) is not None:
            by_status.setdefault(status, []).append(one)
    for status, reason in _REASONS.items():
        if status in by_status:
            return status, "; ".join(reason(one, now) for one in by_status[status])
    return "running", ""


def _status_of_activity(one: ActivityStatus, now: datetime) -> str | None:
    match one.state:
        case ActivityState.DISPATCHED if one.unanswered > 1:
            return "overdue" if one.has_agent else "no-agent"
        case _ if _is_late(one, now):
            return "overdue"
        case ActivityState.DISPATCHED:
            return "running"
        case ActivityState.BACKOFF:
            return "waiting" if one.outcome == OutcomeKind.SCHEDULE else "retrying"
        case ActivityState.WAITING:
            return "waiting"
        case ActivityState.READY:
            return "queued"
    return None


def _waiting(one: ActivityStatus, now: datetime) -> str:
    if one.children is not None:
        return f"{one.id}: of {one.children[0]} orchestrations that carry it out {one.children[1]} have ended"
    if one.state is ActivityState.BACKOFF:
        return f"{one.id} looks again {_in(one.due_at, now)}{_because(one)}"
    return f"{one.id} waits to be ended from outside{f' until {_at(one.due_at)}' if one.due_at else ''}{_because(one)}"


def _running(one: ActivityStatus, now: datetime) -> str:
    if one.ending:
        return f"{one.id} has been ended from outside, and its agent has not said yet what it has recorded"
    progress = one.progress if isinstance(one.progress, str) else json.dumps(one.progress, ensure_ascii=False)
    return f"{one.id} is with its agent" + (f": {progress}" if one.progress is not None else "")


def _overdue(one: ActivityStatus, now: datetime) -> str:
    if one.due_at is not None and _is_late(one, now):
        return f"{one.id} was due at {_at(one.due_at)}, and nobody has taken care of it since"
    return f"{one.id}: the agent for {one.type} has not answered; sent {one.unanswered} times since"


def _is_late(one: ActivityStatus, now: datetime) -> bool:
    return one.due_at is not None and now - one.due_at > _LATE


def _queued(one: ActivityStatus, now: datetime) -> str:
    rate = f"the rate of {one.type}, which lets the next one through {_in(one.rate_opens_at, now)}"
    why = f" by {rate}" if one.rate_opens_at else ""
    return f"{one.id} is held back{why}" + (f", and fails at {_at(one.due_at)}" if one.due_at else "")


_REASONS: dict[str, Callable[[ActivityStatus, datetime], str]] = {
    "running": _running,
    "no-agent": lambda one, _: f"{one.id}: no agent has announced itself for {one.type}; sent {one.dispatches} times",
    "overdue": _overdue,
    "retrying": lambda one, now: (
        f"{one.id}: try {one.failures + 1} of {one.max_attempts} {_in(one.due_at, now)}{_because(one)}"
    ),
    "waiting": _waiting,
    "queued": _queued,
}
"""By status, the liveliest first: one activity that moves makes the run one that does."""


def _of_ending(run: Orchestration) -> str:
    out = [one for one in run.graph if one.state is ActivityState.DISPATCHED]
    return f"{_named(out)} still with an agent: {run.error_detail}" if out else ""


def _named(activities: Iterable[ActivityStatus]) -> str:
    ids = [one.id for one in activities]
    return f"{', '.join(ids)} {'is' if len(ids) == 1 else 'are'}"


def _in(at: datetime | None, now: datetime) -> str:
    return f"in {max(0, round((at - now).total_seconds()))} s" if at else "soon"


def _at(instant: datetime) -> str:
    return f"{instant.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _because(one: ActivityStatus) -> str:
    return f": {one.reason}" if one.reason else ""
