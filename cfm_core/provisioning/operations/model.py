"""What operators do to orchestrations: whether it has an effect, what it is done to, and what is noted of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cfm_core.errors import ConflictError, FieldError, NotFoundError, RefusedError
from cfm_core.provisioning.definitions.model import graph_of
from cfm_core.provisioning.engine.model import UNDONE, OrchestrationState
from cfm_core.provisioning.orchestrations.actions import Action, allowed_actions, allowed_activity_actions
from cfm_core.provisioning.orchestrations.model import ActivityStatus, Orchestration

WHOLE = ""
"""Stands for the whole run where an activity could be named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Who wants something done, why (if they are asked), and in which request."""

    actor: str
    reason: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Resolution:
    """What an activity that an operator does by hand records, key by key."""

    values: Mapping[str, Any] = field(default_factory=dict)
    outputs: Mapping[str, Any] = field(default_factory=dict)


_COMPENSATED = {
    *(OrchestrationState.COMPENSATING, OrchestrationState.COMPENSATED),
}
_EFFECT = {
    Action.CANCEL: {OrchestrationState.CANCELLING, OrchestrationState.CANCELLED, *_COMPENSATED},
    Action.COMPENSATE: _COMPENSATED,
}
"""The states in which an action has had its effect already: asked for again, it changes nothing."""
_PARTICIPLES = {
    Action.CANCEL: "cancelled",
    Action.COMPENSATE: "compensated",
    Action.ERASE: "erased",
    Action.PAUSE: "paused",
    Action.RERUN: "run again",
    Action.RESOLVE: "resolved",
    Action.RESUME: "resumed",
    Action.RETRY: "retried",
}


def has_effect(run: Orchestration, action: Action, *, force: bool = False) -> bool:
    """Whether ``action`` would change the run; False where it has happened already.

    Raises:
        ConflictError: the run is in a state that forbids it.
        RefusedError: it is a compensation that would end what is in use, and nobody insists.
    """
    if action in {Action.PAUSE, Action.RESUME} and run.state is OrchestrationState.RUNNING:
        return run.paused is not (action is Action.PAUSE)
    if run.state in _EFFECT.get(action, ()):
        return False
    allowed = allowed_actions(run)
    forced = (
        force
        and not run.erased
        and action is Action.COMPENSATE
        and run.compensable
        and run.state is OrchestrationState.COMPLETED
    )
    if action not in allowed and not forced:
        raise _forbidden(f"orchestration {run.id} is {word_of(run)}", action, allowed)
    if action is Action.COMPENSATE and run.changes_live and not force:
        raise RefusedError(
            f"orchestration {run.id} has changed a live participant, whom its compensation would dispose",
            [FieldError("/force", "must be true")],
        )
    return True


def check_activity_action(run: Orchestration, activity_id: str, action: Action) -> ActivityStatus:
    """The activity, if ``action`` may be done to it.

    Raises:
        NotFoundError: the run has no such activity.
        ConflictError: it is in a state that forbids it.
    """
    activity = status_of_activity(run, activity_id)
    allowed = allowed_activity_actions(run, activity)
    if action not in allowed:
        state = (
            f"activity {activity_id} of orchestration {run.id}, which is {word_of(run)}, is {activity.state.lower()}"
        )
        raise _forbidden(state, action, allowed)
    return activity


def status_of_activity(run: Orchestration, activity_id: str) -> ActivityStatus:
    """Raises NotFoundError where the run has no such activity."""
    for one in reversed(run.graph):
        if one.id == activity_id:
            return one
    raise NotFoundError("activity", f"{run.id}/{activity_id}")


def to_retry(run: Orchestration, chosen: Sequence[str]) -> list[int]:
    """The places of the activities that are to be retried: those chosen with their dependents, or all that were not done.

    Raises:
        NotFoundError: the run has no such activity.
        RefusedError: one that is chosen has not failed, or depends on one that has and is not chosen.
    """
    known = {one.id: one for one in run.graph}
    undone = {id_ for id_, one in known.items() if one.state in UNDONE}
    for id_ in chosen:
        status_of_activity(run, id_)
    graph = graph_of(run.activities)
    again = graph.descendants(chosen) if chosen else undone
    problems = [f"{id_} is {known[id_].state.lower()}: it has not failed" for id_ in chosen if id_ not in undone]
    problems += [
        f"{id_} depends on {parent}, which is {known[parent].state.lower()}: name it too"
        for id_ in sorted(again & undone)
        for parent in graph.parents(id_)
        if parent in undone - again
    ]
    if problems:
        raise RefusedError("; ".join(problems), [FieldError("/activities", one) for one in problems])
    return sorted(known[id_].ord for id_ in again & undone)


def word_of(run: Orchestration) -> str:
    return "paused" if run.paused else run.state.lower().replace("_", "-")


def _forbidden(state: str, action: Action, allowed: Iterable[Action]) -> ConflictError:
    return ConflictError(f"{state}, and cannot be {_PARTICIPLES[action]}", {"allowedActions": list(allowed)})
