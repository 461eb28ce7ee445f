"""What operators do to orchestrations: each with a reason, noted, and only where the state allows it.

Source: interface decisions, "Actions".
"""

from __future__ import annotations

from collections.abc import Callable

from flask import Request, Response

from cfm_core.function import Target, http_function
from cfm_core.provisioning.assembly import OPERATIONS
from cfm_core.provisioning.operations.model import Order, Resolution
from cfm_core.provisioning.operations.service import Operations
from cfm_core.provisioning.operations.v1alpha1 import (
    CancelDocument,
    CompensateDocument,
    ErasedDocument,
    EraseDocument,
    OrderDocument,
    RerunDocument,
    ResolveDocument,
    RetryDocument,
)
from cfm_core.provisioning.orchestrations.model import Orchestration
from cfm_core.provisioning.orchestrations.v1alpha1 import OrchestrationDocument, to_entity
from cfm_core.versions import Expected
from cfm_core.web import answers
from cfm_core.web.auth import PM_WRITE
from cfm_core.web.conditional import expected
from cfm_core.web.edge import request_id_of, subject_of

ORCHESTRATION = "/api/v1alpha1/orchestrations/{orchestration_id}"
ACTIVITY = ORCHESTRATION + "/activities/{activity_id}"


def _action(
    path: str, body: type[OrderDocument] = OrderDocument, right: str = "update orchestration"
) -> Callable[[Callable[..., Response]], Target]:
    """Declare what operators do to the orchestration that ``path`` names; it is answered with the orchestration."""
    return http_function(
        *("POST", path),
        scope=PM_WRITE,
        rights=[right],
        requires=[OPERATIONS],
        body=body,
        gives={200: OrchestrationDocument},
        acts=True,
    )


@_action(ORCHESTRATION + "/pause")
def pause_orchestration(
    request: Request, operations: Operations, document: OrderDocument, orchestration_id: str
) -> Response:
    """Send nothing more of a running orchestration, nor of those below it. What was sent may still report. Safe to repeat."""
    return _shown(request, operations.pause(orchestration_id, *_asked(request, document)))


@_action(ORCHESTRATION + "/resume")
def resume_orchestration(
    request: Request, operations: Operations, document: OrderDocument, orchestration_id: str
) -> Response:
    """Send what a paused orchestration has held back, and those that were paused with it. Safe to repeat."""
    return _shown(request, operations.resume(orchestration_id, *_asked(request, document)))


@_action(ORCHESTRATION + "/cancel", CancelDocument)
def cancel_orchestration(
    request: Request, operations: Operations, document: CancelDocument, orchestration_id: str
) -> Response:
    """End a running orchestration; what was done is undone where its template says how. Safe to repeat."""
    asked = _asked(request, document)
    return _shown(request, operations.cancel(orchestration_id, *asked, compensate=document.compensate))


@_action(ORCHESTRATION + "/retry", RetryDocument)
def retry_orchestration(
    request: Request, operations: Operations, document: RetryDocument, orchestration_id: str
) -> Response:
    """Let a failed or cancelled orchestration go on: with all that was not done, or with some activities and what depends
    on them."""
    asked = _asked(request, document)
    return _shown(request, operations.retry(orchestration_id, *asked, activities=document.activities))


@_action(ORCHESTRATION + "/compensate", CompensateDocument)
def compensate_orchestration(
    request: Request, operations: Operations, document: CompensateDocument, orchestration_id: str
) -> Response:
    """Undo an orchestration that has ended, or repeat what has failed of its compensation. Safe to repeat."""
    asked = _asked(request, document)
    return _shown(request, operations.compensate(orchestration_id, *asked, force=document.force))


@_action(ORCHESTRATION + "/rerun", RerunDocument, "create orchestration")
def rerun_orchestration(
    request: Request, operations: Operations, document: RerunDocument, orchestration_id: str
) -> Response:
    """Start an orchestration that has ended once more, with what it was started with; answers with the new one.

    Asked twice with the same id, or without one, it starts once.
    """
    return _shown(request, operations.rerun(orchestration_id, *_asked(request, document), new_id=document.id))


@_action(ACTIVITY + "/retry")
def retry_activity(
    request: Request, operations: Operations, document: OrderDocument, orchestration_id: str, activity_id: str
) -> Response:
    """Send an activity at once that waits for its next attempt, or let a failed orchestration go on with it."""
    return _shown(request, operations.retry_activity(orchestration_id, activity_id, *_asked(request, document)))


@_action(ACTIVITY + "/resolve", ResolveDocument)
def resolve_activity(
    request: Request, operations: Operations, document: ResolveDocument, orchestration_id: str, activity_id: str
) -> Response:
    """Say that an activity has been done by hand, and what it records. A failed orchestration goes on once it is retried.

    Safe to repeat.
    """
    order, version = _asked(request, document)
    resolution = Resolution(document.values, document.outputs)
    return _shown(request, operations.resolve_activity(orchestration_id, activity_id, order, resolution, version))


@http_function(
    *("POST", "/api/v1alpha1/orchestrations/erase"),
    scope=PM_WRITE,
    rights=["delete orchestration"],
    requires=[OPERATIONS],
    body=EraseDocument,
    gives={200: ErasedDocument},
)
def erase_orchestrations(request: Request, operations: Operations, document: EraseDocument) -> Response:
    """Forget what all orchestrations with a correlation id have held and told, such as those of a participant profile.

    That they were, and how they ended, stays; nothing can be done to them any more. Safe to repeat.
    """
    return answers.json_value({"erased": operations.erase(document.correlation_id, _order(request, document))})


def _asked(request: Request, document: OrderDocument) -> tuple[Order, Expected]:
    """The order, and the version of the orchestration that it is meant for."""
    return _order(request, document), expected(request)


def _shown(request: Request, run: Orchestration) -> Response:
    return answers.entity(request, to_entity(run))


def _order(request: Request, document: OrderDocument) -> Order:
    return document.to_order(subject_of(request), request_id_of(request))
