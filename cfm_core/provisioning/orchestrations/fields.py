"""What a predicate may say of orchestrations.

Source: CFM wire contract, section 10.2.
"""

from __future__ import annotations

from cfm_core.query import Column, Fields, Kind

FIELDS = Fields(
    {
        "id": Column("o.id"),
        "version": Column("o.version", Kind.INTEGER),
        "correlationId": Column("o.correlation_id"),
        "definitionId": Column("o.type"),
        "orchestrationType": Column("o.type"),
        "state": Column("CASE o.state WHEN 'RUNNING' THEN 1 WHEN 'COMPLETED' THEN 2 ELSE 3 END", Kind.INTEGER),
        "stateTimestamp": Column("o.state_at", Kind.TIMESTAMP),
        "createdTimestamp": Column("o.created_at", Kind.TIMESTAMP),
    }
)
