"""What an operator may do to an orchestration, or to one of its activities, in its present state."""

from __future__ import annotations

from enum import StrEnum

from cfm_core.provisioning.engine.model import UNDONE, ActivityState, OrchestrationState
from cfm_core.provisioning.orchestrations.model import ActivityStatus, Orchestration


class Action(StrEnum):
    CANCEL = "cancel"
    COMPENSATE = "compensate"
    CREATE = "create"
    DELETE = "delete"
    DISCARD = "discard"
    ERASE = "erase"
    PAUSE = "pause"
    REPLACE = "replace"
    REPLAY = "replay"
    RERUN = "rerun"
    RESOLVE = "resolve"
    RESUME = "resume"
    RETRY = "retry"


_ALLOWED = {
    OrchestrationState.COMPLETED: (Action.RERUN,),
    OrchestrationState.ERRORED: (Action.RETRY, Action.COMPENSATE, Action.RERUN),
    OrchestrationState.CANCELLED: (Action.RETRY, Action.COMPENSATE, Action.RERUN),
    OrchestrationState.COMPENSATED: (Action.RERUN,),
    OrchestrationState.COMPENSATION_FAILED: (Action.COMPENSATE, Action.RERUN),
}
STOPPED = frozenset({OrchestrationState.ERRORED, OrchestrationState.CANCELLED})
"""A run in one of these can go on."""
_LIVE = frozenset({ActivityState.READY, ActivityState.DISPATCHED, ActivityState.WAITING, ActivityState.BACKOFF})


def allowed_actions(run: Orchestration) -> tuple[Action, ...]:
    """What may be done to the whole run."""
    if run.erased:
        return ()
    if run.start_at is not None:
        return (Action.CANCEL,) if run.state is OrchestrationState.SCHEDULED else (Action.RERUN,)
    if run.state is OrchestrationState.RUNNING:
        return (Action.RESUME if run.paused else Action.PAUSE, Action.CANCEL)
    actions = _ALLOWED.get(run.state, ())
    left_out = {Action.COMPENSATE} if not run.compensable else set()
    # One that was started for an activity is started again by that one.
    left_out |= {Action.RERUN} if run.parent else set()
    return tuple(one for one in actions if one not in left_out)


def allowed_activity_actions(run: Orchestration, activity: ActivityStatus) -> tuple[Action, ...]:
    """What may be done to one activity of the run."""
    if run.erased or activity.phase != run.phase:
        return ()
    if run.goes_on:
        if activity.state is ActivityState.BACKOFF:
            return (Action.RETRY, Action.RESOLVE)
        return (Action.RESOLVE,) if activity.state in _LIVE else ()
    if activity.state in UNDONE and activity.deps_left == 0:
        if run.state in STOPPED:
            return (Action.RETRY, Action.RESOLVE)
        if run.state is OrchestrationState.COMPENSATION_FAILED and run.is_undone:
            # Those that are left are tried again by compensating the run again.
            return (Action.RESOLVE,)
    return ()
