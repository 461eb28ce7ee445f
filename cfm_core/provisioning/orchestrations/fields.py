"""What a predicate may say of orchestrations.

Source: CFM wire contract, section 10.2.
"""

from __future__ import annotations

from cfm_core.query import Column, Fields, Kind

FIELDS = Fields(
    {
        "id": Column("t.id"),
        "version": Column("t.version", Kind.INTEGER),
        "correlationId": Column("t.correlation_id"),
        "definitionId": Column("t.type"),
        "orchestrationType": Column("t.type"),
        "state": Column("t.state_number", Kind.INTEGER),
        "stateTimestamp": Column("t.state_at", Kind.TIMESTAMP),
        "createdTimestamp": Column("t.created_at", Kind.TIMESTAMP),
        "parentId": Column("coalesce(t.parent, '')"),
        "tenantId": Column("t.tenant_id"),
    }
)
