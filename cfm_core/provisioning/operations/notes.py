"""Notes of what operators do, written in the transaction that does it."""

from __future__ import annotations

from cfm_core.provisioning.operations.model import WHOLE, Order
from cfm_core.provisioning.orchestrations.actions import Action
from cfm_core.store.database import Database, Transaction
from cfm_core.store.sql import Queries

SQL = Queries("cfm_core.provisioning.operations")


def note(
    where: Database | Transaction,
    order: Order,
    action: Action,
    before: str,
    after: str,
    *,
    orchestration_id: str = "",
    activity_id: str = WHOLE,
    activity_type: str = "",
    schedule_id: str = "",
    dead_letter_id: str = "",
) -> None:
    """Note what was done, to what, and from which state to which."""
    where.rows(
        SQL["note"],
        actor=order.actor,
        action=action,
        orch_id=orchestration_id,
        activity_id=activity_id,
        activity_type=activity_type,
        schedule_id=schedule_id,
        dead_letter_id=dead_letter_id,
        reason=order.reason,
        before=before,
        after=after,
        request_id=order.request_id,
    )
