"""How Postgres answers queries for orchestrations when there are many, half of them archived: by an index wherever a predicate
is selective."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from cfm_core.provisioning.orchestrations.fields import FIELDS
from cfm_core.provisioning.orchestrations.store import LISTING
from cfm_core.query import Page, parse, to_sql
from cfm_core.store.database import Database
from cfm_core.store.paging import statement
from local.servers.postgres import EmbeddedPostgres
from tests.contract.provisioning.world import DIAMOND, PostgresWorld, define, shared_database

RUNS = 40_000
KEYS = {"orchestration_pkey", "archived_orchestration_pkey"}


@pytest.fixture(scope="module")
def full(postgres: EmbeddedPostgres, template: str) -> Iterator[Database]:
    """Runs of two types and a rare one, completed but for a few."""
    with shared_database(postgres, template, "provisioning_plans") as database:
        define(PostgresWorld(database), one=DIAMOND)
        database.rows(
            "INSERT INTO provision_manager.orchestration"
            "  (id, def_id, type, correlation_id, remaining, state, state_at, created_at)"
            " SELECT gen_random_uuid(), d.id, CASE WHEN n % 4000 = 0 THEN 'rare' ELSE 'type ' || n % 2 END, 'c' || n,"
            "        0, CASE WHEN n % 4000 = 1 THEN 'RUNNING' WHEN n % 2000 = 2 THEN 'ERRORED' ELSE 'COMPLETED' END,"
            "        now(), now() - make_interval(mins => :runs - n)"
            "   FROM provision_manager.definition d, generate_series(1, :runs::integer) n",
            runs=RUNS,
        )
        database.rows(
            "SELECT provision_manager.move_runs(ARRAY("
            "  SELECT id FROM provision_manager.orchestration ORDER BY created_at LIMIT :runs::integer / 2), '', 'archived_')",
            runs=RUNS,
        )
        database.rows("ANALYZE provision_manager.orchestration")
        database.rows("ANALYZE provision_manager.archived_orchestration")
        database.rows("SELECT brin_summarize_new_values('provision_manager.orchestration_created')")
        yield database


def indexes_of(node: dict[str, Any]) -> set[str]:
    """The indexes that a plan reads; a sequential scan counts as the name of its table, with a star."""
    own = {node["Index Name"]} if "Index Name" in node else set()
    own |= {node["Relation Name"] + "*"} if node["Node Type"] == "Seq Scan" else set()
    return own.union(*map(indexes_of, node.get("Plans", ())))


def plan_of(database: Database, predicate: str, page: Page) -> set[str]:
    condition, params = to_sql(parse(predicate), FIELDS)
    sql, place = statement(LISTING, page, condition)
    ((plan,),) = database.query(f"EXPLAIN (FORMAT JSON) {sql}", **params, **place)
    (root,) = json.loads(plan) if isinstance(plan, str) else plan
    return indexes_of(root["Plan"])


@pytest.mark.parametrize(
    ("predicate", "index"),
    [
        ("state = 1", "orchestration_state"),
        ("state = 3", "orchestration_state"),
        ("correlationId = 'c77'", "orchestration_correlation"),
        ("orchestrationType = 'rare'", "orchestration_type"),
        ("definitionId = 'rare'", "orchestration_type"),
        ("id = 'nope'", "orchestration_pkey"),
        ("orchestrationType = 'type 1' AND state = 1", "orchestration_state"),
        ("state = 2 AND correlationId = 'c77'", "orchestration_correlation"),
    ],
)
@pytest.mark.parametrize("page", [Page(), Page(limit=10), Page(after="4"), Page(counted=False)], ids=str)
def test_a_selective_query_reads_the_index_of_its_field(full: Database, predicate: str, index: str, page: Page) -> None:
    found = plan_of(full, predicate, page)
    assert found <= {index, f"archived_{index}", *KEYS}
    assert found >= {index, f"archived_{index}"}


def test_the_next_page_of_everything_is_entered_at_its_key(full: Database) -> None:
    assert plan_of(full, "true", Page(limit=100, after="8", counted=False)) == KEYS
