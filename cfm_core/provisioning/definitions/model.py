"""Definitions of activities and of orchestrations."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any

from cfm_core.dag import Graph

LONGEST_TYPE = 256
"""The length of an activity type or an orchestration type, in characters."""
LONGEST_TEMPLATE_ID = 512
LONGEST_INPUT = 1024
"""The length of the name of an input, in characters."""
MOST_ACTIVITIES = 1000
MOST_INPUTS = 200
LONGEST_POLICY = timedelta(days=366)
MOST_IN_FLIGHT = 1_000_000
MOST_IN_PERIOD = 10_000
"""How many dispatches a rate may allow in its period: so many rows are counted at most to see whether there is room."""
MOST_ELEMENTS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and how soon a failed activity runs again. None leaves a point to the agent, or else to the engine."""

    max_attempts: int | None = None
    backoff: timedelta | None = None
    backoff_limit: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Rate:
    """At most ``count`` dispatches in any period as long as ``per``; those of retries count as well."""

    count: int
    per: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long what may take, beside a single attempt."""

    schedule_to_start: timedelta | None = None
    """How long a sent activity may be without a sign that an agent has it; None: as long as an attempt."""
    schedule_to_close: timedelta | None = None
    """All attempts and the pauses between them, from when it could first be sent; None: any time."""
    heartbeat: timedelta | None = None
    """How long an agent that has given a sign of life may give none; None: until the attempt's timeout."""
    wait: timedelta | None = None
    """How long it waits to be ended from outside where the agent does not say; None: a day."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What keeps activities of a type from being sent."""

    concurrency: int | None = None
    """How many may be with agents at a time; None: any number."""
    concurrency_per_tenant: int | None = None
    """Of these, how many of one tenant."""
    rate: Rate | None = None
    """How many may be sent in a time; None: any number."""
    rate_per_tenant: Rate | None = None
    """Of these, how many of one tenant."""
    consecutive_failures: int | None = None
    """So many failures without a success between them, and for a while nothing is sent; 0: never, None: the default."""

    @property
    def hold_back(self) -> bool:
        """Whether activities may have to wait for others of their type."""
        limits = (self.concurrency, self.concurrency_per_tenant, self.rate, self.rate_per_tenant)
        return any(limit is not None for limit in limits)


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
    timeouts: Timeouts = Timeouts()
    retry: RetryPolicy = RetryPolicy()
    limits: Limits = Limits()


@dataclass(frozen=True, slots=True)
class Input:
    """What an activity gets under the name ``target``."""

    target: str
    source: str
    """A key of the processing data, or ``<activity id>.<key>``: what that activity has recorded."""


@dataclass(frozen=True, slots=True)
class ForEach:
    """An activity is carried out once for each element of a list, each time by an orchestration of its own."""

    source: str
    """Where the list is, as for an input."""
    name: str = "element"
    """The key under which each finds its element; ``<name>.index`` holds the place, from 0 on."""
    concurrency: int = 10
    """How many go on at a time."""


_ORCHESTRATION = "orchestration:"


@dataclass(frozen=True, slots=True)
class Activity:
    """One node of an orchestration's graph."""

    id: str
    type: str
    """An activity type, or ``orchestration:`` and an orchestration type."""
    depends_on: tuple[str, ...] = ()
    inputs: tuple[Input, ...] = ()
    """All that it gets of the processing data; where none are named, it gets everything."""
    condition: str = ""
    """A predicate about the processing data; if it does not hold when all is done that it depends on, it is skipped."""
    compensation: str = ""
    """The type that undoes it; empty: nothing does."""
    for_each: ForEach | None = None


def orchestration_in(type_: str) -> str:
    """The orchestration type by which activities of ``type_`` are carried out; empty where an agent does."""
    return type_.removeprefix(_ORCHESTRATION) if type_.startswith(_ORCHESTRATION) else ""


class UndoMode(StrEnum):
    AUTO = "auto"
    """At once."""
    AFTER = "after"
    """A while later, unless an operator has retried it by then."""
    MANUAL = "manual"
    """When an operator says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Undo:
    """When a run that has failed is undone, if it can be."""

    mode: UndoMode = UndoMode.AUTO
    after: timedelta | None = None
    """How much later; None but for that mode."""


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
    active: bool = True
    """Whether orchestrations may start with it."""
    undo: Undo = Undo()


@dataclass(frozen=True, slots=True, kw_only=True)
class OrchestrationTemplate:
    """Definitions of several orchestration types that belong together, such as a deployment and its disposal."""

    id: str
    description: str = ""
    schema: dict[str, Any] = field(default_factory=dict)
    activities: Mapping[str, Sequence[Activity]]
    active: bool = True
    """Whether orchestrations may start with its definitions."""
    undo: Undo = Undo()

    def definitions(self) -> list[OrchestrationDefinition]:
        """One definition for each orchestration type."""
        return [
            OrchestrationDefinition(
                type=type_,
                template_ref=self.id,
                description=self.description,
                schema=self.schema,
                activities=tuple(activities),
                active=self.active,
                undo=self.undo,
            )
            for type_, activities in self.activities.items()
        ]


def template_of(template_ref: str, definitions: Iterable[OrchestrationDefinition]) -> OrchestrationTemplate:
    """The template that would make these definitions; what they have of its other fields is not looked at."""
    return OrchestrationTemplate(id=template_ref, activities={one.type: one.activities for one in definitions})


def graph_of(activities: Sequence[Activity]) -> Graph[str]:
    """The graph of an orchestration by activity ids; a valid definition has one."""
    return Graph({activity.id: activity.depends_on for activity in activities})


def steps_of(activities: Sequence[Activity]) -> list[list[Activity]]:
    """The activities in tiers, each sorted by id, as the API shows them; the engine goes by the graph instead."""
    by_id = {activity.id: activity for activity in activities}
    return [[by_id[id_] for id_ in sorted(tier)] for tier in graph_of(activities).tiers_from_the_end()]


def source_of(name: str, ids: Container[str]) -> tuple[str, str]:
    """The activity and the key that the source ``name`` means; no activity (``""``) for a key of the processing data.

    Where ids of activities overlap, the longest one counts.

    Args:
        ids: those of the orchestration's activities.
    """
    at = len(name)
    while (at := name.rfind(".", 0, at)) > 0:
        if name[:at] in ids and name[at + 1 :]:
            return name[:at], name[at + 1 :]
    return "", name
