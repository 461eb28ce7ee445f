"""What operators do to orchestrations: each with a reason, noted, and only where the state allows it.

Source: interface decisions, "Actions".
"""

from __future__ import annotations

from flask import Request, Response

from cfm_core.function import http_function
from cfm_core.provisioning.assembly import OPERATIONS
from cfm_core.provisioning.operations.model import Order, Resolution
from cfm_core.provisioning.operations.service import Operations
from cfm_core.provisioning.operations.v1alpha1 import (
    CancelDocument,
    CompensateDocument,
    ErasedDocument,
    EraseDocument,
    OperationDocument,
    OrderDocument,
    RerunDocument,
    ResolveDocument,
    RetryDocument,
)
from cfm_core.provisioning.orchestrations.v1alpha1 import OrchestrationDocument, to_entity
from cfm_core.web import answers
from cfm_core.web.auth import PM_READ, PM_WRITE
from cfm_core.web.conditional import expected
from cfm_core.web.edge import request_id_of, subject_of
from cfm_core.web.paging import Asked

AUDIT = "/api/v1alpha1/audit"
ORCHESTRATION = "/api/v1alpha1/orchestrations/{orchestration_id}"
ACTIVITY = ORCHESTRATION + "/activities/{activity_id}"
_GIVES = {200: OrchestrationDocument}


@http_function("GET", AUDIT, scope=PM_READ, requires=[OPERATIONS], lists=OperationDocument)
def list_operations(request: Request, operations: Operations, asked: Asked) -> Response:
    """A page of what operators have done to orchestrations, or of what a predicate holds for; the oldest first."""
    return answers.page(request, asked, operations.select(asked.predicate, asked.page))


@http_function("POST", AUDIT + "/query", scope=PM_READ, requires=[OPERATIONS], lists=OperationDocument)
def query_operations(request: Request, operations: Operations, asked: Asked) -> Response:
    """A page of what operators have done that a predicate holds for; the oldest first."""
    return answers.page(request, asked, operations.select(asked.predicate, asked.page))


@http_function(
    *("POST", ORCHESTRATION + "/pause"),
    scope=PM_WRITE,
    requires=[OPERATIONS],
    body=OrderDocument,
    gives=_GIVES,
    acts=True,
)
def pause_orchestration(
    request: Request, operations: Operations, document: OrderDocument, orchestration_id: str
) -> Response:
    """Send nothing more of a running orchestration. What was sent may still report. Safe to repeat."""
    order = _order(request, document)
    return answers.entity(request, to_entity(operations.pause(orchestration_id, order, expected(request))))


@http_function(
    *("POST", ORCHESTRATION + "/resume"),
    scope=PM_WRITE,
    requires=[OPERATIONS],
    body=OrderDocument,
    gives=_GIVES,
    acts=True,
)
def resume_orchestration(
    request: Request, operations: Operations, document: OrderDocument, orchestration_id: str
) -> Response:
    """Send what a paused orchestration has held back. Safe to repeat."""
    order = _order(request, document)
    return answers.entity(request, to_entity(operations.resume(orchestration_id, order, expected(request))))


@http_function(
    *("POST", ORCHESTRATION + "/cancel"),
    scope=PM_WRITE,
    requires=[OPERATIONS],
    body=CancelDocument,
    gives=_GIVES,
    acts=True,
)
def cancel_orchestration(
    request: Request, operations: Operations, document: CancelDocument, orchestration_id: str
) -> Response:
    """End a running orchestration; what was done is undone where its template says how. Safe to repeat."""
    order = _order(request, document)
    run = operations.cancel(orchestration_id, order, expected(request), compensate=document.compensate)
    return answers.entity(request, to_entity(run))


@http_function(
    *("POST", ORCHESTRATION + "/retry"),
    scope=PM_WRITE,
    requires=[OPERATIONS],
    body=RetryDocument,
    gives=_GIVES,
    acts=True,
)
def retry_orchestration(
    request: Request, operations: Operations, document: RetryDocument, orchestration_id: str
) -> Response:
    """Let a failed or cancelled orchestration go on: with all that was not done, or with some activities and what depends
    on them."""
    order = _order(request, document)
    run = operations.retry(orchestration_id, order, expected(request), activities=document.activities)
    return answers.entity(request, to_entity(run))


@http_function(
    *("POST", ORCHESTRATION + "/compensate"),
    scope=PM_WRITE,
    requires=[OPERATIONS],
    body=CompensateDocument,
    gives=_GIVES,
    acts=True,
)
def compensate_orchestration(
    request: Request, operations: Operations, document: CompensateDocument, orchestration_id: str
) -> Response:
    """Undo an orchestration that has ended, or repeat what has failed of its compensation. Safe to repeat."""
    order = _order(request, document)
    run = operations.compensate(orchestration_id, order, expected(request), force=document.force)
    return answers.entity(request, to_entity(run))


@http_function(
    *("POST", ORCHESTRATION + "/rerun"),
    scope=PM_WRITE,
    requires=[OPERATIONS],
    body=RerunDocument,
    gives=_GIVES,
    acts=True,
)
def rerun_orchestration(
    request: Request, operations: Operations, document: RerunDocument, orchestration_id: str
) -> Response:
    """Start an orchestration that has ended once more, with what it was started with; answers with the new one.

    Asked twice with the same id, or without one, it starts once.
    """
    order = _order(request, document)
    run = operations.rerun(orchestration_id, order, expected(request), new_id=document.id)
    return answers.entity(request, to_entity(run))


@http_function(*("POST", ACTIVITY + "/retry"), scope=PM_WRITE, requires=[OPERATIONS], body=OrderDocument, gives=_GIVES)
def retry_activity(
    request: Request, operations: Operations, document: OrderDocument, orchestration_id: str, activity_id: str
) -> Response:
    """Send an activity at once that waits for its next attempt, or let a failed orchestration go on with it."""
    order = _order(request, document)
    run = operations.retry_activity(orchestration_id, activity_id, order, expected(request))
    return answers.entity(request, to_entity(run))


@http_function(
    *("POST", ACTIVITY + "/resolve"),
    scope=PM_WRITE,
    requires=[OPERATIONS],
    body=ResolveDocument,
    gives=_GIVES,
    acts=True,
)
def resolve_activity(
    request: Request, operations: Operations, document: ResolveDocument, orchestration_id: str, activity_id: str
) -> Response:
    """Say that an activity has been done by hand, and what it records. A failed orchestration goes on once it is retried.

    Safe to repeat.
    """
    order = _order(request, document)
    resolution = Resolution(document.values, document.outputs)
    run = operations.resolve_activity(orchestration_id, activity_id, order, resolution, expected(request))
    return answers.entity(request, to_entity(run))


@http_function(
    *("POST", "/api/v1alpha1/orchestrations/erase"),
    scope=PM_WRITE,
    requires=[OPERATIONS],
    body=EraseDocument,
    gives={200: ErasedDocument},
)
def erase_orchestrations(request: Request, operations: Operations, document: EraseDocument) -> Response:
    """Forget what all orchestrations with a correlation id have held and told, such as those of a participant profile.

    That they were, and how they ended, stays; nothing can be done to them any more. Safe to repeat.
    """
    return answers.json_value({"erased": operations.erase(document.correlation_id, _order(request, document))})


def _order(request: Request, document: OrderDocument) -> Order:
    return document.to_order(subject_of(request), request_id_of(request))
