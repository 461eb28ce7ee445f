"""Definitions as the engine takes them: places instead of ids, and the schemas that were in force when they were made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cfm_core.masking import marked_keys
from cfm_core.provisioning.definitions.model import Activity, ActivityDefinition, orchestration_in, source_of
from cfm_core.query import Predicate, parse

_ABOUT_OTHER_KEYS = frozenset({"additionalProperties", "unevaluatedProperties", "propertyNames", "maxProperties"})


@dataclass(frozen=True, slots=True)
class CompiledInput:
    """What an activity gets under ``target``: a key of the processing data, or of what the activity ``ord`` has recorded."""

    target: str
    key: str
    ord: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledForEach:
    """See ``ForEach``."""

    source: CompiledInput
    name: str
    concurrency: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledActivity:
    """One activity; its own place is that in the definition."""

    id: str
    type: str
    parents: tuple[int, ...]
    inputs: tuple[CompiledInput, ...] = ()
    """None: it gets all processing data."""
    input_schema: Mapping[str, Any] | None = None
    """None: nothing is asked of what it gets."""
    output_schema: Mapping[str, Any] | None = None
    """None: nothing is asked of what it records."""
    condition: Predicate | None = None
    """None: it is never skipped."""
    calls: bool = False
    """Whether orchestrations carry it out."""
    for_each: CompiledForEach | None = None
    child_phase: int | None = None
    """What these have for their phase, if they are of the same definition; see ``CompiledDefinition.single``."""


@dataclass(frozen=True, slots=True)
class CompiledDefinition:
    """What runs do, and what undoes each of their activities, by their places."""

    activities: tuple[CompiledActivity, ...]
    undoing: Mapping[int, CompiledActivity]
    """Their parents are places of ``undoing`` too: what has built on an activity is undone before it."""
    single: Mapping[int, CompiledActivity]
    """By their phases: the one activity of an orchestration for one element, its place is 0. Odd ones undo such an activity."""

    @property
    def nodes(self) -> Iterator[tuple[int, int, CompiledActivity]]:
        """All activities with their phases and places."""
        yield from ((0, place, one) for place, one in enumerate(self.activities))
        yield from ((1, place, one) for place, one in self.undoing.items())
        yield from ((phase, 0, one) for phase, one in self.single.items())

    @property
    def secret_keys(self) -> frozenset[str]:
        """The keys that the schemas mark as those of secrets, and those that lie under them before they are mapped."""
        keys = set[str]()
        for _, _, one in self.nodes:
            marked = {*marked_keys(one.input_schema), *marked_keys(one.output_schema)}
            keys |= marked | {each.key for each in one.inputs if each.target in marked}
        return frozenset(keys)


def compiled(activities: Sequence[Activity], known: Mapping[str, ActivityDefinition]) -> CompiledDefinition:
    """The activities of a definition that has passed its checks, with the schemas of their types.

    A type that is not ``known`` any more has none: a definition that is not active may outlive it.
    """
    places = {activity.id: place for place, activity in enumerate(activities)}

    single: dict[int, CompiledActivity] = {}

    def one(activity: Activity, type_: str, parents: set[int], undoes: int) -> CompiledActivity:
        here = CompiledActivity(
            id=activity.id,
            type=type_,
            parents=tuple(sorted(parents)),
            inputs=tuple(_input(each.target, each.source, places) for each in activity.inputs),
            input_schema=_input_schema(activity, known.get(type_)),
            output_schema=(known[type_].output_schema or None) if type_ in known else None,
            condition=parse(activity.condition) if activity.condition and not undoes else None,
        )
        each = activity.for_each
        if each is None and not orchestration_in(type_):
            return here
        for_each = None
        if each is not None:
            source = _input("source", each.source, places)
            for_each = CompiledForEach(source=source, name=each.name, concurrency=each.concurrency)
        phase = None
        if not orchestration_in(type_):
            phase = 2 * (places[activity.id] + 1) + undoes
            single[phase] = replace(here, parents=(), inputs=(), condition=None)
        return replace(here, input_schema=None, output_schema=None, calls=True, for_each=for_each, child_phase=phase)

    forward = tuple(
        one(activity, activity.type, {places[id_] for id_ in activity.depends_on}, 0) for activity in activities
    )
    undoing = {
        place: one(activities[place], activities[place].compensation, parents, 1)
        for place, parents in _undone_before(activities, forward).items()
    }
    return CompiledDefinition(forward, undoing, single)


def _undone_before(activities: Sequence[Activity], forward: Sequence[CompiledActivity]) -> dict[int, set[int]]:
    """By each activity that something undoes: those that build on it, and whose own undoing has to come first.

    Between the two there may be activities that nothing undoes, or that a run has skipped.
    """
    children: list[list[int]] = [[] for _ in forward]
    for place, one in enumerate(forward):
        for parent in one.parents:
            children[parent].append(place)
    found: dict[int, set[int]] = {}
    for place, activity in enumerate(activities):
        if not activity.compensation:
            continue
        before, seen, pending = set[int](), set[int](), list(children[place])
        while pending:
            child = pending.pop()
            if child not in seen:
                seen.add(child)
                if activities[child].compensation:
                    before.add(child)
                if activities[child].condition or not activities[child].compensation:
                    pending.extend(children[child])
        found[place] = before
    return found


def _input(target: str, source: str, places: Mapping[str, int]) -> CompiledInput:
    id_, key = source_of(source, places)
    return CompiledInput(target, key, places[id_] if id_ else None)


def _input_schema(activity: Activity, definition: ActivityDefinition | None) -> Mapping[str, Any] | None:
    """What is asked of an activity's values. One that gets everything cannot be asked to get nothing else."""
    schema = definition.input_schema if definition else {}
    if not activity.inputs:
        schema = {name: value for name, value in schema.items() if name not in _ABOUT_OTHER_KEYS}
    return schema or None
