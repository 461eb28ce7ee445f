"""The events that the engine writes, as Python makes them; in Postgres its functions make the same."""

from __future__ import annotations

import hashlib
import uuid
from typing import Any

from cfm_core.contracts.activity import DISPATCH_EVENT, ActivityOutcome, OutcomeKind, UncheckedDispatch
from cfm_core.contracts.orchestration import OrchestrationManifest, OrchestrationResponse
from cfm_core.contracts.reply import EventDict
from cfm_core.errors import CfmError
from cfm_core.provisioning.engine.model import SOURCE
from cfm_core.trace import NONE, Context


def cloud_event(
    *, id: str, type: str, orchestration_id: str, data: dict[str, Any], belongs_to: Context = NONE
) -> EventDict:
    return {
        "specversion": "1.0",
        "id": id,
        "source": SOURCE,
        "type": type,
        "subject": orchestration_id,
        "datacontenttype": "application/json",
        "data": data,
        **belongs_to,
    }


def dispatch_event(event_id: str, dispatch: UncheckedDispatch, belongs_to: Context) -> EventDict:
    """A dispatch that has been checked, for its agent."""
    return cloud_event(
        id=event_id,
        type=DISPATCH_EVENT,
        orchestration_id=dispatch.orchestration_id,
        data=dispatch.to_agent_json(),
        belongs_to=belongs_to,
    )


def response_to(
    manifest: OrchestrationManifest,
    belongs_to: Context,
    *,
    success: bool,
    error_detail: str,
    properties: dict[str, Any],
    retries: int = 0,
) -> EventDict:
    """How the manifest's orchestration has ended. However often it is told, the response is the same, the event a new one."""
    end = f"response to {manifest.id}" + (f"#{retries}" if retries else "")
    response = OrchestrationResponse(
        id=str(uuid.UUID(hashlib.md5(end.encode(), usedforsecurity=False).hexdigest())),
        manifest_id=manifest.id,
        correlation_id=manifest.correlation_id or manifest.id,
        orchestration_type=manifest.orchestration_type,
        success=success,
        error_detail=error_detail,
        properties=properties,
        retries=retries,
    )
    return cloud_event(
        id=str(uuid.uuid4()),
        type="cfm.orchestration.response",
        orchestration_id=manifest.id,
        data=response.to_json(),
        belongs_to=belongs_to,
    )


def manifest_event(manifest: OrchestrationManifest, orchestration_id: str, belongs_to: Context = NONE) -> EventDict:
    """Asks for the compensation of an orchestration; the event has the manifest's id, so that it is known again."""
    return cloud_event(
        id=manifest.id,
        type="cfm.orchestration.manifest",
        orchestration_id=orchestration_id,
        data=manifest.to_json(),
        belongs_to=belongs_to,
    )


def refused_event(subject: str, document: dict[str, Any], belongs_to: Context = NONE) -> EventDict:
    """What could not be taken in, as it would have to be sent once more."""
    orchestration_id = str(document.get("orchestrationId") or document.get("id"))
    return cloud_event(
        id=str(uuid.uuid4()), type=subject, orchestration_id=orchestration_id, data=document, belongs_to=belongs_to
    )


def as_failure(outcome: ActivityOutcome, error: CfmError) -> ActivityOutcome:
    """What is recorded in place of an outcome that cannot be stored; like one that was not begun, it lacks all records."""
    return ActivityOutcome(
        orchestration_id=outcome.orchestration_id,
        phase=outcome.phase,
        ord=outcome.ord,
        token=outcome.token,
        kind=OutcomeKind.FATAL,
        reason=f"its outcome could not be stored: {error}",
        begun=False,
    )
