"""Waiting for the feed of events."""

from __future__ import annotations

import time

from cfm_core.store.database import Database


def settle(database: Database, seconds: float = 20) -> None:
    """Wait until readers get everything that has been committed so far: whatever else the server does delays them."""
    deadline = time.monotonic() + seconds
    begun = database.value("SELECT pg_snapshot_xmax(pg_current_snapshot())::text")
    while not database.value("SELECT pg_snapshot_xmin(pg_current_snapshot()) >= :begun::xid8", begun=begun):
        assert time.monotonic() < deadline, "a transaction does not end"
