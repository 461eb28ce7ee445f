"""Orchestrations as JSON of API version v1alpha1.

Source: CFM wire contract, sections 5.9 and 5.10.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pydantic import Field

from cfm_core.contracts.documents import Document
from cfm_core.contracts.orchestration import OrchestrationManifest
from cfm_core.provisioning.definitions.model import Activity, steps_of
from cfm_core.provisioning.definitions.v1alpha1 import activity_to_json
from cfm_core.provisioning.engine.model import LONGEST_ID
from cfm_core.provisioning.orchestrations.model import Attempt, Ending, Orchestration


class ManifestDocument(Document):
    """Over HTTP the correlation id is required as well."""

    id: str = Field(min_length=1, max_length=LONGEST_ID)
    correlation_id: str = Field(min_length=1, max_length=LONGEST_ID)
    orchestration_type: str = Field(min_length=1, max_length=256)
    payload: dict[str, Any] = Field(default_factory=dict)

    def to_manifest(self) -> OrchestrationManifest:
        return OrchestrationManifest(
            id=self.id,
            correlation_id=self.correlation_id,
            orchestration_type=self.orchestration_type,
            payload=self.payload,
        )


class EndingDocument(Document):
    """How an activity ends that waits for somebody outside."""

    token: str = Field(min_length=1)
    error: str = ""
    values: dict[str, Any] = Field(default_factory=dict)
    outputs: dict[str, Any] = Field(default_factory=dict)

    def to_ending(self) -> Ending:
        return Ending(token=self.token, error=self.error, values=self.values, outputs=self.outputs)


def to_json(orchestration: Orchestration) -> dict[str, Any]:
    """The form in which a single orchestration is read."""
    return _document(orchestration, activity_to_json)


def to_internal_json(orchestration: Orchestration) -> dict[str, Any]:
    """The form in which a started orchestration is answered: its activities carry the discriminator."""

    def with_discriminator(activity: Activity) -> dict[str, Any]:
        return {
            "id": activity.id,
            "type": activity.type,
            "discriminator": orchestration.type,
            "dependsOn": list(activity.depends_on) or None,
        }

    return _document(orchestration, with_discriminator)


def fields_of(orchestration: Orchestration) -> dict[str, Any]:
    """The fields that a predicate may name, instants as they are."""
    return {
        "id": orchestration.id,
        "version": orchestration.version,
        "correlationId": orchestration.correlation_id,
        "state": orchestration.state.number,
        "stateTimestamp": orchestration.state_at,
        "createdTimestamp": orchestration.created_at,
        "orchestrationType": orchestration.type,
        "definitionId": orchestration.type,
    }


def entry_to_json(orchestration: Orchestration) -> dict[str, Any]:
    """The form in which an orchestration is listed."""
    fields = fields_of(orchestration)
    del fields["version"]
    return {name: instant(value) if isinstance(value, datetime) else value for name, value in fields.items()}


def attempt_to_json(attempt: Attempt) -> dict[str, Any]:
    """One line of an orchestration's history; what is not known is left out."""
    document = {
        "activityId": attempt.activity_id,
        "activityType": attempt.activity_type,
        "dispatch": attempt.dispatch,
        "attempt": attempt.attempt,
        "outcome": attempt.outcome,
        "reason": attempt.reason or None,
        "startedAt": attempt.started_at and instant(attempt.started_at),
        "endedAt": instant(attempt.ended_at),
        "nextAt": attempt.next_at and instant(attempt.next_at),
    }
    return {name: value for name, value in document.items() if value is not None}


def instant(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _document(orchestration: Orchestration, activity_json: Any) -> dict[str, Any]:
    document: dict[str, Any] = {
        "id": orchestration.id,
        "correlationId": orchestration.correlation_id,
        "definitionId": orchestration.type,
        "state": orchestration.state.number,
        "stateTimestamp": instant(orchestration.state_at),
        "createdTimestamp": instant(orchestration.created_at),
        "orchestrationType": orchestration.type,
        "steps": [{"activities": [activity_json(one) for one in step]} for step in steps_of(orchestration.activities)],
        "processingData": orchestration.processing_data,
        "outputData": orchestration.output_data,
        "completed": {id_: {} for id_ in orchestration.completed},
        "status": orchestration.state.lower().replace("_", "-"),
    }
    if orchestration.error_detail:
        document["errorDetail"] = orchestration.error_detail
    return document
