"""Schedules and delayed starts with several sweepers at once, with crashes, and as HTTP shows them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from cfm_core.clock import system_clock
from cfm_core.contracts.reply import OutboxRow
from cfm_core.errors import RecoverableError
from cfm_core.provisioning.definitions.model import Activity
from cfm_core.provisioning.delayed_starts.store import PostgresDelayedStarts
from cfm_core.provisioning.operations.model import Order
from cfm_core.provisioning.operations.service import Operations
from cfm_core.provisioning.operations.store import PostgresOperations
from cfm_core.provisioning.orchestrations.actions import Action
from cfm_core.provisioning.schedules.model import Schedule, fired
from cfm_core.provisioning.schedules.store import PostgresSchedules
from cfm_core.provisioning.schedules.sweep import DueStarts
from cfm_core.provisioning.schedules.v1alpha1 import NewSchedule
from cfm_core.store.database import Database
from cfm_core.store.outbox import LEASE, Outbox
from local.chaos.invariants import broken
from tests.contract.provisioning.world import PostgresWorld, all_dispatches, define, manifest
from tests.integration.provisioning.api import call, deliver
from tests.integration.provisioning.test_concurrency import THREADS, at_once, wait_until_somebody_waits

ONE = [Activity("a", "t")]
PAST = datetime(2026, 1, 10, 3, 0, tzinfo=UTC)
ORDER = Order(actor="ann", reason="not now", request_id="r")


class Crash(Exception):
    pass


def due_starts(database: Database) -> DueStarts:
    return DueStarts([PostgresSchedules(database), PostgresDelayedStarts(database)])


@pytest.fixture
def pool(emptied_url: str) -> Iterator[Database]:
    database = Database(emptied_url, size=THREADS)
    yield database
    database.close()


def much_is_due(world: PostgresWorld, count: int = 12) -> set[str]:
    """Schedules and delayed starts; gives the ids of the runs that they start."""
    define(world, one=ONE)
    for n in range(count):
        world.schedules.put(f"s{n}", NewSchedule(cron="0 3 * * *", orchestration_type="one", overlap="allow"), ORDER)
        world.set_next(f"s{n}", PAST)
        world.orchestrations.start(manifest(f"d{n}", "one"), PAST)
    return {*(f"s{n}.20260110T030000Z" for n in range(count)), *(f"d{n}" for n in range(count))}


def started(rows: list[OutboxRow]) -> list[str]:
    return sorted(one.orchestration_id for one in all_dispatches(rows))


def test_what_is_due_is_started_once_by_many_sweeps_at_once(world: PostgresWorld, pool: Database) -> None:
    ids = much_is_due(world)
    outboxes = at_once(lambda _: due_starts(pool).sweep(most=5).outbox + due_starts(pool).sweep(most=5).outbox)
    assert started([row for outbox in outboxes for row in outbox] + due_starts(pool).sweep().outbox) == sorted(ids)
    assert broken(pool) == {}


def test_a_sweep_that_is_not_committed_leaves_nothing_and_can_be_repeated(world: PostgresWorld) -> None:
    ids = much_is_due(world, 2)
    before = world.schedules.get("s0")
    with pytest.raises(Crash), world.database.joined():
        assert started(due_starts(world.database).sweep().outbox) == sorted(ids)
        raise Crash
    assert (world.outbox(), world.schedules.get("s0")) == ([], before)
    assert world.orchestrations.get("d0").state == "SCHEDULED"
    assert started(due_starts(world.database).sweep().outbox) == sorted(ids)


def test_a_sweep_that_was_committed_unheard_is_relayed_from_the_outbox(world: PostgresWorld) -> None:
    ids = much_is_due(world, 2)
    due_starts(world.database).sweep()
    assert due_starts(world.database).sweep().outbox == []
    relay = Outbox(world.database)
    assert relay.claim() == [], "whoever called has it for a while"
    world.database.rows("UPDATE eventing.outbox SET claimable_at = now() - :lease::interval", lease=LEASE)
    assert started(relay.claim()) == sorted(ids)


def test_a_connection_that_dies_in_a_sweep_is_recoverable_and_nothing_is_half_done(
    world: PostgresWorld, emptied_url: str
) -> None:
    ids = much_is_due(world, 1)
    victim = Database(emptied_url, size=1)
    with world.database.transaction() as tx:
        # The sweep waits for the run of the schedule when its connection is ended.
        tx.rows(
            "INSERT INTO provision_manager.orchestration"
            "  (id, def_id, type, correlation_id, remaining, state_at, created_at)"
            " SELECT 's0.20260110T030000Z', id, 'one', '', 0, now(), now() FROM provision_manager.definition"
        )
        pid = victim.value("SELECT pg_backend_pid()")
        with ThreadPoolExecutor(1) as thread:
            sweep = thread.submit(due_starts(victim).sweep)
            wait_until_somebody_waits(tx)
            tx.rows("SELECT pg_terminate_backend(:pid, 5000)", pid=pid)
            with pytest.raises(RecoverableError):
                sweep.result()
        tx.rows("DELETE FROM provision_manager.orchestration")
    victim.close()
    assert started(due_starts(world.database).sweep().outbox) == sorted(ids)


def test_a_schedule_that_cannot_be_started_says_why_and_holds_up_nobody(database: Database) -> None:
    world = PostgresWorld(database)
    ids = much_is_due(world, 3)
    # Whatever the reason may be in life: these runs cannot be written.
    database.rows(
        "ALTER TABLE provision_manager.orchestration ADD CONSTRAINT spoilt"
        " CHECK (id NOT LIKE 's1.%' AND id <> 'd1') NOT VALID"
    )
    assert started(due_starts(database).sweep().outbox) == sorted(ids - {"s1.20260110T030000Z", "d1"})
    found = json.loads(world.schedules.get("s1").text)
    assert found["lastError"].startswith("the database refused a statement")
    assert found["nextAt"] > f"{system_clock():%Y-%m-%d}"
    assert world.orchestrations.get("d1").state == "ERRORED"
    assert due_starts(database).sweep().outbox == []


def test_a_time_zone_that_is_gone_stops_its_schedule_and_no_other(world: PostgresWorld) -> None:
    ids = much_is_due(world, 2)
    world.database.rows("UPDATE provision_manager.schedule SET time_zone = 'Nowhere' WHERE id = 's0'")
    assert started(due_starts(world.database).sweep().outbox) == sorted(ids - {"s0.20260110T030000Z"})
    found = json.loads(world.schedules.get("s0").text)
    assert ("nextAt" in found, found["lastError"][:16]) == (False, "Invalid timeZone")


def test_the_clock_of_the_process_is_no_matter(world: PostgresWorld) -> None:
    define(world, one=ONE)
    world.schedules.put("s", NewSchedule(cron="0 3 * * *", orchestration_type="one"), ORDER)
    # A time that the database has not reached yet, however the sweeper's clock goes.
    world.database.rows("UPDATE provision_manager.schedule SET next_at = now() + interval '1 s'")
    assert due_starts(world.database).sweep().outbox == []


def test_a_clock_that_was_set_back_does_not_bring_a_time_again(world: PostgresWorld) -> None:
    define(world, one=ONE)
    world.schedules.put("s", NewSchedule(cron="0 3 * * *", orchestration_type="one"), ORDER)
    schedules = PostgresSchedules(world.database)
    due = datetime(2026, 1, 10, 3, tzinfo=UTC)

    def fire(before: Schedule, now: datetime) -> Schedule:
        return fired(replace(before, next_at=due), due - timedelta(hours=2), started=True)

    found = schedules.change("s", fire, Action.REPLACE, ORDER)
    assert found is not None
    assert json.loads(found.text)["nextAt"] == "2026-01-11T03:00:00Z"


def test_a_delayed_start_is_cancelled_or_started_and_never_both(world: PostgresWorld, pool: Database) -> None:
    define(world, one=ONE)
    operations = Operations(PostgresOperations(pool))
    for n in range(10):
        id_ = f"d{n}"
        world.orchestrations.start(manifest(id_, "one"), PAST)

        def work(number: int, id_: str = id_) -> None:
            if number:
                operations.cancel(id_, ORDER)
            else:
                due_starts(pool).sweep()

        at_once(work, 2)
        assert operations.cancel(id_, ORDER).state in {"CANCELLED", "CANCELLING"}
        assert due_starts(pool).sweep().outbox == []
    assert broken(pool) == {}


@pytest.mark.usefixtures("served")
def test_a_schedule_over_http() -> None:
    assert call("POST", "/activity-definitions", {"type": "t"}).status == 201
    template = {"id": "tpl", "activities": {"one": [{"id": "a", "type": "t"}]}}
    assert call("POST", "/orchestration-definitions", template).status == 201
    body = {"cron": "0 3 * * *", "orchestrationType": "one", "payload": {"k": "ö", "n": [1, {}]}}
    created = call("PUT", "/schedules/my%20schedule", body, {"If-None-Match": "*"})
    path = "/api/v1alpha1/schedules/my%20schedule"
    assert (created.status, created.headers["Location"], created.headers["ETag"]) == (201, path, '"0"')
    read = call("GET", "/schedules/my%20schedule")
    assert (read.json["timeZone"], read.json["overlap"], read.json["payload"]) == ("UTC", "skip", body["payload"])
    assert call("GET", "/schedules/my%20schedule", headers={"If-None-Match": '"0"'}).status == 304
    paused = call("PATCH", "/schedules/my%20schedule", {"paused": True}, {"If-Match": '"0"'})
    assert (paused.status, paused.json["paused"], paused.headers["ETag"]) == (200, True, '"1"')
    assert call("PATCH", "/schedules/my%20schedule", {"paused": False}, {"If-Match": '"0"'}).status == 412
    assert call("PUT", "/schedules/my%20schedule", body | {"id": "another"}).status == 400
    assert call("POST", "/schedules", body | {"id": "my schedule"}).status == 409
    posted = call("POST", "/schedules", body)
    assert posted.headers["Location"].endswith(posted.json["id"])
    assert call("GET", "/schedules?q=paused%20%3D%20true").headers["X-Total-Count"] == "1"
    assert len(call("POST", "/schedules/query", {"predicate": "orchestrationType = 'one'"}).json) == 2
    for wrong, status in (
        ({"cron": "x"}, 400),
        ({"timeZone": "x"}, 400),
        ({"overlap": "x"}, 400),
        ({"cron": None}, 400),
    ):
        answer = call("POST", "/schedules", body | wrong)
        assert (answer.status, len(answer.json["errors"])) == (status, 1)
    assert call("POST", "/schedules", body | {"orchestrationType": "nope"}).status == 422
    assert call("PATCH", "/schedules/nope", {"paused": True}).status == 404
    assert call("DELETE", "/schedules/my%20schedule", headers={"If-Match": '"0"'}).status == 412
    assert call("DELETE", "/schedules/my%20schedule").status == 200
    assert call("GET", "/schedules/my%20schedule").status == 404


@pytest.mark.usefixtures("served")
def test_a_delayed_start_over_http(world: PostgresWorld) -> None:
    define(world, one=ONE)
    body = {"id": "o", "correlationId": "c", "orchestrationType": "one", "payload": {"k": 1}}
    kept = call("POST", "/orchestrations", body | {"startAt": "2999-01-01T02:00:00+02:00"})
    assert kept.status == 202
    assert kept.json | {"createdTimestamp": "", "stateTimestamp": ""} == {
        "id": "o",
        "correlationId": "c",
        "state": 0,
        "stateTimestamp": "",
        "createdTimestamp": "",
        "orchestrationType": "one",
        "definitionId": "one",
        "startAt": "2999-01-01T00:00:00Z",
        "steps": [{"activities": [{"id": "a", "type": "t", "discriminator": "one", "dependsOn": None}]}],
        "processingData": {"k": 1},
        "outputData": {},
        "completed": {},
        "status": "queued",
        "statusReason": "it starts at 2999-01-01T00:00:00Z",
        "allowedActions": ["cancel"],
    }
    read = call("GET", "/orchestrations/o")
    assert (read.status, read.json["state"], read.json["activities"]) == (200, 0, [])
    assert call("POST", "/orchestrations", body).json["state"] == 0
    (entry,) = call("GET", "/orchestrations").json
    assert (entry["state"], entry["status"], entry["startAt"]) == (0, "queued", "2999-01-01T00:00:00Z")
    assert call("POST", "/orchestrations/query", {"predicate": "state = 0"}).json == [entry]
    for wrong in ("tomorrow", "2026-02-30T00:00:00Z", "2026-01-01", 5):
        answer = call("POST", "/orchestrations", body | {"id": "p", "startAt": wrong})
        assert (answer.status, answer.json["errors"][0]["pointer"]) == (400, "/startAt")
    assert deliver("start_due_orchestrations", None).outbox == []
    world.set_start("o", PAST)
    assert started(deliver("start_due_orchestrations", None).outbox) == ["o"]
    run = call("GET", "/orchestrations/o", headers={"If-None-Match": read.headers["ETag"]})
    assert (run.status, run.json["state"], "startAt" in run.json) == (200, 1, False)
