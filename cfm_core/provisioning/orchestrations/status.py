"""What a run is doing, in words: the one place where that is worked out.

Source: interface decisions, "Status".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

from cfm_core.contracts.activity import OutcomeKind
from cfm_core.contracts.orchestration import compensation_id
from cfm_core.provisioning.engine.model import ActivityState, OrchestrationState
from cfm_core.provisioning.orchestrations.model import ActivityStatus, Orchestration

Status = tuple[str, str]
"""A word, and the reason for it: never empty for a run that does not move by itself."""


def status_of(run: Orchestration, now: datetime) -> Status:
    """The run's status as of ``now``."""
    match run.state:
        case OrchestrationState.SCHEDULED:
            return "queued", f"it starts at {run.start_at:%Y-%m-%dT%H:%M:%SZ}"
        case OrchestrationState.RUNNING if run.paused:
            held = [one for one in run.graph if one.state is ActivityState.READY]
            return "paused", f"{_named(held)} held back" if held else "nothing is sent until it is resumed"
        case OrchestrationState.RUNNING:
            return _of_running(run.graph, now)
        case OrchestrationState.COMPENSATING:
            return "compensating", _of_ending(run) or f"{compensation_id(run.id)} undoes it: {run.error_detail}"
        case OrchestrationState.CANCELLING:
            return "cancelling", _of_ending(run)
        case state:
            return state.lower().replace("_", "-"), run.error_detail


def _of_running(graph: Iterable[ActivityStatus], now: datetime) -> Status:
    by_status: dict[str, list[ActivityStatus]] = {}
    for one in graph:
        if (status := _status_of_activity(one)) is not None:
            by_status.setdefault(status, []).append(one)
    for status, reason in _REASONS.items():
        if status in by_status:
            return status, "; ".join(reason(one, now) for one in by_status[status])
    return "running", ""


def _status_of_activity(one: ActivityStatus) -> str | None:
    match one.state:
        case ActivityState.DISPATCHED if one.unanswered > 1:
            return "overdue" if one.has_agent else "no-agent"
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
    what = "looks again" if one.state is ActivityState.BACKOFF else "waits to be ended from outside, which fails"
    return f"{one.id} {what} {_in(one.due_at, now)}{_because(one)}"


def _queued(one: ActivityStatus, now: datetime) -> str:
    if one.rate_opens_at is None:
        return f"{one.id} is held back"
    return f"{one.id} is held back by the rate of {one.type}, which lets the next one through {_in(one.rate_opens_at, now)}"


_REASONS: dict[str, Callable[[ActivityStatus, datetime], str]] = {
    "running": lambda one, _: f"{one.id} is with its agent",
    "no-agent": lambda one, _: f"{one.id}: no agent has announced itself for {one.type}; sent {one.dispatches} times",
    "overdue": lambda one, _: f"{one.id}: the agent for {one.type} has not answered; sent {one.unanswered} times since",
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


def _because(one: ActivityStatus) -> str:
    return f": {one.reason}" if one.reason else ""
