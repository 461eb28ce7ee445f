from __future__ import annotations

from datetime import timedelta

from cfm_core.provisioning.definitions.model import Activity
from cfm_core.provisioning.orchestrations.store import PostgresHistory
from cfm_core.store.database import Database
from tests.contract.provisioning.world import Driver, PostgresWorld, define, manifest

_PARTITIONS = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'provision_manager.history'::regclass"


def told(database: Database, days_ago: int) -> None:
    database.rows(
        "INSERT INTO provision_manager.history (at, orch_id, phase, ord, kind)"
        " VALUES (now() - :ago::interval, 'old', 0, 0, 'complete')",
        ago=timedelta(days=days_ago),
    )


def days(database: Database) -> list[int]:
    rows = database.rows("SELECT round(extract(day FROM now() - at)) FROM provision_manager.history ORDER BY at DESC")
    return [int(day) for (day,) in rows]


def test_the_days_to_come_have_their_partitions(database: Database) -> None:
    before = database.value(_PARTITIONS)
    assert before == 4
    assert PostgresHistory(database, timedelta(days=90)).tidy() == 0
    assert database.value(_PARTITIONS) == before


def test_what_is_told_today_stands_in_the_partition_of_today(database: Database) -> None:
    world = PostgresWorld(database)
    driver = Driver(world)
    define(world, one=[Activity("a", "t")])
    driver.start(manifest("o", "one"))
    driver.complete("o", "a")
    today = database.value("SELECT 'history_' || to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD')")
    assert database.rows("SELECT tableoid::regclass::text FROM provision_manager.history") == [
        [f"provision_manager.{today}"]
    ]
    assert len(world.orchestrations.history("o")) == 1


def test_what_is_older_than_it_is_kept_is_forgotten(database: Database) -> None:
    database.rows(
        "CREATE TABLE provision_manager.history_20200101 PARTITION OF provision_manager.history"
        " FOR VALUES FROM ('2020-01-01 00:00:00+00') TO ('2020-01-02 00:00:00+00')"
    )
    for ago in (0, 3, 40):
        told(database, ago)
    assert PostgresHistory(database, timedelta(days=10)).tidy() == 1
    assert database.value("SELECT to_regclass('provision_manager.history_20200101')") is None
    assert days(database) == [0, 3]


def test_a_day_that_was_told_of_before_its_partition_was_made_keeps_what_was_told(database: Database) -> None:
    today = database.value("SELECT 'history_' || to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD')")
    database.rows(f"DROP TABLE provision_manager.{today}")
    told(database, 0)
    assert PostgresHistory(database, timedelta(days=10)).tidy() == 0
    assert days(database) == [0]


def test_two_at_once_do_not_disturb_each_other(database: Database) -> None:
    with database.transaction() as tx:
        tx.rows("SELECT pg_advisory_xact_lock(hashtextextended('provision_manager.history', 0))")
        assert PostgresHistory(database, timedelta(days=1)).tidy() == 0
