"""Notes of what operators do, written in the transaction that does it."""

from __future__ import annotations

from cfm_core.audit import store as audit
from cfm_core.audit.model import Subject
from cfm_core.audit.store import Document
from cfm_core.masking import masked_text
from cfm_core.provisioning.operations.model import Order
from cfm_core.provisioning.orchestrations.actions import Action
from cfm_core.store.database import Database, Transaction


def note(
    where: Database | Transaction,
    subject: Subject,
    action: Action,
    order: Order,
    before: str,
    after: str,
    documents: tuple[Document | None, Document | None] = (None, None),
) -> None:
    """Note what was done, to what, and from which state to which; ``documents`` tell what states do not."""
    audit.note(
        *(where, subject, action, before, after),
        actor=order.actor,
        reason=masked_text(order.reason),
        request_id=order.request_id,
        documents=documents,
    )
