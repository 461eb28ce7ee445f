"""The audit trail as only the owner of a database can treat it."""

from __future__ import annotations

from cfm_core.store.database import Database

TABLES = ("audit.entry", "audit.payload", "audit.waiting", "audit.seal", "audit.sealed")


def tamper(database: Database, *statements: str) -> None:
    """Run statements past the triggers that keep the trail."""
    with database.transaction() as tx:
        tx.simple("SET LOCAL session_replication_role = replica")
        for statement in statements:
            tx.rows(statement)


def empty_audit(database: Database) -> None:
    """Delete the trail."""
    tamper(database, *(f"DELETE FROM {table}" for table in TABLES))  # noqa: S608
