"""Definitions as JSON of API version v1alpha1.

Source: CFM wire contract, sections 5.6 to 5.8.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter

from cfm_core.contracts.documents import Document
from cfm_core.provisioning.definitions.model import (
    LONGEST_INPUT,
    LONGEST_POLICY,
    LONGEST_TEMPLATE_ID,
    LONGEST_TYPE,
    MOST_ELEMENTS,
    MOST_INPUTS,
    Activity,
    ActivityDefinition,
    ForEach,
    Input,
    Limits,
    OrchestrationDefinition,
    OrchestrationTemplate,
    Rate,
    RetryPolicy,
    Timeouts,
    Undo,
    UndoMode,
)
from cfm_core.query.parser import LONGEST as LONGEST_PREDICATE

_DURATION = TypeAdapter(timedelta)


class RetryDocument(Document):
    """Our addition: durations are ISO 8601."""

    max_attempts: int | None = None
    backoff: timedelta | None = None
    backoff_limit: timedelta | None = None


class TimeoutsDocument(Document):
    """Our addition, beside ``timeout``, which one attempt may take; durations are ISO 8601.

    ``scheduleToStart``: until the agent's first sign of life after it was sent. ``scheduleToClose``: all attempts, the pauses
    between them, and the time that it is held back, from when it could first be sent. ``heartbeat``: from one sign of life to
    the next. ``wait``: how long it waits to be ended from outside, where the agent does not say.
    """

    schedule_to_start: timedelta | None = None
    schedule_to_close: timedelta | None = None
    heartbeat: timedelta | None = None
    wait: timedelta | None = None


class RateDocument(Document):
    """At most ``count`` dispatches in any period as long as ``per``, such as ``PT1S``; those of retries count as well."""

    count: int
    per: timedelta

    @classmethod
    def of(cls, rate: Rate | None) -> RateDocument | None:
        return None if rate is None else cls(count=rate.count, per=rate.per)


class LimitsDocument(Document):
    """Our addition: how many activities of the type may be with agents at a time, of all tenants and of one, and how many
    may be sent in a time.

    After so many failures in a row nothing is sent for a while, and then one activity at a time as a probe; 0 stands for
    never.
    """

    concurrency: int | None = None
    concurrency_per_tenant: int | None = None
    rate: RateDocument | None = None
    rate_per_tenant: RateDocument | None = None
    consecutive_failures: int | None = None


class ActivityDefinitionDocument(Document):
    """An activity definition as it is posted and shown; what is empty is left out."""

    type: str = Field(min_length=1, max_length=LONGEST_TYPE)
    description: str = ""
    input_schema: dict[str, Any] = Field(default_factory=dict)
    output_schema: dict[str, Any] = Field(default_factory=dict)
    timeout: timedelta | None = None
    timeouts: TimeoutsDocument = TimeoutsDocument()
    retry: RetryDocument = RetryDocument()
    limits: LimitsDocument = LimitsDocument()

    def to_model(self) -> ActivityDefinition:
        return ActivityDefinition(
            type=self.type,
            description=self.description,
            input_schema=self.input_schema,
            output_schema=self.output_schema,
            timeout=self.timeout,
            timeouts=Timeouts(
                schedule_to_start=self.timeouts.schedule_to_start,
                schedule_to_close=self.timeouts.schedule_to_close,
                heartbeat=self.timeouts.heartbeat,
                wait=self.timeouts.wait,
            ),
            retry=RetryPolicy(
                max_attempts=self.retry.max_attempts,
                backoff=self.retry.backoff,
                backoff_limit=self.retry.backoff_limit,
            ),
            limits=Limits(
                concurrency=self.limits.concurrency,
                concurrency_per_tenant=self.limits.concurrency_per_tenant,
                rate=_rate(self.limits.rate),
                rate_per_tenant=_rate(self.limits.rate_per_tenant),
                consecutive_failures=self.limits.consecutive_failures,
            ),
        )


def _rate(document: RateDocument | None) -> Rate | None:
    return None if document is None else Rate(document.count, document.per)


class PutActivityDefinitionDocument(ActivityDefinitionDocument):
    """An activity definition whose type the path names; the document may repeat it."""

    type: str = Field(default="", max_length=LONGEST_TYPE)


class InputDocument(Document):
    """What an activity gets, and under which name. A bare text is both."""

    source: str = Field(max_length=LONGEST_INPUT)
    target: str = Field(max_length=LONGEST_INPUT)


def _both(name: Any) -> Any:
    return {"source": name, "target": name} if isinstance(name, str) else name


NamedInput = Annotated[InputDocument, BeforeValidator(_both, json_schema_input_type=str | InputDocument)]


class ForEachDocument(Document):
    """Our addition: the activity is carried out for each element of a list, by an orchestration for each."""

    source: str = Field(min_length=1, max_length=LONGEST_INPUT)
    """The key of the list, or ``<activity id>.<key>``."""
    name: str = Field(default="element", min_length=1, max_length=LONGEST_INPUT)
    """Where each finds its element."""
    concurrency: int = Field(default=10, ge=1, le=MOST_ELEMENTS)
    """How many go on at a time."""


class ActivityDocument(Document):
    """A node of an orchestration; what is empty is left out.

    Its type is that of agents, or ``orchestration:`` and an orchestration type.
    """

    id: str
    type: str
    depends_on: list[str] = Field(default_factory=list)
    inputs: list[NamedInput] = Field(default_factory=list, max_length=MOST_INPUTS)
    """Our addition: all that it gets of the processing data, by key or ``<activity id>.<key>``; everything, if empty."""
    condition: str = Field(default="", max_length=LONGEST_PREDICATE)
    """Our addition: a predicate about the processing data; where it does not hold, the activity is skipped."""
    compensation: str = Field(default="", max_length=LONGEST_TYPE)
    """Our addition: the type that undoes it."""
    for_each: ForEachDocument | None = None

    def to_model(self) -> Activity:
        inputs = tuple(Input(target=one.target, source=one.source) for one in self.inputs)
        each = self.for_each
        return Activity(
            *(self.id, self.type, tuple(self.depends_on), inputs, self.condition, self.compensation),
            for_each=None if each is None else ForEach(each.source, each.name, each.concurrency),
        )


def _undo_of(text: str) -> Undo:
    if text in {UndoMode.AUTO, UndoMode.MANUAL}:
        return Undo(mode=UndoMode(text))
    mode, _, after = text.partition(":")
    if mode == UndoMode.AFTER:
        duration = _DURATION.validate_python(after)
        if timedelta(0) < duration <= LONGEST_POLICY:
            return Undo(mode=UndoMode.AFTER, after=duration)
    raise ValueError(
        "must be 'auto', 'manual', or 'after:' and a positive duration of at most a year, as in 'after:PT1H'"
    )


def undo_to_json(undo: Undo) -> str:
    return f"{undo.mode}:{_DURATION.dump_python(undo.after, mode='json')}" if undo.after else undo.mode


def _checked_undo(text: str) -> str:
    return undo_to_json(_undo_of(text))


UndoText = Annotated[str, AfterValidator(_checked_undo)]
"""When a run that has failed is undone, if it can be: ``auto``, at once; ``after:PT1H``, so much later; ``manual``."""


class OrchestrationTemplateDocument(Document):
    """The definitions of several orchestration types, by type."""

    id: str = Field(default="", max_length=LONGEST_TEMPLATE_ID)
    description: str = ""
    schema_: dict[str, Any] = Field(default_factory=dict, alias="schema")
    activities: dict[str, list[ActivityDocument]] = Field(default_factory=dict)
    active: bool = True
    """Our addition: whether orchestrations may start with its definitions."""
    compensation: UndoText = UndoMode.AUTO
    """Our addition: when a run that has failed is undone: ``auto``, ``after:<duration>`` or ``manual``."""

    def to_model(self) -> OrchestrationTemplate:
        """The template; without an id of its own it gets a new one."""
        return OrchestrationTemplate(
            id=self.id or str(uuid.uuid4()),
            description=self.description,
            schema=self.schema_,
            activities={type_: [one.to_model() for one in activities] for type_, activities in self.activities.items()},
            active=self.active,
            undo=_undo_of(self.compensation),
        )


class TemplateChangeDocument(Document):
    """What can be changed of a template without posting it again."""

    active: bool


class TemplateIdDocument(Document):
    """The answer to a posted template."""

    id: str
    description: str


class OrchestrationDefinitionDocument(Document):
    """A definition as it is shown: its type is the one key of ``activities``; an empty description or schema is left out."""

    description: str = ""
    schema_: dict[str, Any] = Field(default_factory=dict, alias="schema")
    activities: dict[str, list[ActivityDocument]]
    template_ref: str
    compensation: UndoText = UndoMode.AUTO
    """Left out where it is ``auto``."""
    active: bool = True
    """Left out where it is."""


def template_id_to_json(template: OrchestrationTemplate) -> dict[str, Any]:
    return {"id": template.id, "description": "ID of the Orchestration Template"}


def activity_definition_to_json(definition: ActivityDefinition) -> dict[str, Any]:
    """What is empty is left out."""
    document = ActivityDefinitionDocument(
        type=definition.type,
        description=definition.description,
        input_schema=definition.input_schema,
        output_schema=definition.output_schema,
        timeout=definition.timeout,
        timeouts=TimeoutsDocument(
            schedule_to_start=definition.timeouts.schedule_to_start,
            schedule_to_close=definition.timeouts.schedule_to_close,
            heartbeat=definition.timeouts.heartbeat,
            wait=definition.timeouts.wait,
        ),
        retry=RetryDocument(
            max_attempts=definition.retry.max_attempts,
            backoff=definition.retry.backoff,
            backoff_limit=definition.retry.backoff_limit,
        ),
        limits=LimitsDocument(
            concurrency=definition.limits.concurrency,
            concurrency_per_tenant=definition.limits.concurrency_per_tenant,
            rate=RateDocument.of(definition.limits.rate),
            rate_per_tenant=RateDocument.of(definition.limits.rate_per_tenant),
            consecutive_failures=definition.limits.consecutive_failures,
        ),
    ).model_dump(mode="json", by_alias=True, exclude_none=True)
    return {name: value for name, value in document.items() if value}


def activity_definition_from_json(document: Mapping[str, Any]) -> ActivityDefinition:
    """A definition as it was shown; its version is not."""
    return ActivityDefinitionDocument.model_validate(document).to_model()


def activity_definition_fields(definition: ActivityDefinition) -> dict[str, Any]:
    """What a predicate may name of an activity definition."""
    empty = {"description": "", "inputSchema": {}, "outputSchema": {}, "timeouts": {}, "retry": {}, "limits": {}}
    return empty | activity_definition_to_json(definition) | {"version": definition.version}


def orchestration_definition_to_json(definition: OrchestrationDefinition) -> dict[str, Any]:
    """What is empty is left out; the type is the one key of ``activities``."""
    optional = {"description": definition.description, "schema": definition.schema}
    return (
        {name: value for name, value in optional.items() if value}
        | {
            "activities": {definition.type: [activity_to_json(activity) for activity in definition.activities]},
            "templateRef": definition.template_ref,
        }
        | ({} if definition.undo == Undo() else {"compensation": undo_to_json(definition.undo)})
        | ({} if definition.active else {"active": False})
    )


def orchestration_definition_from_json(document: Mapping[str, Any]) -> OrchestrationDefinition:
    """A definition as it was shown; its version is not."""
    ((type_, activities),) = document["activities"].items()
    return OrchestrationDefinition(
        type=type_,
        template_ref=document["templateRef"],
        description=document.get("description", ""),
        schema=document.get("schema", {}),
        activities=tuple(map(activity_from_json, activities)),
        active=document.get("active", True),
        undo=_undo_of(document.get("compensation", UndoMode.AUTO)),
    )


def orchestration_definition_fields(definition: OrchestrationDefinition) -> dict[str, Any]:
    """What a predicate may name of an orchestration definition."""
    return {
        "type": definition.type,
        "version": definition.version,
        "templateRef": definition.template_ref,
        "active": definition.active,
        "description": definition.description,
        "schema": definition.schema,
        "compensation": undo_to_json(definition.undo),
        "activities": [activity_to_json(activity) for activity in definition.activities],
    }


def activity_to_json(activity: Activity) -> dict[str, Any]:
    document: dict[str, Any] = {"id": activity.id, "type": activity.type}
    if activity.depends_on:
        document["dependsOn"] = list(activity.depends_on)
    if activity.inputs:
        document["inputs"] = [{"source": one.source, "target": one.target} for one in activity.inputs]
    if activity.condition:
        document["condition"] = activity.condition
    if activity.compensation:
        document["compensation"] = activity.compensation
    if activity.for_each:
        document["forEach"] = asdict(activity.for_each)
    return document


def activity_from_json(document: Mapping[str, Any]) -> Activity:
    return ActivityDocument.model_validate(document).to_model()


def activity_definitions_by_type(documents: Sequence[Mapping[str, Any]]) -> dict[str, ActivityDefinition]:
    """Activity definitions as they were shown."""
    return {definition.type: definition for definition in map(activity_definition_from_json, documents)}
