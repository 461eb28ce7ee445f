"""How Postgres answers queries for orchestrations when there are many, half of them archived: by an index wherever a predicate
is selective. And what the steps of the engine read."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest

from cfm_core.provisioning.engine.store import SQL, manifest_row, outcome_row
from cfm_core.provisioning.orchestrations.fields import FIELDS
from cfm_core.provisioning.orchestrations.store import LISTING
from cfm_core.query import Page, parse, to_sql
from cfm_core.store.database import Database
from cfm_core.store.outbox import LEASE
from cfm_core.store.paging import statement
from local.servers.postgres import EmbeddedPostgres
from tests.contract.provisioning.world import DIAMOND, Driver, PostgresWorld, define, manifest, shared_database

RUNS = 40_000

_READ = """
SELECT sum(idx_tup_fetch + seq_tup_read)::integer FROM pg_stat_xact_user_tables WHERE schemaname = 'provision_manager'
"""
"""How many rows this connection has read."""
KEYS = {"orchestration_pkey", "archived_orchestration_pkey"}
DELAYED = {"delayed_start_pkey", "delayed_start*"}
"""Of what is to start there is little, which may be read as a whole."""


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
        database.rows(
            "INSERT INTO provision_manager.delayed_start"
            "  (id, type, template_ref, correlation_id, tenant_id, payload, start_at)"
            " SELECT gen_random_uuid(), 'rare', '', 'c' || n, '', '{}', now() FROM generate_series(1, 500) n"
        )
        database.rows("ANALYZE provision_manager.delayed_start")
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
    assert found <= {index, f"archived_{index}", *KEYS, *DELAYED}
    assert found >= {index, f"archived_{index}"}


def test_the_next_page_of_everything_is_entered_at_its_key(full: Database) -> None:
    assert plan_of(full, "true", Page(limit=100, after="8", counted=False)) == {*KEYS, "delayed_start_pkey"}


def test_a_step_looks_up_what_it_needs_also_if_its_plan_was_made_while_there_was_nothing(
    postgres: EmbeddedPostgres, template: str
) -> None:
    with shared_database(postgres, template, "provisioning_steps"), contextlib.ExitStack() as closing:
        # One connection, which keeps its plans.
        database = Database(postgres.url("provisioning_steps"), size=1)
        closing.callback(database.close)
        world = PostgresWorld(database)
        driver = Driver(world)
        define(world, one=DIAMOND)
        driver.start(manifest("first", "one"))
        driver.complete("first", "a")
        world.let_time_pass()
        driver.sweep()
        driver.start(*(manifest(f"o{n}", "one") for n in range(1000)))
        steps: dict[str, dict[str, Any]] = {
            SQL["start"]: {
                "manifests": json.dumps([manifest_row(manifest("last", "one"))]),
                "answers": True,
            },
            SQL["record"]: {"outcomes": json.dumps([outcome_row(driver.outcome("o7", "a", values={"v": 1}))])},
            SQL["sweep"]: {"most": 1000, "among": None},
        }
        database.rows(
            "UPDATE provision_manager.activity SET due_at = now() WHERE orch_id = 'o8' AND due_at IS NOT NULL"
        )
        for statement_of_step, params in steps.items():
            with database.transaction() as tx:
                before = tx.value(_READ)
                tx.rows(statement_of_step, lease=LEASE, **params)
                assert 0 < tx.value(_READ) - before < 200, statement_of_step
