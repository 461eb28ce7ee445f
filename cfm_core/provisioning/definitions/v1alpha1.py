"""Definitions as JSON of API version v1alpha1.

Source: CFM wire contract, sections 5.6 to 5.8.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from pydantic import Field

from cfm_core.contracts.documents import Document
from cfm_core.provisioning.definitions.model import (
    LONGEST_TEMPLATE_ID,
    LONGEST_TYPE,
    Activity,
    ActivityDefinition,
    Limits,
    OrchestrationDefinition,
    OrchestrationTemplate,
    RetryPolicy,
)


class RetryDocument(Document):
    """Our addition: durations are ISO 8601."""

    max_attempts: int | None = None
    backoff: timedelta | None = None
    backoff_limit: timedelta | None = None


class LimitsDocument(Document):
    """Our addition: how many activities of the type may be with agents at a time, of all tenants and of one.

    After so many failures in a row nothing is sent for a while, and then one activity at a time as a probe; 0 stands for
    never.
    """

    concurrency: int | None = None
    concurrency_per_tenant: int | None = None
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
                consecutive_failures=self.limits.consecutive_failures,
            ),
        )


class PutActivityDefinitionDocument(ActivityDefinitionDocument):
    """An activity definition whose type the path names; the document may repeat it."""

    type: str = Field(default="", max_length=LONGEST_TYPE)


class ActivityDocument(Document):
    """A node of an orchestration; ``dependsOn`` is left out where there is nothing."""

    id: str
    type: str
    depends_on: list[str] = Field(default_factory=list)


class OrchestrationTemplateDocument(Document):
    """The definitions of several orchestration types, by type."""

    id: str = Field(default="", max_length=LONGEST_TEMPLATE_ID)
    description: str = ""
    schema_: dict[str, Any] = Field(default_factory=dict, alias="schema")
    activities: dict[str, list[ActivityDocument]] = Field(default_factory=dict)

    def to_model(self) -> OrchestrationTemplate:
        """The template; without an id of its own it gets a new one."""
        return OrchestrationTemplate(
            id=self.id or str(uuid.uuid4()),
            description=self.description,
            schema=self.schema_,
            activities={
                type_: [Activity(one.id, one.type, tuple(one.depends_on)) for one in activities]
                for type_, activities in self.activities.items()
            },
        )


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
            consecutive_failures=definition.limits.consecutive_failures,
        ),
    ).model_dump(mode="json", by_alias=True, exclude_none=True)
    return {name: value for name, value in document.items() if value}


def activity_definition_fields(definition: ActivityDefinition) -> dict[str, Any]:
    """What a predicate may name of an activity definition."""
    empty = {"description": "", "inputSchema": {}, "outputSchema": {}, "retry": {}, "limits": {}}
    return empty | activity_definition_to_json(definition) | {"version": definition.version}


def orchestration_definition_to_json(definition: OrchestrationDefinition) -> dict[str, Any]:
    """What is empty is left out; the type is the one key of ``activities``."""
    optional = {"description": definition.description, "schema": definition.schema}
    return {name: value for name, value in optional.items() if value} | {
        "activities": {definition.type: [activity_to_json(activity) for activity in definition.activities]},
        "templateRef": definition.template_ref,
    }


def orchestration_definition_fields(definition: OrchestrationDefinition) -> dict[str, Any]:
    """What a predicate may name of an orchestration definition."""
    return {
        "type": definition.type,
        "version": definition.version,
        "templateRef": definition.template_ref,
        "description": definition.description,
        "schema": definition.schema,
        "activities": [activity_to_json(activity) for activity in definition.activities],
    }


def activity_to_json(activity: Activity) -> dict[str, Any]:
    document: dict[str, Any] = {"id": activity.id, "type": activity.type}
    if activity.depends_on:
        document["dependsOn"] = list(activity.depends_on)
    return document


def activity_from_json(document: Mapping[str, Any]) -> Activity:
    return Activity(document["id"], document["type"], tuple(document.get("dependsOn", ())))
