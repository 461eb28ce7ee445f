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
    Activity,
    ActivityDefinition,
    OrchestrationDefinition,
    OrchestrationTemplate,
    RetryPolicy,
)


class RetryDocument(Document):
    """Our addition: durations are ISO 8601."""

    max_attempts: int | None = None
    backoff: timedelta | None = None
    backoff_limit: timedelta | None = None


class ActivityDefinitionDocument(Document):
    type: str = Field(min_length=1, max_length=256)
    description: str = ""
    input_schema: dict[str, Any] = Field(default_factory=dict)
    output_schema: dict[str, Any] = Field(default_factory=dict)
    timeout: timedelta | None = None
    retry: RetryDocument = RetryDocument()

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
        )


class ActivityDocument(Document):
    id: str = ""
    type: str = ""
    depends_on: list[str] = Field(default_factory=list)


class OrchestrationTemplateDocument(Document):
    id: str = Field(default="", max_length=512)
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
    ).model_dump(mode="json", by_alias=True, exclude_none=True)
    return {name: value for name, value in document.items() if value}


def orchestration_definition_to_json(definition: OrchestrationDefinition) -> dict[str, Any]:
    """What is empty is left out; the type is the one key of ``activities``."""
    optional = {"description": definition.description, "schema": definition.schema}
    return {name: value for name, value in optional.items() if value} | {
        "activities": {definition.type: [activity_to_json(activity) for activity in definition.activities]},
        "templateRef": definition.template_ref,
    }


def activity_to_json(activity: Activity) -> dict[str, Any]:
    document: dict[str, Any] = {"id": activity.id, "type": activity.type}
    if activity.depends_on:
        document["dependsOn"] = list(activity.depends_on)
    return document


def activity_from_json(document: Mapping[str, Any]) -> Activity:
    return Activity(document["id"], document["type"], tuple(document.get("dependsOn", ())))
