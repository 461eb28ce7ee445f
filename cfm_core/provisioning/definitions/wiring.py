"""Whether the activities of an orchestration get what they need from those that they depend on, as far as schemas tell.

The contract knows such a check for deployments, and looks at direct dependencies. What it refuses is refused here, unless an
activity further up delivers what is missing. What it lets pass is doubtful at most: the payload of other orchestrations may
hold anything, and clients have templates that the contract accepts. An activity that names its inputs says exactly what it
gets, therefore everything about those is certain, in any orchestration.

Source: CFM wire contract, section 4.1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cfm_core.contracts.orchestration import DEPLOY, DISPOSE, PARTICIPANT_ID, VPA_CREDENTIALS, VPA_DATA
from cfm_core.errors import FieldError
from cfm_core.json_schema import pointer_to
from cfm_core.provisioning.definitions.model import (
    Activity,
    ActivityDefinition,
    ForEach,
    graph_of,
    orchestration_in,
    source_of,
)

IN_EVERY_PAYLOAD = {
    DEPLOY: {PARTICIPANT_ID: "string", VPA_DATA: "array", VPA_CREDENTIALS: "array"},
    DISPOSE: {PARTICIPANT_ID: "string", VPA_DATA: "array"},
}
"""What the payload of an orchestration type always has: field to JSON type."""


MOST_FINDINGS = 1000
"""After so many of one orchestration, the activities that follow are not looked at."""


@dataclass(slots=True)
class Findings:
    """What is wrong for certain, and what is doubtful."""

    problems: list[FieldError] = field(default_factory=list)
    doubts: list[FieldError] = field(default_factory=list)


def findings_of(type_: str, activities: Sequence[Activity], known: Mapping[str, ActivityDefinition]) -> Findings:
    """What the schemas say about one orchestration, whose graph is in order."""
    wiring = _Wiring(type_, activities, known)
    found = Findings()
    for place, activity in enumerate(activities):
        if activity.inputs:
            wiring.look_at_inputs(place, activity, found)
        else:
            wiring.look_at_everything(place, activity, found)
        if activity.for_each is not None:
            wiring.look_at_elements(place, activity, activity.for_each, found)
        if len(found.problems) + len(found.doubts) >= MOST_FINDINGS:
            break
    return found


class _Wiring:
    """Who delivers what to whom. Sets of activities are integers, a bit for each: there may be a thousand."""

    def __init__(self, type_: str, activities: Sequence[Activity], known: Mapping[str, ActivityDefinition]) -> None:
        self._where = pointer_to("activities", type_)
        # What orchestrations get and give is not known.
        activities = [replace(one, type=f"orchestration:{one.type}") if one.for_each else one for one in activities]
        self._activities = activities
        self._known = {
            **known,
            **{one.type: ActivityDefinition(type=one.type) for one in activities if orchestration_in(one.type)},
        }
        self._payload = IN_EVERY_PAYLOAD.get(type_, {})
        self._is_deploy = type_ == DEPLOY
        self._places = {activity.id: place for place, activity in enumerate(activities)}
        self._above: dict[int, int] = {}
        for id_ in graph_of(activities).topological_order():
            parents = [self._places[parent] for parent in activities[self._places[id_]].depends_on]
            above = 0
            for parent in parents:
                above |= self._above[parent] | 1 << parent
            self._above[self._places[id_]] = above
        of_type: dict[str, int] = {}
        for place, activity in enumerate(activities):
            of_type[activity.type] = of_type.get(activity.type, 0) | 1 << place
        self._deliverers: dict[str, int] = {}
        for activity_type, places in of_type.items():
            for name in _properties(self._known[activity_type].output_schema):
                self._deliverers[name] = self._deliverers.get(name, 0) | places
        self._contested = {
            name: delivering
            for name, delivering in self._deliverers.items()
            if delivering.bit_count() > 1 or name in self._payload
        }

    def look_at_everything(self, place: int, activity: Activity, found: Findings) -> None:
        """For an activity that gets all processing data."""
        here = f"{self._where}/{place}"
        direct = sum(1 << parent for parent in {self._places[id_] for id_ in activity.depends_on})
        above = self._above[place]
        # What the contract refuses is wrong, in a deployment; the rest is doubtful.
        strict = found.problems if self._is_deploy else found.doubts

        twice = False
        for name, delivering in self._contested.items():
            in_payload = name in self._payload
            if (delivering & direct).bit_count() + in_payload * bool(delivering & direct) > 1:
                twice = True
                strict.append(self._delivered_twice(here, name, delivering & direct))
            elif (delivering & above).bit_count() + in_payload * bool(delivering & above) > 1:
                found.doubts.append(self._delivered_twice(here, name, delivering & above))
        if twice:
            return
        schema = self._known[self._activities[place].type].input_schema
        missing = [
            name
            for name in _required(schema)
            if name not in self._payload and not self._deliverers.get(name, 0) & above
        ]
        if missing:
            strict.append(
                FieldError(here, f"nothing that {activity.id!r} depends on delivers {', '.join(map(repr, missing))}")
            )
        for name, wanted in _types(schema).items():
            delivering = self._deliverers.get(name, 0)
            nearest = delivering & direct
            given = self._type_of(name, nearest or delivering & above)
            if given is not None and given != wanted:
                problems = strict if nearest or not delivering & above else found.doubts
                problems.append(
                    FieldError(here, f"the field {name!r} is delivered as {given} and required as {wanted}")
                )

    def look_at_inputs(self, place: int, activity: Activity, found: Findings) -> None:
        """For an activity that names what it gets."""
        here = f"{self._where}/{place}/inputs"
        schema = self._known[self._activities[place].type].input_schema
        types = _types(schema)
        targets: set[str] = set()
        for number, one in enumerate(activity.inputs):
            at = f"{here}/{number}"
            if not one.target or not one.source:
                found.problems.append(FieldError(at, "source and target must not be empty"))
                continue
            if one.target in targets:
                found.problems.append(FieldError(at, f"the target {one.target!r} is there twice"))
            targets.add(one.target)
            given = self._given_by(one.source, at, place, activity, found)
            wanted = types.get(one.target)
            if given is not None and wanted is not None and given != wanted:
                found.problems.append(
                    FieldError(at, f"{one.source!r} is delivered as {given} and {one.target!r} required as {wanted}")
                )
        if missing := [name for name in _required(schema) if name not in targets]:
            found.problems.append(
                FieldError(here, f"{activity.type!r} requires {', '.join(map(repr, missing))}, which is not among them")
            )

    def look_at_elements(self, place: int, activity: Activity, for_each: ForEach, found: Findings) -> None:
        """For an activity that is carried out for each element of a list."""
        at = f"{self._where}/{place}/forEach"
        given = self._given_by(for_each.source, at, place, activity, found)
        if given not in (None, "array"):
            found.problems.append(FieldError(at, f"{for_each.source!r} is delivered as {given}, and is no list"))

    def _given_by(self, source: str, at: str, place: int, activity: Activity, found: Findings) -> str | None:
        """The type of what an input's source gives, as far as that is known."""
        id_, key = source_of(source, self._places)
        if not id_:
            delivering = self._deliverers.get(key, 0) & self._above[place]
            if self._is_deploy and key not in self._payload and not delivering:
                found.doubts.append(FieldError(at, f"nothing that {activity.id!r} depends on delivers {key!r}"))
            return self._type_of(key, delivering)
        if not self._above[place] >> self._places[id_] & 1:
            found.problems.append(FieldError(at, f"{activity.id!r} does not depend on {id_!r}, by no way"))
            return None
        type_ = self._activities[self._places[id_]].type
        declared = _properties(self._known[type_].output_schema)
        if declared and key not in declared:
            found.doubts.append(FieldError(at, f"the output schema of {type_!r} has no {key!r}"))
        return self._type_of(key, 1 << self._places[id_])

    def _delivered_twice(self, here: str, name: str, delivering: int) -> FieldError:
        last = self._activities[delivering.bit_length() - 1].id
        return FieldError(here, f"the field {name!r} is delivered by {last!r} and by another source")

    def _type_of(self, name: str, delivering: int) -> str | None:
        """The type of a field, as the last of those that deliver it has declared it; of the payload, if none does."""
        if not delivering:
            return self._payload.get(name)
        type_ = self._activities[delivering.bit_length() - 1].type
        return _types(self._known[type_].output_schema).get(name)


def _properties(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    properties = schema.get("properties")
    return properties if isinstance(properties, dict) else {}


def _required(schema: Mapping[str, Any]) -> Iterator[str]:
    required = schema.get("required")
    yield from (name for name in (required if isinstance(required, list) else ()) if isinstance(name, str))


def _types(schema: Mapping[str, Any]) -> dict[str, str]:
    """The type of each property that has just one."""
    return {
        name: one["type"]
        for name, one in _properties(schema).items()
        if isinstance(one, dict) and isinstance(one.get("type"), str)
    }
