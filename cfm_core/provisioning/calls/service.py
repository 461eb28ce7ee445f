"""Looks after activities that are carried out by orchestrations of their own, whatever stores them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from cfm_core.contracts.activity import ActivityOutcome, OutcomeKind
from cfm_core.contracts.reply import OutboxRow
from cfm_core.errors import ClientError
from cfm_core.provisioning.calls.model import (
    DEEPEST,
    LOOKED_AFTER_EVERY,
    Call,
    CalledActivity,
    NewChild,
    elements_problem,
    new_child,
    places_of,
    plan_of,
    recorded_by,
)
from cfm_core.provisioning.engine.model import Progress

CANCELLED = "the activity that it was started for has ended"


class HeldActivity(Protocol):
    """What can be done about an activity while it is held. Each gives the rows that it has written to the outbox."""

    @property
    def activity(self) -> CalledActivity | None:
        """None where it is not under way, or is none that orchestrations carry out."""
        ...

    def keep_elements(self, elements: Sequence[object]) -> None: ...

    def start(self, children: Sequence[NewChild]) -> list[OutboxRow]:
        """Raises ClientError where one cannot be started: nobody defines its type, or another has its id."""
        ...

    def retry(self, id_: str) -> list[OutboxRow]: ...

    def cancel(self, id_: str, reason: str) -> list[OutboxRow]: ...

    def record(self, outcome: ActivityOutcome) -> list[OutboxRow]: ...


class CallStore(Protocol):
    def held(self, call: Call) -> AbstractContextManager[HeldActivity]:
        """A transaction in which nobody else changes the activity's orchestration, or those that it has and that go on."""
        ...


class Calls:
    """Brings activities and their orchestrations up to date, whatever has happened.

    It looks at what is, not at what was told: asked twice, late, or in any order it has the same effect, and what nobody
    asks for is found by the sweep.
    """

    def __init__(self, store: CallStore) -> None:
        self._store = store

    def tend(self, calls: Iterable[Call]) -> Progress:
        """Look after activities: start, retry and cancel their orchestrations, and record how they have ended."""
        progress = Progress()
        for call in sorted(set(calls)):
            with self._store.held(call) as held:
                if held.activity is not None:
                    progress.outbox += _tend(held, held.activity)
        return progress


def _tend(held: HeldActivity, activity: CalledActivity) -> list[OutboxRow]:
    each = activity.elements
    elements: Sequence[object] = [None]
    if each is not None:
        elements = each.kept if each.kept is not None else []
        if each.kept is None and activity.call.phase == 0:
            if (problem := elements_problem(each)) is not None:
                return held.record(_outcome(activity, OutcomeKind.FATAL, reason=problem))
            elements = each.found
            held.keep_elements(elements)
    plan = plan_of(activity, places_of(activity, elements))
    if plan.failure is not None:
        return held.record(_outcome(activity, OutcomeKind.FATAL, reason=plan.failure))
    if plan.done:
        values, outputs = recorded_by(activity, len(elements))
        return held.record(_outcome(activity, OutcomeKind.COMPLETE, values=values, outputs=outputs))
    rows = [row for id_ in plan.cancel for row in held.cancel(id_, CANCELLED)]
    rows += [row for id_ in plan.retry for row in held.retry(id_)]
    if plan.start:
        if activity.depth >= DEEPEST:
            reason = f"orchestrations can be nested {DEEPEST} levels deep"
            return held.record(_outcome(activity, OutcomeKind.FATAL, reason=reason))
        try:
            rows += held.start([new_child(activity, elements, place) for place in plan.start])
        except ClientError as error:
            return rows + held.record(_outcome(activity, OutcomeKind.FATAL, reason=str(error)))
    if activity.goes_on and not activity.waits:
        rows += held.record(_outcome(activity, OutcomeKind.WAIT))
    return rows


def _outcome(
    activity: CalledActivity,
    kind: OutcomeKind,
    *,
    reason: str = "",
    values: dict[str, object] | None = None,
    outputs: dict[str, object] | None = None,
) -> ActivityOutcome:
    return ActivityOutcome(
        orchestration_id=activity.call.orchestration_id,
        phase=activity.call.phase,
        ord=activity.call.ord,
        token=activity.token,
        kind=kind,
        after=LOOKED_AFTER_EVERY if kind is OutcomeKind.WAIT else None,
        reason=reason,
        values=values or {},
        outputs=outputs or {},
    )
