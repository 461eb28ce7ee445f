"""Indexes are built and dropped without being in anybody's way, whatever happens in the middle."""

from __future__ import annotations

import contextlib
import json
import random
import threading
from collections.abc import Callable

import pytest

from cfm_core.query import IndexKind
from cfm_core.store.database import Database, connect
from cfm_core.tenancy.query_indexes.model import IndexedEntity, QueryIndex, QueryIndexId
from cfm_core.tenancy.query_indexes.ready import ReadyIndexes
from cfm_core.tenancy.query_indexes.store import PostgresQueryIndexes, definition
from cfm_core.versions import ANY

ID = QueryIndexId("00000000-0000-4000-8000-0000000000aa")
NAME = "query_index_000000000000400080000000000000aa"
INDEX = QueryIndex(ID, IndexedEntity.TENANTS, ("size",), IndexKind.NUMBER)
ODD = 'it\'s \\ "odd" `%` :x $1 ; DROP TABLE tenants --'


def state(indexes: PostgresQueryIndexes) -> str:
    found = indexes.find(ID)
    return json.loads(found.text)["state"] if found else "gone"


def is_valid(database: Database, name: str = NAME) -> bool | None:
    valid: bool | None = database.value(
        "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)", name=f"tenant_manager.{name}"
    )
    return valid


def put(database: Database, number: int, properties: str) -> None:
    database.rows(
        "INSERT INTO tenant_manager.tenants (id, properties) VALUES (:id::uuid, :properties::jsonb)",
        id=f"00000000-0000-4000-8000-{number:012}",
        properties=properties,
    )


@pytest.mark.parametrize("kind", IndexKind)
def test_a_key_is_a_literal_whatever_is_in_it(database: Database, kind: IndexKind) -> None:
    indexes = PostgresQueryIndexes(database)
    indexes.declare(QueryIndex(ID, IndexedEntity.PARTICIPANT_PROFILES, (ODD, "é😀"), kind))
    indexes.work()
    assert (state(indexes), is_valid(database)) == ("ready", True)
    indexes.drop(ID, ANY)
    indexes.work()
    assert (state(indexes), is_valid(database)) == ("gone", None)


def test_an_index_takes_whatever_is_there(database: Database) -> None:
    values = [
        "1e300",
        "-0.5",
        "9" * 4000,
        '"x"',
        "null",
        "[1, [2]]",
        "{}",
        '"' + "é" * 100_000 + '"',
        '"2026-02-30T00:00:00Z"',
    ]
    for number, value in enumerate(values):
        put(database, number, f'{{"size": {value}}}')
    put(database, 100, '{"size": [{"size": 5}], "other": 1}')
    indexes = PostgresQueryIndexes(database)
    for number, kind in enumerate(IndexKind):
        indexes.declare(QueryIndex(QueryIndexId(f"{ID[:-1]}{number}"), IndexedEntity.TENANTS, ("size",), kind))
    indexes.work()
    rows = database.rows("SELECT state FROM tenant_manager.query_indexes")
    assert [one for (one,) in rows] == ["ready"] * 3
    put(database, 200, '{"size": "' + "😀" * 1000 + '"}')


def test_what_a_crash_has_left_is_built_anew(database: Database, database_url: str) -> None:
    indexes = PostgresQueryIndexes(database)
    indexes.declare(INDEX)
    put(database, 1, '{"size": 5}')
    # Somebody's change that is not over yet: the build waits for it, and its builder dies while it does.
    other = connect(database_url)
    other.run("BEGIN; INSERT INTO tenant_manager.tenants (id, properties) VALUES (gen_random_uuid(), '{}')")
    builder = connect(database_url, answer_seconds=0)
    pid = builder.run("SELECT pg_backend_pid()")[0][0]
    building = threading.Thread(target=_quietly, args=(builder.run, definition(INDEX)))
    building.start()
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE pid = :pid AND wait_event_type = 'Lock'"
    while not database.value(waiting, pid=pid):
        pass
    # Writes go on meanwhile.
    put(database, 2, '{"size": 7}')
    database.rows("SELECT pg_terminate_backend(:pid)", pid=pid)
    building.join()
    with contextlib.suppress(Exception):
        builder.close()
    other.run("ROLLBACK")
    other.close()
    assert is_valid(database) is False
    indexes.work()
    assert (state(indexes), is_valid(database)) == ("ready", True)


def _quietly(run: Callable[[str], object], sql: str) -> None:
    with contextlib.suppress(Exception):
        run(sql)


def test_what_is_whole_already_is_not_built_again(database: Database, database_url: str) -> None:
    indexes = PostgresQueryIndexes(database)
    indexes.declare(INDEX)
    # Its builder has not lived to tell of it.
    builder = connect(database_url)
    builder.run(definition(INDEX))
    builder.close()
    place = "SELECT to_regclass('tenant_manager." + NAME + "')::oid"
    built = database.value(place)
    indexes.work()
    assert (state(indexes), database.value(place)) == ("ready", built)


def test_one_at_a_time_builds(database: Database, database_url: str) -> None:
    indexes = PostgresQueryIndexes(database)
    indexes.declare(INDEX)
    holder = connect(database_url)
    holder.run("SELECT pg_advisory_lock(hashtext('tenant_manager.query_indexes'))")
    indexes.work()
    assert state(indexes) == "building"
    holder.close()
    indexes.work()
    assert state(indexes) == "ready"


def test_what_the_database_refuses_is_told_and_leaves_nothing(database: Database) -> None:
    indexes = PostgresQueryIndexes(database)
    indexes.declare(INDEX)
    # More digits than an entry of an index holds; no document that comes through the API has so many.
    digits = random.Random(1)
    put(database, 1, '{"size": 1' + "".join(str(digits.randrange(10)) for _ in range(20_000)) + "}")
    indexes.work()
    found = indexes.find(ID)
    assert found is not None
    assert json.loads(found.text)["state"] == "failed"
    assert json.loads(found.text)["reason"] == "the database refused a statement (SQLSTATE 54000)"
    assert is_valid(database) is None
    database.rows("DELETE FROM tenant_manager.tenants")
    again, _ = indexes.declare(INDEX)
    assert (again, state(indexes)) == (ID, "building")
    indexes.work()
    assert (state(indexes), is_valid(database)) == ("ready", True)


def test_queries_learn_of_an_index_after_a_while(database: Database) -> None:
    now = [0.0]
    indexes, ready = PostgresQueryIndexes(database), ReadyIndexes(database, IndexedEntity.TENANTS, lambda: now[0])
    indexes.declare(INDEX)
    assert list(ready.paths()) == []
    indexes.work()
    assert list(ready.paths()) == []
    now[0] += 3.1
    assert list(ready.paths()) == [INDEX.declared]
