"""Definitions as JSON of API version v1alpha1.

Source: CFM wire contract, sections 5.6 to 5.8.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from cfm_core.contracts.documents import Document
from cfm_core.provisioning.definitions.model import (
    LONGEST_INPUT,
    LONGEST_TEMPLATE_ID,
    LONGEST_TYPE,
    MOST_INPUTS,
    Activity,
    ActivityDefinition,
    Input,
    Limits,
    OrchestrationDefinition,
    OrchestrationTemplate,
    Rate,
    RetryPolicy,
)


class RetryDocument(Document):
    """Our addition: durations are ISO 8601."""

    max_attempts: int | None = None
    backoff: timedelta | None = None
    backoff_limit: timedelta | None = None


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
    retry: RetryDocument = RetryDocument()
    limits: LimitsDocument = LimitsDocument()

    def to_model(self) -> ActivityDefinition:
        return ActivityDefinition(
            type=self.type,
            description=self.description,
            input_schema=self.input_schema,
            output_schema=self.output_schema,
            timeout=self.timeout,
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


class ActivityDocument(Document):
    """A node of an orchestration; ``dependsOn`` and ``inputs`` are left out where there is nothing."""

    id: str
    type: str
    depends_on: list[str] = Field(default_factory=list)
    inputs: list[NamedInput] = Field(default_factory=list, max_length=MOST_INPUTS)
    """Our addition: all that it gets of the processing data, by key or ``<activity id>.<key>``; everything, if empty."""

    def to_model(self) -> Activity:
        inputs = tuple(Input(target=one.target, source=one.source) for one in self.inputs)
        return Activity(self.id, self.type, tuple(self.depends_on), inputs)


class OrchestrationTemplateDocument(Document):
    """The definitions of several orchestration types, by type."""

    id: str = Field(default="", max_length=LONGEST_TEMPLATE_ID)
    description: str = ""
    schema_: dict[str, Any] = Field(default_factory=dict, alias="schema")
    activities: dict[str, list[ActivityDocument]] = Field(default_factory=dict)
    active: bool = True
    """Our addition: whether orchestrations may start with its definitions."""

    def to_model(self) -> OrchestrationTemplate:
        """The template; without an id of its own it gets a new one."""
        return OrchestrationTemplate(
            id=self.id or str(uuid.uuid4()),
            description=self.description,
            schema=self.schema_,
            activities={type_: [one.to_model() for one in activities] for type_, activities in self.activities.items()},
            active=self.active,
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
    empty = {"description": "", "inputSchema": {}, "outputSchema": {}, "retry": {}, "limits": {}}
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
        "activities": [activity_to_json(activity) for activity in definition.activities],
    }


def activity_to_json(activity: Activity) -> dict[str, Any]:
    document: dict[str, Any] = {"id": activity.id, "type": activity.type}
    if activity.depends_on:
        document["dependsOn"] = list(activity.depends_on)
    if activity.inputs:
        document["inputs"] = [{"source": one.source, "target": one.target} for one in activity.inputs]
    return document


def activity_from_json(document: Mapping[str, Any]) -> Activity:
    return ActivityDocument.model_validate(document).to_model()


def activity_definitions_by_type(documents: Sequence[Mapping[str, Any]]) -> dict[str, ActivityDefinition]:
    """Activity definitions as they were shown."""
    return {definition.type: definition for definition in map(activity_definition_from_json, documents)}
