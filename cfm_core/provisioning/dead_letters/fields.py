"""What a predicate may say of dead letters."""

from __future__ import annotations

from cfm_core.query import Column, Fields, Kind

FIELDS = Fields(
    {
        "id": Column("t.id", Kind.INTEGER),
        "version": Column("t.version", Kind.INTEGER),
        "at": Column("t.at", Kind.TIMESTAMP),
        "subject": Column("t.subject"),
        "target": Column("t.target"),
        "reason": Column("t.reason"),
        "deliveries": Column("t.deliveries", Kind.INTEGER),
        "replayedAt": Column("t.replayed_at", Kind.TIMESTAMP),
    }
)
