"""The audit trail as JSON of API version v1alpha1."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from cfm_core.audit.model import Entry, Kind
from cfm_core.contracts.documents import Document
from cfm_core.contracts.instants import Instant, instant

LONGEST_REASON = 1000


class AuditEntryDocument(Document):
    """A change, and who has asked for it. What was done to an orchestration, an activity type, a schedule or a dead letter names
    it once more in a field of its own."""

    id: int
    at: Instant
    manager: str
    actor: str = ""
    """The subject of the token; left out once it is erased."""
    issuer: str = ""
    """Of the token."""
    address: str = ""
    """From which the request came."""
    action: str
    kind: str
    """Of what it was done to, as in the path of the API."""
    entity_id: str = ""
    part: str = ""
    """Of the entity, such as an activity of an orchestration."""
    orchestration_id: str = ""
    activity_id: str = ""
    activity_type: str = ""
    schedule_id: str = ""
    dead_letter_id: str = ""
    reason: str = ""
    """Left out where none was given, or it is erased."""
    before: str
    """Its state, or its version."""
    after: str
    document_before: dict[str, Any] | None = None
    """The entity as the API shows it, secrets masked; left out where there was none, where states say it all, or it is erased."""
    document_after: dict[str, Any] | None = None
    request_id: str = ""
    actor_erased_by: int | None = None
    """The entry that tells of it."""
    content_erased_by: int | None = None
    seal: int | None = None
    """The number of the seal; left out for a moment."""


class AuditErasureDocument(Document):
    """What is to be emptied, and why: reasons and documents of an entity, ``kind/id``, or who an actor is."""

    subject: str = ""
    actor: str = ""
    issuer: str = ""
    """Whose tokens call the actor so; any issuer's if not given."""
    reason: str = Field(min_length=1, max_length=LONGEST_REASON)

    @model_validator(mode="after")
    def _names_one(self) -> AuditErasureDocument:
        if bool(self.subject) == bool(self.actor):
            raise ValueError("name either a subject or an actor")
        if self.issuer and not self.actor:
            raise ValueError("name an issuer only with an actor")
        return self


class AuditErasedDocument(Document):
    """How many entries had something to empty."""

    erased: int


def entry_to_json(entry: Entry) -> dict[str, Any]:
    """The database's ``audit.entry_json`` gives the same, but for seals: in memory nothing is sealed."""
    kind, entity_id, part = entry.subject.kind, entry.subject.entity_id, entry.subject.part
    document = {
        "id": entry.id,
        "at": instant(entry.at),
        "manager": kind.manager,
        "actor": entry.actor or None,
        "issuer": entry.issuer or None,
        "address": entry.address or None,
        "action": entry.action,
        "kind": kind,
        "entityId": entity_id or None,
        "part": part or None,
        "orchestrationId": (entity_id or None) if kind is Kind.ORCHESTRATIONS else None,
        "activityId": (part or None) if kind is Kind.ORCHESTRATIONS else None,
        "activityType": entity_id if kind is Kind.ACTIVITY_TYPES else None,
        "scheduleId": entity_id if kind is Kind.SCHEDULES else None,
        "deadLetterId": entity_id if kind is Kind.DEAD_LETTERS else None,
        "reason": entry.reason or None,
        "before": entry.before,
        "after": entry.after,
        "documentBefore": entry.document_before,
        "documentAfter": entry.document_after,
        "requestId": entry.request_id or None,
        "actorErasedBy": entry.actor_erased_by,
        "contentErasedBy": entry.content_erased_by,
    }
    return {name: value for name, value in document.items() if value is not None}
