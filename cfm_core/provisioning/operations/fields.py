"""What a predicate may say of operations."""

from __future__ import annotations

from cfm_core.query import Column, Fields, Kind

FIELDS = Fields(
    {
        "id": Column("t.id", Kind.INTEGER),
        "at": Column("t.at", Kind.TIMESTAMP),
        "actor": Column("t.actor"),
        "action": Column("t.action"),
        "orchestrationId": Column("t.orch_id"),
        "activityId": Column("t.activity_id"),
        "activityType": Column("t.activity_type"),
        "scheduleId": Column("t.schedule_id"),
        "deadLetterId": Column("t.dead_letter"),
        "reason": Column("t.reason"),
        "before": Column("t.before"),
        "after": Column("t.after"),
        "requestId": Column("t.request_id"),
    }
)
