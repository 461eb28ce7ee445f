"""Activities that are carried out by orchestrations of their own: what is to be done about one, as it stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from cfm_core.provisioning.definitions.model import MOST_ELEMENTS
from cfm_core.provisioning.engine.model import OrchestrationState

DEEPEST = 8
"""How deep orchestrations may be nested: a definition that calls itself ends there."""
CALL_TIMEOUT = timedelta(seconds=15)
"""How soon somebody has to look after an activity that was sent."""
LOOKED_AFTER_EVERY = timedelta(minutes=1)
"""How soon somebody looks after an activity of whose orchestrations nothing was heard."""

_LIVE = frozenset({OrchestrationState.RUNNING, OrchestrationState.CANCELLING, OrchestrationState.COMPENSATING})
_CAN_GO_ON = frozenset({OrchestrationState.ERRORED, OrchestrationState.CANCELLED})


@dataclass(frozen=True, slots=True, order=True)
class Call:
    """Names an activity: its place in a phase of an orchestration."""

    orchestration_id: str
    phase: int
    ord: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """An orchestration that was started for an activity."""

    id: str
    element: int
    """The place of its element; 0 where there is no list."""
    state: OrchestrationState
    state_at: datetime
    error_detail: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    """What it has recorded, once it is completed."""
    outputs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Elements:
    """For what an activity is carried out again and again."""

    source: str
    name: str
    """The key under which each orchestration finds its element."""
    concurrency: int
    kept: Sequence[Any] | None
    """As they were when it began; None before that."""
    found: Any
    """What there is now where they should be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CalledActivity:
    """An activity that is under way, and its orchestrations, while nobody else changes them."""

    call: Call
    id: str
    token: str
    waits: bool
    """Whether that has been recorded: somebody looks after it again in a while."""
    dispatched_at: datetime
    goes_on: bool
    """Whether the orchestration that it belongs to does."""
    paused: bool
    depth: int
    """How many orchestrations that one is nested in."""
    values: Mapping[str, Any]
    """What the activity gets."""
    elements: Elements | None
    """None: it is carried out once."""
    children: Sequence[Child]
    undone: Sequence[Child]
    """Where it undoes another activity: the orchestrations of that one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewChild:
    """An orchestration to be started."""

    id: str
    element: int | None
    payload: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be done. An activity that is not ``done``, and of which ``failure`` is None, goes on."""

    start: Sequence[int] = ()
    """The places of elements."""
    retry: Sequence[str] = ()
    cancel: Sequence[str] = ()
    done: bool = False
    failure: str | None = None


def plan_of(activity: CalledActivity, places: Sequence[int]) -> Plan:
    """What is to be done about an activity that needs an orchestration for each of ``places``."""
    live = [child for child in activity.children if child.state in _LIVE]
    stop = [child.id for child in live if child.state is OrchestrationState.RUNNING]
    if not activity.goes_on:
        return Plan(cancel=stop) if live else Plan(failure="its orchestration has ended")
    bad = [
        child
        for child in activity.children
        if child.state not in _LIVE and child.state is not OrchestrationState.COMPLETED
    ]
    # What had failed before the activity was sent is tried again with it.
    again = [child for child in bad if child.state in _CAN_GO_ON and child.state_at < activity.dispatched_at]
    if failed := [child for child in bad if child not in again]:
        return Plan(cancel=stop) if live else Plan(failure=f"orchestration {failed[0].id}: {failed[0].error_detail}")
    known = {child.element for child in activity.children}
    left = [place for place in places if place not in known]
    if not left and not live and not again:
        return Plan(done=True)
    most = activity.elements.concurrency if activity.elements else 1
    room = 0 if activity.paused else max(0, most - len(live) - len(again))
    return Plan(start=left[:room], retry=[] if activity.paused else [child.id for child in again])


def places_of(activity: CalledActivity, elements: Sequence[Any]) -> list[int]:
    """The elements that need an orchestration; where something is undone, those for which there was one."""
    if activity.call.phase == 1 and activity.elements is not None:
        return [child.element for child in activity.undone]
    return list(range(len(elements)))


def new_child(activity: CalledActivity, elements: Sequence[Any], place: int) -> NewChild:
    """The orchestration for one element. Its id is derived, so that it starts only once."""
    undoes = activity.call.phase == 1
    id_ = ".".join([activity.call.orchestration_id, activity.id, *(["undo"] if undoes else [])])
    each = activity.elements
    if each is None:
        return NewChild(id=id_, element=None, payload=activity.values)
    recorded = next((one for one in activity.undone if one.element == place), None)
    own = {**recorded.values, **recorded.outputs} if recorded else {}
    payload = {**activity.values, each.name: elements[place], f"{each.name}.index": place, **own}
    return NewChild(id=f"{id_}.{place}", element=place, payload=payload)


def elements_problem(elements: Elements) -> str | None:
    """What is wrong with the list for whose elements an activity is to be carried out; None if nothing."""
    if not isinstance(elements.found, list):
        return f"forEach: {elements.source} is {'not there' if elements.found is None else 'no list'}"
    if len(elements.found) > MOST_ELEMENTS:
        return f"forEach: {elements.source} has {len(elements.found)} elements, there may be {MOST_ELEMENTS}"
    return None


def recorded_by(activity: CalledActivity, size: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a completed activity records: values and outputs.

    Where it was carried out for each of ``size`` elements, there is a list under each key, with what each has recorded in the
    order of the elements, or null.
    """
    if activity.elements is None:
        (child,) = activity.children
        return dict(child.values), dict(child.outputs)
    return (
        _collected({child.element: child.values for child in activity.children}, size),
        _collected({child.element: child.outputs for child in activity.children}, size),
    )


def _collected(recorded: Mapping[int, Mapping[str, Any]], size: int) -> dict[str, Any]:
    keys = sorted({key for one in recorded.values() for key in one})
    return {key: [recorded.get(place, {}).get(key) for place in range(size)] for key in keys}
