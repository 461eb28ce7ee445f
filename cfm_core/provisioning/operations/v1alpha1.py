"""What operators order and have done, as JSON of API version v1alpha1.

Source: interface decisions, "Actions".
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from cfm_core.contracts.documents import Document
from cfm_core.provisioning.engine.model import LONGEST_ID
from cfm_core.provisioning.operations.model import Operation, Order
from cfm_core.provisioning.orchestrations.v1alpha1 import Instant, instant

LONGEST_REASON = 1000


class OrderDocument(Document):
    """Why an operator does something."""

    reason: str = Field(min_length=1, max_length=LONGEST_REASON)

    def to_order(self, actor: str, request_id: str) -> Order:
        return Order(actor=actor, reason=self.reason, request_id=request_id)


class CancelDocument(OrderDocument):
    """``compensate`` says whether the run is undone afterwards, where its template says how."""

    compensate: bool = True


class RetryDocument(OrderDocument):
    """``activities`` are the ids of those to retry, with their dependents; none stands for all that were not done."""

    activities: list[str] = Field(default_factory=list)


class CompensateDocument(OrderDocument):
    """``force`` undoes also a run that has completed, or that has changed a live participant."""

    force: bool = False


class RerunDocument(OrderDocument):
    """``id`` is that of the new run; without one it is the old one's with ``.again``."""

    id: str = Field(default="", max_length=LONGEST_ID)


class ResolveDocument(OrderDocument):
    """What the activity records: ``values`` for the processing data, and ``outputs``."""

    values: dict[str, Any] = Field(default_factory=dict)
    outputs: dict[str, Any] = Field(default_factory=dict)


class EraseDocument(OrderDocument):
    """``correlationId`` is that of the runs, such as a participant profile's id."""

    correlation_id: str = Field(min_length=1)


class ErasedDocument(Document):
    """How many runs there were."""

    erased: int


class OperationDocument(Document):
    """What an operator has done to an orchestration, to one of its activities, an activity type, a schedule, or a dead letter."""

    id: int
    at: Instant
    actor: str
    action: str
    orchestration_id: str = ""
    activity_id: str = ""
    activity_type: str = ""
    schedule_id: str = ""
    dead_letter_id: str = ""
    reason: str = ""
    """Left out where nobody is asked for one."""
    before: str
    """Its state."""
    after: str
    request_id: str


def operation_to_json(operation: Operation) -> dict[str, Any]:
    """The database's ``operation_json`` gives the same."""
    document = {
        "id": operation.id,
        "at": instant(operation.at),
        "actor": operation.order.actor,
        "action": operation.action,
        "orchestrationId": operation.orchestration_id or None,
        "activityId": operation.activity_id or None,
        "activityType": operation.activity_type or None,
        "scheduleId": operation.schedule_id or None,
        "deadLetterId": operation.dead_letter_id or None,
        "reason": operation.order.reason or None,
        "before": operation.before,
        "after": operation.after,
        "requestId": operation.order.request_id,
    }
    return {name: value for name, value in document.items() if value is not None}
