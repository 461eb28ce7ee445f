"""What a crash leaves behind, at each point where one hurts."""

from __future__ import annotations

import contextlib
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from cfm_core.contracts import subjects
from cfm_core.contracts.activity import OutcomeKind
from cfm_core.contracts.orchestration import DEPLOY
from cfm_core.errors import RecoverableError
from cfm_core.provisioning.calls.model import Call
from cfm_core.provisioning.definitions.model import Activity, ActivityDefinition, ForEach, OrchestrationTemplate
from cfm_core.provisioning.engine.store import SQL, HeldBack, PostgresEngine, manifest_row, outcome_row, taken_in
from cfm_core.store.database import Database
from cfm_core.store.outbox import LEASE, Outbox
from local.chaos.invariants import broken
from tests.contract.provisioning.world import (
    DIAMOND,
    Driver,
    PostgresWorld,
    all_dispatches,
    define,
    dispatches,
    ending,
    manifest,
    responses,
    unchecked_dispatches,
)
from tests.integration.provisioning.test_concurrency import wait_until_somebody_waits


class Crash(Exception):
    pass


def test_a_start_that_is_not_committed_leaves_nothing_and_can_be_repeated(world: PostgresWorld, driver: Driver) -> None:
    define(world, one=DIAMOND)
    rows = json.dumps([manifest_row(manifest("o", "one"))])
    with pytest.raises(Crash), world.database.transaction() as tx:
        assert tx.rows(SQL["start"], manifests=rows, lease=LEASE, answers=True)
        raise Crash
    assert (world.nodes("o"), world.outbox()) == ({}, [])
    assert set(dispatches(driver.start(manifest("o", "one")).outbox)) == {"a"}


def test_a_result_that_is_not_committed_leaves_nothing_and_can_be_repeated(
    world: PostgresWorld, driver: Driver
) -> None:
    define(world, one=DIAMOND)
    driver.start(manifest("o", "one"))
    before = (world.nodes("o"), world.history("o"), world.outbox())
    outcome = driver.outcome("o", "a", values={"k": 1})
    with pytest.raises(Crash), world.database.transaction() as tx:
        assert tx.rows(SQL["record"], outcomes=json.dumps([outcome_row(outcome)]), lease=LEASE)
        raise Crash
    assert (world.nodes("o"), world.history("o"), world.outbox()) == before
    assert set(dispatches(driver.record(outcome).outbox)) == {"b", "c"}


def test_what_was_committed_unheard_is_relayed_from_the_outbox(world: PostgresWorld, driver: Driver) -> None:
    define(world, one=DIAMOND)
    driver.start(manifest("o", "one"))
    outcome = driver.outcome("o", "a")
    lost = world.engine.record([outcome])
    assert driver.record(outcome).outbox == []

    relay = Outbox(world.database)
    assert relay.claim() == [], "whoever called has it for a while"
    world.database.rows("UPDATE eventing.outbox SET claimable_at = now()")
    found = {one.token for one in all_dispatches(relay.claim())}
    assert found >= {one.token for one in all_dispatches(lost.outbox)}


def test_an_outbox_row_of_a_step_is_leased_to_its_caller(world: PostgresWorld, driver: Driver) -> None:
    define(world, one=DIAMOND)
    driver.start(manifest("o", "one"))
    (held,) = world.database.row("SELECT claimable_at - now() FROM eventing.outbox") or [timedelta(0)]
    assert timedelta(seconds=0.5) < held <= LEASE


def test_messages_that_are_lost_altogether_are_made_up_for_by_the_sweep(world: PostgresWorld, driver: Driver) -> None:
    define(world, one=DIAMOND)
    world.engine.start([manifest("o", "one")])
    for _ in range(12):
        world.database.rows("DELETE FROM eventing.outbox")
        world.let_time_pass()
        sent = all_dispatches(driver.sweep().outbox)
        world.engine.record([driver.outcome("o", one.activity_id) for one in sent])
    assert world.state("o") == "COMPLETED"
    assert {node.failures for node in world.nodes("o").values()} == {0}
    assert broken(world.database) == {}


def test_a_connection_that_dies_during_a_step_is_recoverable_and_nothing_is_half_done(
    world: PostgresWorld, driver: Driver, emptied_url: str
) -> None:
    define(world, one=DIAMOND)
    driver.start(manifest("o", "one"))
    victim = Database(emptied_url, size=1)
    with world.database.transaction() as tx:
        # The step waits for the run's lock when its connection is ended.
        tx.rows("SELECT FROM provision_manager.orchestration FOR UPDATE")
        pid = victim.value("SELECT pg_backend_pid()")
        with ThreadPoolExecutor(1) as thread:
            step = thread.submit(PostgresEngine(victim).record, [driver.outcome("o", "a")])
            wait_until_somebody_waits(tx)
            tx.rows("SELECT pg_terminate_backend(:pid, 5000)", pid=pid)
            with pytest.raises(RecoverableError):
                step.result()
    assert world.nodes("o")["a"].state == "DISPATCHED"
    assert set(dispatches(driver.complete("o", "a").outbox)) == {"b", "c"}
    victim.close()


def test_a_run_that_cannot_be_swept_is_set_aside_and_holds_up_nobody(database: Database) -> None:
    world = PostgresWorld(database)
    driver = Driver(world)
    define(world, one=[Activity("a", "t")])
    driver.start(*(manifest(f"o{n}", "one") for n in range(5)))
    world.let_time_pass()
    # Whatever the reason may be in life: the dispatch of this run cannot be written.
    world.database.rows(
        "ALTER TABLE provision_manager.activity ADD CONSTRAINT spoilt CHECK (orch_id <> 'o2' OR dispatches < 2)"
    )
    sent = {one.orchestration_id for one in all_dispatches(driver.sweep().outbox)}
    assert sent == {"o0", "o1", "o3", "o4"}
    assert world.dead_letters() == ["sweep"]
    assert driver.sweep().outbox == []
    assert world.seconds_until_due("o2")["a"] > 60


def test_a_failure_and_its_compensation_are_one_commit(world: PostgresWorld, driver: Driver) -> None:
    define(world, deploy=[Activity("a", "t")], dispose=[Activity("u", "t")])
    driver.start(manifest("o", DEPLOY))
    rows = json.dumps([outcome_row(driver.outcome("o", "a", OutcomeKind.FATAL))])
    with pytest.raises(Crash), world.database.transaction() as tx:
        assert [row[1] for row in tx.rows(SQL["record"], outcomes=rows, lease=LEASE)] == [
            "event.cfm-orchestration-response",
            "event.cfm-orchestration",
        ]
        raise Crash
    assert (world.state("o"), world.outbox()) == ("RUNNING", ["event.cfm.activity.t"])


TEXT = {"properties": {"k": {"type": "string"}}, "required": ["k"]}


def with_schemas(
    world: PostgresWorld, *, input_schema: dict[str, Any] | None = None, output_schema: dict[str, Any] | None = None
) -> None:
    world.definitions.put_activity_definition(
        ActivityDefinition(type="s", input_schema=input_schema or {}, output_schema=output_schema or {})
    )
    activities = [Activity("a", "s"), Activity("b", "s", ("a",))]
    world.definitions.add_template(OrchestrationTemplate(id="tpl", activities={"one": activities}))


def test_a_dispatch_that_nobody_has_looked_at_is_relayed_and_made_up_for(world: PostgresWorld) -> None:
    with_schemas(world, input_schema=TEXT)
    lost = world.engine.start([manifest("o", "one", k="v")])
    relay = Outbox(world.database)
    world.database.rows("UPDATE eventing.outbox SET claimable_at = now()")
    assert unchecked_dispatches(relay.claim()) == unchecked_dispatches(lost.outbox)
    world.database.rows("DELETE FROM eventing.outbox")
    world.let_time_pass()
    again = unchecked_dispatches(world.engine.sweep().outbox)
    assert list(dispatches(world.engine.check_inputs(again).outbox)) == ["a"]


def test_a_look_at_inputs_that_is_not_committed_leaves_nothing_and_can_be_repeated(world: PostgresWorld) -> None:
    with_schemas(world, input_schema=TEXT)
    started = world.engine.start([manifest("good", "one", k="v"), manifest("bad", "one")])
    unchecked = unchecked_dispatches(started.outbox)
    before = (world.nodes("bad"), world.history("bad"), world.outbox())
    with pytest.raises(Crash), world.database.joined():
        assert len(world.engine.check_inputs(unchecked).outbox) == 2
        raise Crash
    assert (world.nodes("bad"), world.history("bad"), world.outbox()) == before
    assert [row.subject for row in world.engine.check_inputs(unchecked).outbox] == [
        subjects.activity("s"),
        subjects.RESPONSES,
    ]


def test_a_result_that_was_only_looked_at_has_not_been_heard(world: PostgresWorld, driver: Driver) -> None:
    with_schemas(world, output_schema=TEXT)
    driver.start(manifest("o", "one"))
    before = (world.nodes("o"), world.history("o"), world.outbox())
    outcome = driver.outcome("o", "a", values={"k": "v"})
    # The first of the two statements, and then nothing more.
    rows = world.database.rows(SQL["record"], outcomes=json.dumps([outcome_row(outcome)]), lease=LEASE)
    assert taken_in(rows, [outcome]) == ([], [HeldBack(0, None, checked="")])
    assert (world.nodes("o"), world.history("o"), world.outbox()) == before
    assert set(dispatches(driver.record(outcome).outbox)) == {"b"}
    assert broken(world.database) == {}


def test_two_at_once_hear_a_result_with_a_schema_once(world: PostgresWorld, driver: Driver) -> None:
    with_schemas(world, output_schema=TEXT)
    driver.start(manifest("good", "one"), manifest("bad", "one"))
    outcomes = [driver.outcome("good", "a", values={"k": "v"}), driver.outcome("bad", "a")]
    with ThreadPoolExecutor(4) as threads:
        told = list(threads.map(lambda _: world.engine.record(outcomes), range(8)))
    assert sum(len(all_dispatches(progress.outbox)) for progress in told) == 1
    assert sum(len(responses(progress.outbox)) for progress in told) == 1
    assert (world.history("good").count("complete"), world.history("bad").count("invalid output")) == (1, 1)
    assert broken(world.database) == {}


def test_an_early_completion_that_is_not_committed_leaves_nothing_and_can_be_repeated(
    world: PostgresWorld, driver: Driver
) -> None:
    define(world, one=[Activity("a", "t")])
    driver.start(manifest("o", "one"))
    made = ending(driver.sent["o", "a"], values={"v": 1})
    with contextlib.suppress(ZeroDivisionError), world.database.joined():
        world.orchestrations.end_activity("o", "a", made)
        raise ZeroDivisionError
    assert world.orchestrations.get("o").graph[0].ending == ""
    for _ in range(2):
        world.orchestrations.end_activity("o", "a", made)
    driver.record(driver.outcome("o", "a", OutcomeKind.WAIT))
    assert world.orchestrations.get("o").processing_data == {"v": 1}
    assert broken(world.database) == {}


FAN_OUT = [Activity("e", "t", for_each=ForEach("list"))]


def test_a_look_after_an_activity_that_is_not_committed_leaves_nothing_and_can_be_repeated(
    world: PostgresWorld, driver: Driver
) -> None:
    define(world, one=FAN_OUT)
    world.engine.start([manifest("o", "one", list=[1, 2])])
    with pytest.raises(Crash), world.database.joined():
        world.calls.tend([Call("o", 0, 0)])
        raise Crash
    assert world.runs() == ["o"]
    progress = driver.take(world.calls.tend([Call("o", 0, 0)]))
    assert len(all_dispatches(progress.outbox)) == 2
    assert world.calls.tend([Call("o", 0, 0)]).outbox == []
