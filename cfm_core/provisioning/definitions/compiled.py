"""Definitions as the engine takes them: places instead of ids, and the schemas that were in force when they were made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cfm_core.provisioning.definitions.model import Activity, ActivityDefinition, source_of
from cfm_core.query import Predicate, parse

_ABOUT_OTHER_KEYS = frozenset({"additionalProperties", "unevaluatedProperties", "propertyNames", "maxProperties"})


@dataclass(frozen=True, slots=True)
class CompiledInput:
    """What an activity gets under ``target``: a key of the processing data, or of what the activity ``ord`` has recorded."""

    target: str
    key: str
    ord: int | None


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


@dataclass(frozen=True, slots=True)
class CompiledDefinition:
    """What runs do, and what undoes each of their activities, by their places."""

    activities: tuple[CompiledActivity, ...]
    undoing: Mapping[int, CompiledActivity]
    """Their parents are places of ``undoing`` too: what has built on an activity is undone before it."""


def compiled(activities: Sequence[Activity], known: Mapping[str, ActivityDefinition]) -> CompiledDefinition:
    """The activities of a definition that has passed its checks, with the schemas of their types.

    A type that is not ``known`` any more has none: a definition that is not active may outlive it.
    """
    places = {activity.id: place for place, activity in enumerate(activities)}

    def one(activity: Activity, type_: str, parents: set[int], condition: str) -> CompiledActivity:
        return CompiledActivity(
            id=activity.id,
            type=type_,
            parents=tuple(sorted(parents)),
            inputs=tuple(_input(each.target, each.source, places) for each in activity.inputs),
            input_schema=_input_schema(activity, known.get(type_)),
            output_schema=(known[type_].output_schema or None) if type_ in known else None,
            condition=parse(condition) if condition else None,
        )

    forward = tuple(
        one(activity, activity.type, {places[id_] for id_ in activity.depends_on}, activity.condition)
        for activity in activities
    )
    return CompiledDefinition(
        forward,
        {
            place: one(activities[place], activities[place].compensation, parents, "")
            for place, parents in _undone_before(activities, forward).items()
        },
    )


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
