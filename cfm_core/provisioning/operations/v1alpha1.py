"""What operators order and have done, as JSON of API version v1alpha1.

Source: interface decisions, "Actions".
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from cfm_core.contracts.documents import Document
from cfm_core.provisioning.engine.model import LONGEST_ID
from cfm_core.provisioning.operations.model import Order

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
