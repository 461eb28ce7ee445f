"""Definitions as the engine takes them: places instead of ids, and the schemas that were in force when they were made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cfm_core.provisioning.definitions.model import Activity, ActivityDefinition, source_of

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


def compiled(activities: Sequence[Activity], known: Mapping[str, ActivityDefinition]) -> tuple[CompiledActivity, ...]:
    """The activities of a definition that has passed its checks, with the schemas of their types.

    A type that is not ``known`` any more has none: a definition that is not active may outlive it.
    """
    places = {activity.id: place for place, activity in enumerate(activities)}
    return tuple(
        CompiledActivity(
            id=activity.id,
            type=activity.type,
            parents=tuple(sorted({places[id_] for id_ in activity.depends_on})),
            inputs=tuple(_input(one.target, one.source, places) for one in activity.inputs),
            input_schema=_input_schema(activity, known),
            output_schema=(known[activity.type].output_schema or None) if activity.type in known else None,
        )
        for activity in activities
    )


def _input(target: str, source: str, places: Mapping[str, int]) -> CompiledInput:
    id_, key = source_of(source, places)
    return CompiledInput(target, key, places[id_] if id_ else None)


def _input_schema(activity: Activity, known: Mapping[str, ActivityDefinition]) -> Mapping[str, Any] | None:
    """What is asked of an activity's values. One that gets everything cannot be asked to get nothing else."""
    schema = known[activity.type].input_schema if activity.type in known else {}
    if not activity.inputs:
        schema = {name: value for name, value in schema.items() if name not in _ABOUT_OTHER_KEYS}
    return schema or None
