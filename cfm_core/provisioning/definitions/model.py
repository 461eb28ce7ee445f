"""Definitions of activities and of orchestrations, and the rules that make them fit together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from cfm_core.contracts import subjects
from cfm_core.contracts.orchestration import DEPLOY, PARTICIPANT_ID, VPA_CREDENTIALS, VPA_DATA
from cfm_core.dag import CyclicGraphError, Graph
from cfm_core.errors import FieldError, ValidationError

LONGEST_TYPE = 256
"""The length of an activity type or an orchestration type, in characters."""
LONGEST_TEMPLATE_ID = 512
MOST_ACTIVITIES = 1000
LONGEST_POLICY = timedelta(days=366)
MOST_IN_FLIGHT = 1_000_000

_IN_EVERY_DEPLOY = {PARTICIPANT_ID: "string", VPA_DATA: "array", VPA_CREDENTIALS: "array"}
"""What the payload of a deployment always has: field to JSON type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and how soon a failed activity runs again. None leaves a point to the agent, or else to the engine."""

    max_attempts: int | None = None
    backoff: timedelta | None = None
    backoff_limit: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What keeps activities of a type from being sent."""

    concurrency: int | None = None
    """How many may be with agents at a time; None: any number."""
    concurrency_per_tenant: int | None = None
    """Of these, how many of one tenant."""
    consecutive_failures: int | None = None
    """So many failures without a success between them, and for a while nothing is sent; 0: never, None: the default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityDefinition:
    """An activity type that orchestrations may use."""

    type: str
    version: int = 0
    """Rises with every write."""
    description: str = ""
    input_schema: dict[str, Any] = field(default_factory=dict)
    output_schema: dict[str, Any] = field(default_factory=dict)
    timeout: timedelta | None = None
    retry: RetryPolicy = RetryPolicy()
    limits: Limits = Limits()


@dataclass(frozen=True, slots=True)
class Activity:
    """One node of an orchestration's graph."""

    id: str
    type: str
    depends_on: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OrchestrationDefinition:
    """The activities of one orchestration type, as a template has given them."""

    type: str
    version: int = 1
    """How many definitions the type has had by now."""
    template_ref: str
    description: str = ""
    schema: dict[str, Any] = field(default_factory=dict)
    activities: tuple[Activity, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OrchestrationTemplate:
    """Definitions of several orchestration types that belong together, such as a deployment and its disposal."""

    id: str
    description: str = ""
    schema: dict[str, Any] = field(default_factory=dict)
    activities: Mapping[str, Sequence[Activity]]

    def definitions(self) -> list[OrchestrationDefinition]:
        """One definition for each orchestration type."""
        return [
            OrchestrationDefinition(
                type=type_,
                template_ref=self.id,
                description=self.description,
                schema=self.schema,
                activities=tuple(activities),
            )
            for type_, activities in self.activities.items()
        ]


def graph_of(activities: Sequence[Activity]) -> Graph[str]:
    """The graph of an orchestration by activity ids; a valid definition has one."""
    return Graph({activity.id: activity.depends_on for activity in activities})


def steps_of(activities: Sequence[Activity]) -> list[list[Activity]]:
    """The activities in tiers, each sorted by id, as the API shows them; the engine goes by the graph instead."""
    by_id = {activity.id: activity for activity in activities}
    return [[by_id[id_] for id_ in sorted(tier)] for tier in graph_of(activities).tiers_from_the_end()]


def check_activity_definition(definition: ActivityDefinition) -> None:
    """Raises ValidationError for a type that cannot be one, or a policy that makes no sense; names all problems."""
    problems = []
    if not subjects.is_activity_type(definition.type) or len(definition.type) > LONGEST_TYPE:
        problems.append(
            FieldError(
                "/type",
                f"{definition.type!r} cannot be an activity type: letters, digits, '_', '-' and single dots between them,"
                f" at most {LONGEST_TYPE} characters, and not a subject of the managers",
            )
        )
    for pointer, duration in (
        ("/timeout", definition.timeout),
        ("/retry/backoff", definition.retry.backoff),
        ("/retry/backoffLimit", definition.retry.backoff_limit),
    ):
        if duration is not None and not timedelta(0) < duration <= LONGEST_POLICY:
            problems.append(FieldError(pointer, "must be a positive duration of at most a year"))
    attempts = definition.retry.max_attempts
    if attempts is not None and not 1 <= attempts <= 1000:
        problems.append(FieldError("/retry/maxAttempts", "must be between 1 and 1000"))
    for pointer, limit in (
        ("/limits/concurrency", definition.limits.concurrency),
        ("/limits/concurrencyPerTenant", definition.limits.concurrency_per_tenant),
    ):
        if limit is not None and not 1 <= limit <= MOST_IN_FLIGHT:
            problems.append(FieldError(pointer, f"must be between 1 and {MOST_IN_FLIGHT}"))
    failures = definition.limits.consecutive_failures
    if failures is not None and not 0 <= failures <= MOST_IN_FLIGHT:
        problems.append(FieldError("/limits/consecutiveFailures", f"must be between 0 and {MOST_IN_FLIGHT}"))
    _refuse(problems)


def check_template(template: OrchestrationTemplate, known: Mapping[str, ActivityDefinition]) -> None:
    """Raises ValidationError unless every orchestration of ``template`` can run with the activity types ``known``.

    The error names all problems.
    """
    problems: list[FieldError] = []
    if len(template.id) > LONGEST_TEMPLATE_ID:
        problems.append(FieldError("/id", f"a template's id has at most {LONGEST_TEMPLATE_ID} characters"))
    if not template.activities:
        problems.append(FieldError("/activities", "must name at least one orchestration type"))
    for type_, activities in template.activities.items():
        where = f"/activities/{type_.replace('~', '~0').replace('/', '~1')}"
        if not 1 <= len(type_) <= LONGEST_TYPE:
            problems.append(FieldError(where, f"an orchestration type has between 1 and {LONGEST_TYPE} characters"))
        if not 1 <= len(activities) <= MOST_ACTIVITIES:
            problems.append(FieldError(where, f"must have between 1 and {MOST_ACTIVITIES} activities"))
        of_type = list(_problems_of_graph(where, activities, known))
        if type_ == DEPLOY and not of_type:
            of_type = list(_problems_of_schemas(where, activities, known))
        problems.extend(of_type)
    _refuse(problems)


def _refuse(problems: Sequence[FieldError]) -> None:
    if problems:
        raise ValidationError(
            "Invalid payload: " + "; ".join(f"{one.pointer}: {one.detail}" for one in problems), problems
        )


def _problems_of_graph(
    where: str, activities: Sequence[Activity], known: Mapping[str, ActivityDefinition]
) -> Iterator[FieldError]:
    ids = [activity.id for activity in activities]
    for index, activity in enumerate(activities):
        here = f"{where}/{index}"
        if not activity.id:
            yield FieldError(f"{here}/id", "must not be empty")
        elif activity.id in ids[:index]:
            yield FieldError(f"{here}/id", f"{activity.id!r} is there twice")
        if activity.type not in known:
            yield FieldError(f"{here}/type", f"there is no activity type {activity.type!r}")
        for parent in activity.depends_on:
            if parent not in ids:
                yield FieldError(f"{here}/dependsOn", f"there is no activity {parent!r}")
    try:
        Graph({one.id: [parent for parent in one.depends_on if parent in ids] for one in activities})
    except CyclicGraphError as error:
        yield FieldError(where, f"the activities depend on each other in a circle: {error}")


def _problems_of_schemas(
    where: str, activities: Sequence[Activity], known: Mapping[str, ActivityDefinition]
) -> Iterator[FieldError]:
    """What an activity requires must come from the payload or from an activity that it depends on directly.

    Source: CFM wire contract, section 4.1.
    """
    types = {activity.id: activity.type for activity in activities}
    for index, activity in enumerate(activities):
        here = f"{where}/{index}"
        available: dict[str, Any] = dict(_IN_EVERY_DEPLOY)
        twice = False
        for parent in dict.fromkeys(activity.depends_on):
            for name, schema in _properties(known[types[parent]].output_schema).items():
                if name in available:
                    twice = True
                    yield FieldError(here, f"the field {name!r} is delivered by {parent!r} and by another source")
                available[name] = schema.get("type") if isinstance(schema, dict) else None
        if twice:
            continue
        wanted = known[activity.type].input_schema
        required = wanted.get("required")
        missing = [name for name in required if name not in available] if isinstance(required, list) else []
        if missing:
            yield FieldError(here, f"nothing that {activity.id!r} depends on delivers {', '.join(map(repr, missing))}")
        for name, schema in _properties(wanted).items():
            type_ = schema.get("type") if isinstance(schema, dict) else None
            delivered = available.get(name)
            if isinstance(type_, str) and isinstance(delivered, str) and type_ != delivered:
                yield FieldError(here, f"the field {name!r} is delivered as {delivered} and required as {type_}")


def _properties(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    properties = schema.get("properties")
    return properties if isinstance(properties, dict) else {}
