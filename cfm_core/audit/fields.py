"""What a predicate may say of entries of the audit trail."""

from __future__ import annotations

from cfm_core.query import Column, Fields, Json, Kind


def _of(kind: str, column: str) -> Column:
    return Column(f"CASE t.kind WHEN '{kind}' THEN t.{column} ELSE '' END")


FIELDS = Fields(
    {
        "id": Column("t.id", Kind.INTEGER),
        "at": Column("t.at", Kind.TIMESTAMP),
        "manager": Column("t.manager"),
        "actor": Column("t.actor"),
        "issuer": Column("t.issuer"),
        "address": Column("t.address"),
        "action": Column("t.action"),
        "kind": Column("t.kind"),
        "entityId": Column("t.entity_id"),
        "orchestrationId": Column("t.orchestration_id"),
        "activityId": _of("orchestrations", "part"),
        "activityType": _of("activity-types", "entity_id"),
        "scheduleId": _of("schedules", "entity_id"),
        "deadLetterId": _of("dead-letters", "entity_id"),
        "part": Column("t.part"),
        "reason": Column("t.reason"),
        "before": Column("t.before"),
        "after": Column("t.after"),
        "documentBefore": Json("t.document_before"),
        "documentAfter": Json("t.document_after"),
        "requestId": Column("t.request_id"),
        "seal": Column("t.seal", Kind.INTEGER),
    }
)
