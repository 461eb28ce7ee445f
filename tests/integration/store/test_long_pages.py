"""A long page is held once, whatever is written in it, and let go of afterwards."""

from __future__ import annotations

import json
import tracemalloc

from cfm_core.query import Page
from cfm_core.store import paging
from cfm_core.store.database import Database
from cfm_core.tenancy.tenants import store as tenants


def test_a_long_page_takes_its_own_size_and_leaves_nothing_behind(database: Database) -> None:
    database.rows(
        """INSERT INTO tenant_manager.tenants (id, properties)
           SELECT gen_random_uuid(), jsonb_build_object('text', repeat('x', 1000), 'sign', chr(128512))
             FROM generate_series(1, 5000)"""
    )
    paging.select(database, tenants.LISTING, Page(0, 1), paging.EVERYTHING, {})
    tracemalloc.start()
    try:
        found = paging.select(database, tenants.LISTING, Page(), paging.EVERYTHING, {})
        size = len(found.json)
        held, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert json.loads(found.json)[0]["properties"]["sign"] == "\N{GRINNING FACE}"
    assert size > 5_000_000
    assert most < 2.5 * size
    assert held < 1.1 * size
