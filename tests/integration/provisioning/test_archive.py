"""Archiving in Postgres: in batches, beside everybody else, and after a crash."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from cfm_core.contracts.activity import OutcomeKind
from cfm_core.contracts.orchestration import DEPLOY
from cfm_core.errors import ClientError, NotFoundError
from cfm_core.provisioning.definitions.model import Activity, ForEach
from cfm_core.provisioning.operations.model import Order, Resolution
from cfm_core.provisioning.operations.service import Operations
from cfm_core.provisioning.operations.store import PostgresOperations
from cfm_core.provisioning.orchestrations import store
from cfm_core.provisioning.orchestrations.store import PostgresArchive, PostgresOrchestrations
from cfm_core.query import Everything, Page
from cfm_core.store.database import Database
from local.chaos.invariants import broken
from tests.contract.provisioning.world import DIAMOND, Driver, PostgresWorld, define, manifest, responses
from tests.integration.provisioning.test_concurrency import THREADS, at_once, wait_until_somebody_waits

ORDER = Order(actor="ann", reason="because", request_id="r")
TABLES = ("orchestration", "orchestration_data", "activity", "activity_output")
WEEK = timedelta(days=7)


@pytest.fixture
def pool(emptied_url: str) -> Iterator[Database]:
    database = Database(emptied_url, size=THREADS)
    yield database
    database.close()


def complete(driver: Driver, *ids: str) -> None:
    driver.start(*(manifest(id_, "one", given=1) for id_ in ids))
    driver.record(*(driver.outcome(id_, "a", values={"a": 1}, outputs={"b": 2}) for id_ in ids))


def age(database: Database, *ids: str, by: timedelta = timedelta(days=8)) -> None:
    for table in ("orchestration", "archived_orchestration"):
        database.rows(
            f"UPDATE provision_manager.{table} SET state_at = state_at - :by::interval WHERE id = ANY (:ids)",  # noqa: S608
            ids=list(ids),
            by=by,
        )


def rows(database: Database, prefix: str = "") -> dict[str, list[Any]]:
    """All rows of the hot tables, or of the archive."""
    return {
        table: database.rows(f"SELECT to_jsonb(t) FROM provision_manager.{prefix}{table} t ORDER BY 1")  # noqa: S608
        for table in TABLES
    }


def archived(database: Database) -> list[str]:
    found = database.rows("SELECT id FROM provision_manager.archived_orchestration ORDER BY id")
    return [id_ for (id_,) in found]


def test_a_run_is_archived_a_while_after_its_end_and_leaves_nothing_behind(
    world: PostgresWorld, driver: Driver
) -> None:
    define(world, one=[Activity("a", "t")])
    complete(driver, "new", "old")
    age(world.database, "old")
    before = rows(world.database)
    archive = PostgresArchive(world.database, WEEK, None)
    assert archive.tidy() == 1
    assert archived(world.database) == ["old"]
    assert all(len(found) == 1 for found in rows(world.database).values())
    assert archive.tidy() == 0
    world.database.rows("SELECT provision_manager.hold_runs(ARRAY['old'])")
    assert rows(world.database) == before, "every column of every table"
    assert not any(rows(world.database, "archived_").values())


@pytest.mark.parametrize("change", ["remaining = 1", "resend_at = now() + interval '1 day'", "state = 'COMPENSATING'"])
def test_a_run_of_which_something_is_to_come_stays(world: PostgresWorld, driver: Driver, change: str) -> None:
    define(world, one=[Activity("a", "t")])
    complete(driver, "o")
    age(world.database, "o")
    world.database.rows(f"UPDATE provision_manager.orchestration SET {change}")  # noqa: S608
    assert PostgresArchive(world.database, WEEK, None).tidy() == 0


def test_a_run_and_its_compensation_go_together(world: PostgresWorld, driver: Driver) -> None:
    define(world, deploy=[Activity("a", "t")], dispose=[Activity("u", "t")])
    driver.start(manifest("o", DEPLOY))
    driver.record(driver.outcome("o", "a", OutcomeKind.FATAL))
    driver.start(manifest("o.compensate", "cfm.orchestration.vpa.dispose"))
    driver.complete("o.compensate", "u")
    archive = PostgresArchive(world.database, WEEK, None)
    age(world.database, "o")
    assert archive.tidy() == 0
    age(world.database, "o", "o.compensate")
    # However small the batch is.
    assert world.database.value("SELECT provision_manager.archive_runs('7 days', 1)") == 2
    assert archived(world.database) == ["o", "o.compensate"]
    with world.operations._store.held("o.compensate"):
        assert archived(world.database) == []


def test_batches_are_bounded_and_go_on_where_a_crash_has_ended_them(
    world: PostgresWorld, driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    define(world, one=[Activity("a", "t")])
    ids = [f"o{n:02}" for n in range(12)]
    complete(driver, *ids)
    age(world.database, *ids)
    before = [world.orchestrations.get(id_) for id_ in ids]

    class Crash(Exception):
        pass

    with pytest.raises(Crash), world.database.transaction() as tx:
        assert tx.value("SELECT provision_manager.archive_runs('7 days', 5)") == 5
        raise Crash
    assert archived(world.database) == []
    assert world.database.value("SELECT provision_manager.archive_runs('7 days', 5)") == 5
    assert [world.orchestrations.get(id_) for id_ in ids] == before
    monkeypatch.setattr(store, "BATCH", 3)
    monkeypatch.setattr(store, "MOST_BATCHES", 2)
    archive = PostgresArchive(world.database, WEEK, None)
    assert [archive.tidy(), archive.tidy(), archive.tidy()] == [6, 1, 0]
    assert [world.orchestrations.get(id_) for id_ in ids] == before


def test_two_at_once_share_the_work_and_wait_for_nobody(world: PostgresWorld, driver: Driver, pool: Database) -> None:
    define(world, one=[Activity("a", "t")])
    ids = [f"o{n:03}" for n in range(100)]
    complete(driver, *ids)
    age(world.database, *ids)
    with world.database.transaction() as tx:
        tx.rows("SELECT FROM provision_manager.orchestration WHERE id = 'o007' FOR UPDATE")
        step = "SELECT provision_manager.archive_runs('7 days', 20)"
        assert sum(at_once(lambda _: sum(pool.value(step) for _ in range(6)))) == 99
    assert pool.value(step) == 1
    assert archived(world.database) == ids


def test_a_reader_sees_a_run_once_while_it_is_moved_to_and_fro(
    world: PostgresWorld, driver: Driver, pool: Database
) -> None:
    define(world, one=[Activity("a", "t")])
    ids = [f"o{n}" for n in range(5)]
    complete(driver, *ids)
    before = [world.orchestrations.get(id_) for id_ in ids]
    reader = PostgresOrchestrations(pool)

    def work(number: int) -> None:
        for _ in range(40):
            match number % 3:
                case 0:
                    pool.rows("SELECT provision_manager.archive_runs('-1 s', 3)")
                case 1:
                    pool.rows("SELECT provision_manager.hold_runs(:ids)", ids=ids[:3])
                case _:
                    assert [reader.get(id_) for id_ in ids] == before
                    page = reader.select(Everything(), Page())
                    assert ([one["id"] for one in json.loads(page.json)], page.total) == (ids, 5)
                    assert all(len(reader.history(id_)) == 1 for id_ in ids)

    at_once(work)


def test_a_known_id_starts_nothing_while_it_is_moved_to_and_fro(
    world: PostgresWorld, driver: Driver, pool: Database
) -> None:
    define(world, one=[Activity("a", "t")])
    ids = [f"o{n}" for n in range(5)]
    complete(driver, *ids)
    engine = PostgresWorld(pool).engine

    def work(number: int) -> None:
        for _ in range(40):
            if number % 2:
                pool.rows("SELECT provision_manager.archive_runs('-1 s', 3)")
            else:
                told = engine.start([manifest(id_, "one") for id_ in ids[number % 3 :]])
                assert {row.subject for row in told.outbox} == {"event.cfm-orchestration-response"}
                assert len(responses(told.outbox)) == len(ids[number % 3 :])

    at_once(work)
    assert {len(world.history(id_)) for id_ in ids} == {1}


def test_an_order_that_comes_while_the_run_is_being_archived_has_its_effect(
    world: PostgresWorld, driver: Driver, pool: Database
) -> None:
    define(world, one=DIAMOND)
    driver.start(manifest("o", "one"))
    driver.record(driver.outcome("o", "a", OutcomeKind.FATAL))
    operations = Operations(PostgresOperations(pool))
    with world.database.transaction() as tx, ThreadPoolExecutor(1) as thread:
        assert tx.value("SELECT provision_manager.archive_runs('-1 s', 10)") == 1
        order = thread.submit(operations.retry, "o", ORDER)
        wait_until_somebody_waits(tx)
        tx.simple("COMMIT; BEGIN")
        assert order.result().state == "RUNNING"
    assert archived(world.database) == []
    driver.hear()
    assert world.nodes("o")["a"].state == "DISPATCHED"
    assert broken(world.database) == {}


def test_runs_that_are_being_archived_are_erased(world: PostgresWorld, driver: Driver, pool: Database) -> None:
    define(world, one=[Activity("a", "t")])
    complete(driver, "o")
    operations = Operations(PostgresOperations(pool))
    with world.database.transaction() as tx, ThreadPoolExecutor(1) as thread:
        assert tx.value("SELECT provision_manager.archive_runs('-1 s', 10)") == 1
        order = thread.submit(operations.erase, "of o", ORDER)
        wait_until_somebody_waits(tx)
        tx.simple("COMMIT; BEGIN")
        assert order.result() == 1
    assert world.orchestrations.get("o").erased


def test_orders_to_archived_runs_and_archiving_do_not_disturb_each_other(
    world: PostgresWorld, driver: Driver, pool: Database
) -> None:
    define(world, deploy=[Activity("a", "t")], dispose=[Activity("u", "t")])
    for id_ in ("o0", "o1"):
        driver.start(manifest(id_, DEPLOY))
        driver.record(driver.outcome(id_, "a", OutcomeKind.FATAL))
        driver.start(manifest(f"{id_}.compensate", "cfm.orchestration.vpa.dispose"))
        driver.record(driver.outcome(f"{id_}.compensate", "u", OutcomeKind.FATAL))
    operations, engine = Operations(PostgresOperations(pool)), PostgresWorld(pool).engine

    def work(number: int) -> None:
        id_ = f"o{number % 2}"
        for _ in range(15):
            pool.rows("SELECT provision_manager.archive_runs('-1 s', 1)")
            engine.start([manifest(f"{id_}.compensate", "cfm.orchestration.vpa.dispose"), manifest(id_, DEPLOY)])
            operations.rerun(id_, ORDER)

    at_once(work)
    assert broken(world.database) == {}


def test_archived_runs_are_forgotten_after_a_longer_while(world: PostgresWorld, driver: Driver) -> None:
    define(world, one=[Activity("a", "t")])
    complete(driver, "kept", "old")
    age(world.database, "kept", "old")
    archive = PostgresArchive(world.database, WEEK, timedelta(days=30))
    assert archive.tidy() == 2
    age(world.database, "old", by=timedelta(days=30))
    assert archive.tidy() == 1
    assert archived(world.database) == ["kept"]
    assert all(len(found) == 1 for found in rows(world.database, "archived_").values())
    with pytest.raises(NotFoundError):
        world.orchestrations.get("old")


def test_a_run_is_not_forgotten_before_what_has_undone_it(world: PostgresWorld, driver: Driver) -> None:
    define(world, one=[Activity("a", "t")])
    complete(driver, "o", "o.compensate")
    age(world.database, "o", "o.compensate")
    archive = PostgresArchive(world.database, WEEK, timedelta(days=30))
    assert archive.tidy() == 2
    age(world.database, "o", by=timedelta(days=30))
    assert archive.tidy() == 0
    age(world.database, "o.compensate", by=timedelta(days=30))
    assert archive.tidy() == 2


def test_orders_to_families_steps_and_archiving_leave_nothing_broken(
    world: PostgresWorld, driver: Driver, pool: Database
) -> None:
    each = Activity("e", "t", for_each=ForEach("list"), compensation="t")
    define(world, one=[each, Activity("z", "t", ("e",))])
    ids = ["o0", "o1"]
    for id_ in ids:
        driver.start(manifest(id_, "one", list=["x", "y"]))
        driver.complete(f"{id_}.e.0", "e")
        driver.complete(f"{id_}.e.1", "e")
        driver.record(driver.outcome(id_, "z", OutcomeKind.FATAL))
        driver.hear()
    shared = PostgresWorld(pool)
    orders = [
        lambda id_: shared.operations.retry(id_, ORDER),
        lambda id_: shared.operations.cancel(id_, ORDER, compensate=False),
        lambda id_: shared.operations.compensate(id_, ORDER),
        lambda id_: shared.operations.rerun(f"{id_}.e.0", ORDER),
        lambda id_: shared.operations.resolve_activity(id_, "z", ORDER, Resolution({"by": "hand"})),
    ]

    def work(number: int) -> None:
        own = Driver(shared)
        for n in range(25):
            id_ = ids[(n + number) % 2]
            pool.rows("SELECT provision_manager.archive_runs('-1 s', 1)")
            with contextlib.suppress(ClientError):
                orders[(n * 5 + number) % len(orders)](id_)
            own.start(manifest(id_, "one", list=[]), manifest(f"{id_}.e.1", "one"))
            assert shared.orchestrations.get(id_).graph[0].children == (2, 2)

    at_once(work)
    assert broken(world.database) == {}
    for id_ in ids:
        with world.operations._store.held(id_):
            assert not [one for one in archived(world.database) if one.startswith(id_)], "all come back together"
