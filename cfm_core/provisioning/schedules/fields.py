"""What a predicate may say of schedules; not of their payloads, whose secrets it could guess at although they are masked."""

from __future__ import annotations

from cfm_core.query import Column, Fields, Kind

FIELDS = Fields(
    {
        "id": Column("t.id"),
        "version": Column("t.version", Kind.INTEGER),
        "cron": Column("t.cron"),
        "timeZone": Column("t.time_zone"),
        "overlap": Column("t.overlap"),
        "orchestrationType": Column("t.type"),
        "templateRef": Column("t.template_ref"),
        "correlationId": Column("t.correlation_id"),
        "paused": Column("t.paused", Kind.BOOLEAN),
        "createdTimestamp": Column("t.created_at", Kind.TIMESTAMP),
        "nextAt": Column("t.next_at", Kind.TIMESTAMP),
        "lastAt": Column("t.last_at", Kind.TIMESTAMP),
        "lastManifestId": Column("t.last_manifest_id"),
        "skippedAt": Column("t.skipped_at", Kind.TIMESTAMP),
        "lastError": Column("t.last_error"),
    }
)
