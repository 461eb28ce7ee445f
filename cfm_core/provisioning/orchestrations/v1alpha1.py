"""Orchestrations as JSON of API version v1alpha1.

Source: CFM wire contract, sections 5.9 and 5.10.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from cfm_core.clock import system_clock
from cfm_core.contracts.documents import Document
from cfm_core.contracts.instants import Instant, instant
from cfm_core.contracts.orchestration import OrchestrationManifest
from cfm_core.entities import JsonEntity, json_of
from cfm_core.masking import masked, masked_text
from cfm_core.provisioning.definitions.model import LONGEST_TEMPLATE_ID, LONGEST_TYPE, Activity, steps_of
from cfm_core.provisioning.definitions.v1alpha1 import ActivityDocument, activity_to_json
from cfm_core.provisioning.engine.model import LONGEST_ID, OrchestrationState
from cfm_core.provisioning.orchestrations.actions import allowed_actions, allowed_activity_actions
from cfm_core.provisioning.orchestrations.model import ActivityStatus, Attempt, Ending, Heartbeat, Orchestration
from cfm_core.provisioning.orchestrations.status import status_of
from cfm_core.query.instants import instant_of


def _read_instant(value: Any) -> datetime:
    found = instant_of(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError("must be an RFC 3339 timestamp such as 2026-11-23T07:07:23Z")
    return found


class ManifestDocument(Document):
    """Over HTTP the correlation id is required as well. ``startAt`` says when it is to start; without it, at once."""

    id: str = Field(min_length=1, max_length=LONGEST_ID)
    correlation_id: str = Field(min_length=1, max_length=LONGEST_ID)
    orchestration_type: str = Field(min_length=1, max_length=LONGEST_TYPE)
    payload: dict[str, Any] = Field(default_factory=dict)
    start_at: Annotated[datetime, BeforeValidator(_read_instant)] | None = None
    template_ref: str = Field(default="", max_length=LONGEST_TEMPLATE_ID)
    """Our addition: the template with whose definition it runs; the newest active one, if empty."""

    def to_manifest(self) -> OrchestrationManifest:
        return OrchestrationManifest(
            id=self.id,
            correlation_id=self.correlation_id,
            orchestration_type=self.orchestration_type,
            payload=self.payload,
            template_ref=self.template_ref,
        )


class EndingDocument(Document):
    """How an activity ends that waits for somebody outside; with an error it has failed."""

    token: str = Field(min_length=1)
    error: str = ""
    values: dict[str, Any] = Field(default_factory=dict)
    outputs: dict[str, Any] = Field(default_factory=dict)

    def to_ending(self) -> Ending:
        return Ending(token=self.token, error=self.error, values=self.values, outputs=self.outputs)


class HeartbeatDocument(Document):
    """A sign of life from an agent: the token of its dispatch, and in its own words how far it is, in at most 2,000 bytes."""

    token: str = Field(min_length=1)
    progress: Any = None

    def to_heartbeat(self) -> Heartbeat:
        return Heartbeat(token=self.token, progress=self.progress)


class OrchestrationEntryDocument(Document):
    """An orchestration as it is listed. Its state is 1 while it runs, 2 once it is completed, 3 once it has failed; 0 before
    it has started. In a list, ``startAt`` and ``status`` are those of one that is to start later, or was to."""

    id: str
    correlation_id: str
    state: int = Field(ge=0, le=3)
    state_timestamp: Instant
    created_timestamp: Instant
    orchestration_type: str
    definition_id: str
    start_at: Instant | None = None
    """When it is to start, or was to; left out for one that has started."""
    status: str = ""
    """``queued`` until then; ``cancelled`` or ``errored`` where it will not start."""


class _WholeOrchestrationDocument(OrchestrationEntryDocument):
    """What both forms of a single orchestration have; ``errorDetail`` is left out where nothing has failed."""

    parent_id: str | None = None
    """The orchestration for one of whose activities it was started; left out where there is none."""
    processing_data: dict[str, Any]
    output_data: dict[str, Any]
    completed: dict[str, dict[str, Any]]
    """The ids of the activities that are done, each with an empty object."""
    status: str
    """What it is doing, more exactly than its state says."""
    status_reason: str = ""
    """Why; never left out for one that does not move by itself."""
    allowed_actions: list[str]
    """What an operator may do to it in this state."""
    error_detail: str = ""


class StepDocument(Document):
    """The activities of one tier."""

    activities: list[ActivityDocument]


class ChildrenDocument(Document):
    """How many orchestrations were started for an activity, and how many of these have ended."""

    started: int
    ended: int


class ActivityStatusDocument(Document):
    """How far an activity is; what is not known, or has not happened, is left out."""

    id: str
    type: str
    depends_on: list[str] = Field(default_factory=list)
    state: str
    """``blocked``, ``ready``, ``dispatched``, ``waiting``, ``backoff``, ``done``, ``failed``, ``cancelled`` or
    ``skipped``."""
    attempt: int
    """The number of the present attempt, or of the last one; it rises with reported failures."""
    max_attempts: int
    dispatches: int
    """How often it was sent, lost messages included."""
    dispatched_at: Instant | None = None
    started_at: Instant | None = None
    """The agent's first sign of life since then; one that only answers gives none."""
    due_at: Instant | None = None
    """When something happens with it by itself."""
    rate_opens_at: Instant | None = None
    """Where it is held back by a rate of its type: when that lets the next one through."""
    progress: Any = None
    """What its agent has said last of how far it is."""
    ended_at: Instant | None = None
    """When its last attempt has ended."""
    outcome: str = ""
    """How, as in the history."""
    reason: str = ""
    orchestrations: ChildrenDocument | None = None
    """Where orchestrations carry it out, not an agent."""
    allowed_actions: list[str]
    compensation: ActivityStatusDocument | None = None
    """What undoes it, once that has begun."""


class OrchestrationDocument(_WholeOrchestrationDocument):
    """An orchestration as it is read."""

    steps: list[StepDocument]
    activities: list[ActivityStatusDocument]
    """The whole graph, in the order of the definition."""


class StartedActivityDocument(Document):
    """An activity with the orchestration type that it belongs to; ``dependsOn`` is null where it depends on none."""

    id: str
    type: str
    discriminator: str
    depends_on: list[str] | None


class StartedStepDocument(Document):
    """The activities of one tier."""

    activities: list[StartedActivityDocument]


class StartedOrchestrationDocument(_WholeOrchestrationDocument):
    """An orchestration in the form in which it is answered to whoever has started it."""

    steps: list[StartedStepDocument]
    origin_trace_context: dict[str, str] | None = None
    """The ``traceparent``, ``tracestate`` and ``baggage`` with which it was asked for; left out where there were none."""


class AttemptDocument(Document):
    """How one attempt at an activity ended; what is not known is left out."""

    activity_id: str
    activity_type: str
    compensates: bool = False
    """Whether it was to undo the activity; left out where not."""
    dispatch: int | None = None
    attempt: int | None = None
    outcome: str
    reason: str = ""
    started_at: Instant | None = None
    ended_at: Instant
    next_at: Instant | None = None


class HeartbeatAnswerDocument(Document):
    """When the next sign of life, or the outcome, has to be there."""

    due_at: Instant


class EndedActivityDocument(Document):
    """What becomes of an activity that was ended from outside; as soon as its agent has been heard, where that is not yet so."""

    activity_id: str
    state: Literal["done", "failed"]


def to_json(orchestration: Orchestration, now: datetime) -> dict[str, Any]:
    """The form in which a single orchestration is read; its status is that of ``now``."""
    parents = {activity.id: activity.depends_on for activity in orchestration.activities}
    graph = [_status_to_json(orchestration, one, parents[one.id]) for one in orchestration.graph if one.phase != 1]
    undoing = {one.id: _status_to_json(orchestration, one, ()) for one in orchestration.graph if one.phase == 1}
    for document in graph:
        if document["id"] in undoing:
            document["compensation"] = undoing[document["id"]]
    return _document(orchestration, activity_to_json, now) | {"activities": graph}


def to_entity(orchestration: Orchestration) -> JsonEntity:
    return JsonEntity(orchestration.version, json_of(to_json(orchestration, system_clock())))


def to_internal_json(orchestration: Orchestration, now: datetime) -> dict[str, Any]:
    """The form in which a started orchestration is answered: its activities carry the discriminator."""

    def with_discriminator(activity: Activity) -> dict[str, Any]:
        return {
            "id": activity.id,
            "type": activity.type,
            "discriminator": orchestration.type,
            "dependsOn": list(activity.depends_on) or None,
        }

    origin = {name: masked_text(value) for name, value in orchestration.origin_trace.items()}
    return _document(orchestration, with_discriminator, now) | ({"originTraceContext": origin} if origin else {})


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
        "parentId": orchestration.parent,
        "tenantId": orchestration.tenant_id,
    }


def entry_to_json(orchestration: Orchestration) -> dict[str, Any]:
    """The form in which an orchestration is listed; the database's ``entry_json`` gives the same."""
    document = _entry(orchestration)
    if orchestration.start_at is not None:
        waits = orchestration.state is OrchestrationState.SCHEDULED
        document["startAt"] = instant(orchestration.start_at)
        document["status"] = "queued" if waits else orchestration.state.lower()
    return document


def _entry(orchestration: Orchestration) -> dict[str, Any]:
    return {
        "id": orchestration.id,
        "correlationId": orchestration.correlation_id,
        "state": orchestration.state.number,
        "stateTimestamp": instant(orchestration.state_at),
        "createdTimestamp": instant(orchestration.created_at),
        "orchestrationType": orchestration.type,
        "definitionId": orchestration.type,
    }


def attempt_to_json(attempt: Attempt) -> dict[str, Any]:
    """One line of an orchestration's history; what is not known is left out."""
    document = {
        "activityId": attempt.activity_id,
        "activityType": attempt.activity_type,
        "compensates": attempt.compensates or None,
        "dispatch": attempt.dispatch,
        "attempt": attempt.attempt,
        "outcome": attempt.outcome,
        "reason": masked_text(attempt.reason) or None,
        "startedAt": attempt.started_at and instant(attempt.started_at),
        "endedAt": instant(attempt.ended_at),
        "nextAt": attempt.next_at and instant(attempt.next_at),
    }
    return {name: value for name, value in document.items() if value is not None}


def ended_to_json(activity_id: str, ending: Ending) -> dict[str, Any]:
    return {"activityId": activity_id, "state": "failed" if ending.error else "done"}


def _document(
    orchestration: Orchestration, activity_json: Callable[[Activity], Mapping[str, Any]], now: datetime
) -> dict[str, Any]:
    status, reason = status_of(orchestration, now)
    return _entry(orchestration) | {
        **({"parentId": orchestration.parent} if orchestration.parent else {}),
        **({"startAt": instant(orchestration.start_at)} if orchestration.start_at else {}),
        "steps": [{"activities": [activity_json(one) for one in step]} for step in steps_of(orchestration.activities)],
        "processingData": masked(orchestration.processing_data, orchestration.secret_keys),
        "outputData": masked(orchestration.output_data, orchestration.secret_keys),
        "completed": {id_: {} for id_ in orchestration.completed},
        "status": status,
        **({"statusReason": masked_text(reason, orchestration.secret_keys)} if reason else {}),
        "allowedActions": list(allowed_actions(orchestration)),
        **(
            {"errorDetail": masked_text(error, orchestration.secret_keys)}
            if (error := orchestration.error_detail)
            else {}
        ),
    }


def _status_to_json(orchestration: Orchestration, one: ActivityStatus, parents: Sequence[str]) -> dict[str, Any]:
    document = {
        "id": one.id,
        "type": one.type,
        "dependsOn": list(parents) or None,
        "state": one.state.lower(),
        "attempt": min(one.failures + 1, one.max_attempts),
        "maxAttempts": one.max_attempts,
        "dispatches": one.dispatches,
        "dispatchedAt": one.dispatched_at and instant(one.dispatched_at),
        "startedAt": one.started_at and instant(one.started_at),
        "dueAt": one.due_at and instant(one.due_at),
        "rateOpensAt": one.rate_opens_at and instant(one.rate_opens_at),
        "progress": masked(one.progress, orchestration.secret_keys),
        "endedAt": one.ended_at and instant(one.ended_at),
        "outcome": one.outcome or None,
        "reason": masked_text(one.reason, orchestration.secret_keys) or None,
        "orchestrations": one.children and {"started": one.children[0], "ended": one.children[1]},
        "allowedActions": list(allowed_activity_actions(orchestration, one)),
    }
    return {name: value for name, value in document.items() if value is not None}
