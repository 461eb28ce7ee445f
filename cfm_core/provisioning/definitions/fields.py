"""What a predicate may say of definitions. Their rows hold the document that the API shows.

Source: CFM wire contract, sections 5.6 and 5.8.
"""

from __future__ import annotations

from cfm_core.query import Column, Fields, Json, JsonArray, Kind

ACTIVITY_DEFINITION = Fields(
    {
        "type": Column("t.type"),
        "version": Column("t.version", Kind.INTEGER),
        "description": Column("coalesce(t.document->>'description', '')"),
        "inputSchema": Json("coalesce(t.document->'inputSchema', '{}')::jsonb"),
        "outputSchema": Json("coalesce(t.document->'outputSchema', '{}')::jsonb"),
        "timeout": Column("(t.document->>'timeout')"),
        "timeouts": Json("coalesce(t.document->'timeouts', '{}')::jsonb"),
        "retry": Json("coalesce(t.document->'retry', '{}')::jsonb"),
        "limits": Json("coalesce(t.document->'limits', '{}')::jsonb"),
    }
)

ORCHESTRATION_DEFINITION = Fields(
    {
        "type": Column("t.type"),
        "version": Column("t.version", Kind.INTEGER),
        "templateRef": Column("t.template_ref"),
        "active": Column("t.is_active", Kind.BOOLEAN),
        "description": Column("coalesce(t.document->>'description', '')"),
        "schema": Json("coalesce(t.document->'schema', '{}')::jsonb"),
        "compensation": Column("coalesce(t.document->>'compensation', 'auto')"),
        "activities": JsonArray("(t.document->'activities'->t.type)::jsonb"),
    }
)
