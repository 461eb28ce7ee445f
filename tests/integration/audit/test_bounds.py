"""How the database finds what belongs to somebody among much that does not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cfm_core.access.conditions import within
from cfm_core.access.model import Bound, Bounds
from cfm_core.audit.store import LISTING
from cfm_core.query import Page
from cfm_core.store import paging
from cfm_core.store.database import Database

BOTH = {"entry_of_tenant", "entry_of_participant_profile"}


@pytest.fixture
def crowd(database: Database) -> Database:
    """20,000 entries of 2,000 tenants and 5,000 participant profiles, and as many of nobody."""
    database.rows("""
        INSERT INTO audit.entry (id, at, manager, action, kind, entity_id, part, before, after, request_id, tenant_id,
                                 participant_profile_id)
        SELECT n, now(), 'tenant-manager', 'change', 'participant-profiles', 'e' || n, '', '', '', '',
               CASE WHEN n % 2 = 0 THEN 't' || n % 4000 END, CASE WHEN n % 2 = 0 THEN 'p' || n % 10000 END
          FROM generate_series(1, 40000) AS n""")
    database.rows("ANALYZE audit.entry")
    return database


@pytest.mark.parametrize(
    ("alternatives", "indexes"),
    [
        ([Bound("t100")], {"entry_of_tenant"}),
        ([Bound(participant_profile_id="p100")], {"entry_of_participant_profile"}),
        ([Bound("t100"), Bound("t102"), Bound(participant_profile_id="p100")], BOTH),
    ],
)
def test_bounds_are_answered_by_indexes(crowd: Database, alternatives: list[Bound], indexes: set[str]) -> None:
    condition, params = within(Bounds(tuple(alternatives)), "t.tenant_id", "t.participant_profile_id")
    sql, place = paging.statement(LISTING, Page(0, 50), condition)
    shown = "\n".join(line for (line,) in crowd.query(f"EXPLAIN {sql}", **params, **place))
    assert {one for one in BOTH if one in shown} == indexes, shown
    assert "Seq Scan on entry" not in shown, shown


@pytest.mark.parametrize(
    "page", [Page(0, 50), Page(0, 50, after="20000", counted=False), Page(30_000, 50, counted=False)]
)
def test_a_page_of_all_is_read_in_the_order_of_its_keys(crowd: Database, page: Page) -> None:
    crowd.rows("INSERT INTO audit.payload (entry_id) SELECT id FROM audit.entry")
    crowd.rows("ANALYZE audit.payload")
    sql, place = paging.statement(LISTING, replace(page, counted=False), paging.EVERYTHING)
    shown = "\n".join(line for (line,) in crowd.query(f"EXPLAIN {sql}", **place))
    assert "Seq Scan on entry" not in shown, shown
    assert "Seq Scan on payload" not in shown, shown
