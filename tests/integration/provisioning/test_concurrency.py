from __future__ import annotations

import contextlib
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TypeVar

import pytest

from cfm_core.contracts.activity import ActivityOutcome, OutcomeKind
from cfm_core.contracts.orchestration import DEPLOY, TENANT_ID
from cfm_core.contracts.reply import OutboxRow
from cfm_core.errors import (
    ClientError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    PreconditionFailedError,
    ValidationError,
)
from cfm_core.provisioning.calls.model import Call
from cfm_core.provisioning.calls.service import Calls
from cfm_core.provisioning.calls.store import PostgresCalls
from cfm_core.provisioning.definitions.model import (
    Activity,
    ActivityDefinition,
    ForEach,
    Limits,
    OrchestrationTemplate,
    Rate,
)
from cfm_core.provisioning.definitions.service import InUseError
from cfm_core.provisioning.definitions.store import PostgresDefinitions
from cfm_core.provisioning.engine.store import SQL, PostgresEngine, outcome_row
from cfm_core.provisioning.operations.model import Order
from cfm_core.provisioning.operations.service import Operations
from cfm_core.provisioning.operations.store import PostgresOperations
from cfm_core.provisioning.orchestrations.model import Heartbeat
from cfm_core.provisioning.orchestrations.store import PostgresOrchestrations
from cfm_core.query import Page
from cfm_core.store.database import Database, Row, Transaction
from cfm_core.store.outbox import LEASE
from cfm_core.versions import Expected
from local.chaos.invariants import broken
from tests.contract.provisioning.world import (
    DIAMOND,
    KEY,
    Driver,
    PostgresWorld,
    activity_definitions,
    all_dispatches,
    answer,
    define,
    dispatches,
    ending,
    manifest,
    manifests,
    orchestration_definitions,
    responses,
)

THREADS = 6
ORDER = Order(actor="ann", reason="why", request_id="r")
T = TypeVar("T")


def at_once(work: Callable[[int], T], threads: int = THREADS) -> list[T]:
    """What ``work`` gives in each of several threads that begin together."""
    ready = threading.Barrier(threads)

    def run(number: int) -> T:
        ready.wait()
        return work(number)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(run, range(threads)))


def wait_until_somebody_waits(tx: Transaction) -> None:
    """Come back when another connection waits for a lock."""
    tx.rows(
        "DO $$ BEGIN WHILE NOT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        " AND datname = current_database()) LOOP"
        " PERFORM pg_sleep(0.01), pg_stat_clear_snapshot(); END LOOP; END $$"
    )


@pytest.fixture
def pool(emptied_url: str) -> Iterator[Database]:
    database = Database(emptied_url, size=THREADS)
    yield database
    database.close()


def test_one_manifest_started_by_many_is_one_run(world: PostgresWorld, pool: Database) -> None:
    define(world, one=DIAMOND)
    batch = [manifest(f"o{n}", "one") for n in range(20)]

    def start(number: int) -> Sequence[OutboxRow]:
        return PostgresEngine(pool).start(random.Random(number).sample(batch, len(batch))).outbox

    rows = [row for outbox in at_once(start) for row in outbox]
    assert Counter(event["id"] for row in rows for event in row.events) == {f"o{n}/0/0/1": 1 for n in range(20)}
    assert broken(pool) == {}
    pool.close()


def test_the_same_results_recorded_by_many_count_once(world: PostgresWorld, driver: Driver, pool: Database) -> None:
    define(world, one=DIAMOND)
    driver.start(*(manifest(f"o{n}", "one") for n in range(20)))
    for tier in (["a"], ["b", "c"], ["d"]):
        outcomes = [driver.outcome(f"o{n}", id_, values={id_: n}) for n in range(20) for id_ in tier]

        def record(number: int, outcomes: Sequence[ActivityOutcome] = outcomes) -> Sequence[OutboxRow]:
            return PostgresEngine(pool).record(random.Random(number).sample(outcomes, len(outcomes))).outbox

        sent = [one for outbox in at_once(record) for one in all_dispatches(outbox)]
        assert (
            len({one.token for one in sent})
            == len({(one.orchestration_id, one.activity_id) for one in sent})
            == len(sent)
        )
        driver.sent |= {(one.orchestration_id, one.activity_id): one for one in sent}
        assert broken(pool) == {}
    for n in range(20):
        assert world.state(f"o{n}") == "COMPLETED"
        assert Counter(world.history(f"o{n}"))["complete"] == 4
        assert world.orchestrations.get(f"o{n}").processing_data == {"a": n, "b": n, "c": n, "d": n}
    pool.close()


def test_siblings_completed_at_the_same_time_unlock_their_child_once(
    world: PostgresWorld, driver: Driver, pool: Database
) -> None:
    parents = [Activity(f"p{n}", "t") for n in range(THREADS)]
    define(world, one=[*parents, Activity("child", "t", tuple(one.id for one in parents))])
    for attempt in range(10):
        id_ = f"o{attempt}"
        driver.start(manifest(id_, "one"))

        def complete(number: int, id_: str = id_) -> Sequence[OutboxRow]:
            return PostgresEngine(pool).record([driver.outcome(id_, f"p{number}", values={f"p{number}": 1})]).outbox

        rows = [row for outbox in at_once(complete) for row in outbox]
        assert set(dispatches(rows)["child"].values) == {one.id for one in parents}
        assert sum(len(row.events) for row in rows) == 1
    assert broken(pool) == {}
    pool.close()


def test_results_wait_for_those_that_are_being_recorded_of_the_same_run(world: PostgresWorld, driver: Driver) -> None:
    define(world, one=[Activity("p", "t"), Activity("q", "t"), Activity("child", "t", ("p", "q"))])
    driver.start(manifest("o", "one"))
    first, second = driver.outcome("o", "p"), driver.outcome("o", "q")
    with ThreadPoolExecutor(1) as thread:
        with world.database.transaction() as tx:
            tx.rows(SQL["record"], outcomes=json.dumps([outcome_row(first)]), lease=LEASE)
            recording = thread.submit(world.engine.record, [first, second])
            wait_until_somebody_waits(tx)
        assert set(dispatches(recording.result().outbox)) == {"child"}
    assert broken(world.database) == {}


def test_sweeps_and_results_at_the_same_time_neither_wait_for_each_other_nor_lose_anything(
    world: PostgresWorld, driver: Driver, pool: Database
) -> None:
    define(
        world, deploy=[Activity("a", "t"), Activity("b", "t"), Activity("c", "t", ("a",))], dispose=[Activity("u", "t")]
    )
    ids = [f"o{n}" for n in range(12)]
    driver.start(*(manifest(id_, DEPLOY) for id_ in ids))

    def work(number: int) -> None:
        """Answers whatever is sent, a third of it badly, while all leases run out all the time."""
        chance = random.Random(number)
        engine = PostgresEngine(pool)
        sent = list(driver.sent.values())
        for _ in range(25):
            world.let_time_pass()
            progress = engine.sweep(5)
            sent += all_dispatches(progress.outbox)
            engine.start(manifests(progress.outbox))
            some = chance.sample(sent, min(len(sent), 8))
            kinds = chance.choices([OutcomeKind.COMPLETE, OutcomeKind.FATAL, OutcomeKind.RETRY], [6, 1, 2], k=len(some))
            progress = engine.record([answer(one, kind) for one, kind in zip(some, kinds, strict=True)])
            sent += all_dispatches(progress.outbox)
            engine.start(manifests(progress.outbox))

    at_once(work)
    assert broken(pool) == {}
    for _ in range(30):
        world.let_time_pass()
        progress = driver.sweep()
        driver.start(*manifests(progress.outbox))
        progress = driver.record(*(driver.outcome(*key) for key in list(driver.sent)))
        driver.start(*manifests(progress.outbox))
    assert {world.state(id_) for id_ in ids} <= {"COMPLETED", "COMPENSATED", "COMPENSATION_FAILED"}
    assert broken(pool) == {}
    told = Counter(
        one["data"]["manifestId"]
        for (events,) in pool.rows(
            "SELECT events FROM eventing.outbox WHERE subject = 'event.cfm-orchestration-response'"
        )
        for one in events
    )
    assert {id_: told[id_] for id_ in ids} == dict.fromkeys(ids, 1)
    pool.close()


def test_a_template_is_replaced_by_many_at_once_without_a_gap(world: PostgresWorld, pool: Database) -> None:
    define(world, one=DIAMOND)

    def replace(number: int) -> None:
        world.definitions.add_template(
            OrchestrationTemplate(id=f"tpl {number}", activities={"one": DIAMOND, "two": DIAMOND})
        )

    at_once(replace)
    assert [one.type for one in orchestration_definitions(world)] == ["one", "two"]
    assert len({one.template_ref for one in orchestration_definitions(world)}) == 1
    pool.close()


def test_an_activity_definition_never_vanishes_from_under_a_template(world: PostgresWorld, pool: Database) -> None:
    for _ in range(5):
        define(world, other=[Activity("a", "kept")])
        world.definitions.put_activity_definition(activity_definitions(world)[0])
        define(world, spare=[Activity("z", "t")])
        (spare,) = [one for one in orchestration_definitions(world) if one.type == "spare"]
        world.definitions.delete_template(spare.template_ref)

        def work(number: int) -> bool:
            try:
                if number % 2:
                    world.definitions.delete_activity_definition("t")
                else:
                    world.definitions.add_template(
                        OrchestrationTemplate(id=f"tpl {number}", activities={"one": [Activity("a", "t")]})
                    )
            except (NotFoundError, InUseError, ValidationError):
                return False
            return True

        at_once(work, 4)
        types = {one.type for one in activity_definitions(world)}
        used = {activity.type for one in orchestration_definitions(world) for activity in one.activities}
        assert used <= types
    pool.close()


def put_activity(definitions: PostgresDefinitions, text: str, expected: Expected) -> int:
    definition = ActivityDefinition(type="new", description=text)
    return definitions.put_activity_definition(definition, expected)[1].version


def put_template(definitions: PostgresDefinitions, text: str, expected: Expected) -> int:
    template = OrchestrationTemplate(id="tpl", description=text, activities={"x": [Activity("a", "t")]})
    return definitions.put_template(template, expected)[1].version


@pytest.mark.parametrize("put", [put_activity, put_template])
def test_of_many_who_put_in_view_of_the_same_version_one_succeeds(
    world: PostgresWorld, pool: Database, put: Callable[[PostgresDefinitions, str, Expected], int]
) -> None:
    world.definitions.put_activity_definition(ActivityDefinition(type="t"))

    def winner(expected: Expected) -> int:
        def attempt(number: int) -> int | None:
            try:
                return put(PostgresDefinitions(pool), f"by {number}", expected)
            except PreconditionFailedError:
                return None

        (version,) = [version for version in at_once(attempt) if version is not None]
        return version

    created = winner(Expected(exists=False))
    changed = winner(Expected(frozenset({created})))
    assert put(PostgresDefinitions(pool), "last", Expected(frozenset({changed}))) > changed > created
    pool.close()


def test_a_response_is_given_once_however_the_last_results_arrive(
    world: PostgresWorld, driver: Driver, pool: Database
) -> None:
    define(world, one=[Activity(f"p{n}", "t") for n in range(THREADS)])
    driver.start(manifest("o", "one"))
    outboxes = at_once(lambda number: PostgresEngine(pool).record([driver.outcome("o", f"p{number}")]).outbox)
    assert len([one for outbox in outboxes for one in responses(outbox)]) == 1
    pool.close()


def test_an_order_given_by_many_at_once_takes_effect_once(world: PostgresWorld, pool: Database) -> None:
    define(world, deploy=[Activity("a", "t")], dispose=[Activity("a", "t")])
    driver = Driver(world)
    driver.start(manifest("o", DEPLOY))
    driver.hear()
    order = Order(actor="ann", reason="r", request_id="r")
    operations = Operations(PostgresOperations(pool))
    cancelled = at_once(lambda _: operations.cancel("o", order).state)
    assert cancelled == ["COMPENSATING"] * THREADS
    assert len(responses(driver.hear())) == 1
    assert json.loads(world.audit.select("true", Page()).json)[0]["action"] == "cancel"
    assert world.audit.select("true", Page()).total == 1


def test_rates_hold_whoever_sends_at_once(world: PostgresWorld, pool: Database) -> None:
    rate, tenant_rate = Rate(6, timedelta(seconds=0.1)), Rate(4, timedelta(seconds=0.15))
    define(world, one=DIAMOND)
    world.definitions.put_activity_definition(
        ActivityDefinition(type="t.one", limits=Limits(rate=rate, rate_per_tenant=tenant_rate))
    )
    engine = PostgresEngine(pool)

    def send(number: int) -> None:
        driver = Driver(world)
        batch = [manifest(f"o{number}.{n}", "one", **{TENANT_ID: f"t{n % 2}"}) for n in range(10)]
        driver.take(engine.start(batch))
        deadline = time.monotonic() + 60
        while any(world.state(one.id) != "COMPLETED" for one in batch):
            assert time.monotonic() < deadline
            driver.hear()
            engine.record([answer(one) for one in driver.sent.values()])
            engine.sweep()

    at_once(send, 3)
    assert broken(world.database) == {}


def test_orders_and_results_at_once_leave_no_contradiction(world: PostgresWorld, pool: Database) -> None:
    define(world, deploy=DIAMOND, dispose=DIAMOND)
    limits = Limits(concurrency=3, consecutive_failures=4)
    world.definitions.put_activity_definition(ActivityDefinition(type="t.one", limits=limits))
    driver = Driver(world)
    order = Order(actor="ann", reason="r", request_id="r")
    operations, engine = Operations(PostgresOperations(pool)), PostgresEngine(pool)
    ids = [f"o{n}" for n in range(8)]
    driver.start(*(manifest(id_, DEPLOY) for id_ in ids))
    everything = [*ids, *(f"{id_}.compensate" for id_ in ids)]

    def disturb(number: int) -> None:
        dice = random.Random(number)
        for _ in range(25):
            rows = world.rows()
            outcomes = [answer(one, dice.choice(list(OutcomeKind))) for one in all_dispatches(rows)]
            acts = [operations.pause, operations.resume, operations.cancel, operations.retry, operations.compensate]
            match dice.randrange(4):
                case 0:
                    engine.record(dice.sample(outcomes, min(6, len(outcomes))))
                case 1:
                    engine.start(manifests(rows))
                    engine.sweep()
                case _:
                    with contextlib.suppress(ClientError):
                        dice.choice(acts)(dice.choice(everything), order)

    at_once(disturb)
    assert broken(world.database) == {}


FAN_OUT = [Activity("e", "t", for_each=ForEach("list", concurrency=2)), Activity("z", "t", ("e",))]


def tend(pool: Database) -> list[OutboxRow]:
    return Calls(PostgresCalls(pool)).tend([Call("o", 0, 0)]).outbox


def test_an_activity_that_many_look_after_at_once_gets_its_orchestrations_once(
    world: PostgresWorld, driver: Driver, pool: Database
) -> None:
    define(world, one=FAN_OUT)
    world.engine.start([manifest("o", "one", list=[1, 2, 3])])
    rows = [row for written in at_once(lambda _: tend(pool)) for row in written]
    assert sorted(one.orchestration_id for one in all_dispatches(rows)) == ["o.e.0", "o.e.1"]
    for one in all_dispatches(rows):
        world.engine.record([answer(one)])
    rows = [row for written in at_once(lambda _: tend(pool)) for row in written]
    (last,) = all_dispatches(rows)
    world.engine.record([answer(last)])
    rows = [row for written in at_once(lambda _: tend(pool)) for row in written]
    assert [one.activity_id for one in all_dispatches(rows)] == ["z"]
    assert broken(world.database) == {}


def test_results_cancels_and_looks_at_once_bring_a_fan_out_to_its_end(world: PostgresWorld, pool: Database) -> None:
    define(world, one=FAN_OUT)
    driver = Driver(world)
    driver.start(manifest("o", "one", list=list(range(8))))

    def work(number: int) -> None:
        engine, calls_ = PostgresEngine(pool), Calls(PostgresCalls(pool))
        if number == 0:
            order = Order(actor="ann", reason="enough", request_id="r")
            Operations(PostgresOperations(pool)).cancel("o", order, compensate=False)
        for outcome in [answer(one) for one in driver.sent.values()]:
            engine.record([outcome])
            calls_.tend([Call("o", 0, 0)])

    at_once(work)
    # What was sent meanwhile has not reported yet.
    driver.take_all()
    driver.record(*(answer(one) for one in driver.sent.values()))
    assert {world.state(id_) for id_ in world.runs()} <= {"CANCELLED", "COMPLETED"}
    assert world.state("o") == "CANCELLED"
    assert broken(world.database) == {}


def test_a_wait_and_what_ends_it_early_at_the_same_time_complete_the_activity_once_with_both_records(
    world: PostgresWorld, driver: Driver, pool: Database
) -> None:
    define(world, one=[Activity("a", "t"), Activity("b", "t", ("a",))])
    runs = [f"o{n}" for n in range(40)]
    driver.start(*(manifest(id_, "one") for id_ in runs))
    waits = {id_: driver.outcome(id_, "a", OutcomeKind.WAIT, values={"request": 1, "by": "agent"}) for id_ in runs}
    ends = {id_: ending(driver.sent[id_, "a"], values={"by": "outside"}) for id_ in runs}

    def speak(number: int) -> None:
        for id_ in random.Random(number // 2).sample(runs, len(runs)):
            if number % 2:
                PostgresEngine(pool).record([waits[id_]])
            else:
                PostgresOrchestrations(pool, KEY).end_activity(id_, "a", ends[id_])

    at_once(speak)
    for id_ in runs:
        assert world.orchestrations.get(id_).processing_data == {"request": 1, "by": "outside"}
        assert world.nodes(id_)["a"].state == "DONE"
        assert world.history(id_).count("complete") == 1
    sent = [one for one in all_dispatches(world.rows()) if one.activity_id == "b"]
    assert sorted(one.orchestration_id for one in sent) == sorted(runs)
    assert all(one.values == {"request": 1, "by": "outside"} for one in sent)
    assert broken(pool) == {}


def test_a_run_is_paused_together_with_what_is_just_being_started_for_it(
    world: PostgresWorld, driver: Driver, pool: Database
) -> None:
    define(world, one=[Activity("e", "t", for_each=ForEach("list", concurrency=3))])
    world.engine.start([manifest("o", "one", list=[1, 2, 3, 4])])
    with ThreadPoolExecutor(1) as thread:
        with pool.joined() as tx:
            Calls(PostgresCalls(pool)).tend([Call("o", 0, 0)])
            paused = thread.submit(Operations(PostgresOperations(pool)).pause, "o", ORDER)
            wait_until_somebody_waits(tx)
        paused.result()
    assert [(id_, world.orchestrations.get(id_).paused) for id_ in world.runs()] == [
        *(("o", True), ("o.e.0", True), ("o.e.1", True), ("o.e.2", True)),
    ]
    assert broken(pool) == {}


def test_who_pauses_a_run_with_those_below_it_takes_them_in_the_order_of_their_ids(
    world: PostgresWorld, driver: Driver, pool: Database
) -> None:
    sub, each = Activity("s", "orchestration:sub"), Activity("e", "t", ("b",), for_each=ForEach("list"))
    world.definitions.put_activity_definition(ActivityDefinition(type="t"))
    activities = {"one": [sub, Activity("b", "t"), each], "sub": [Activity("x", "t")]}
    world.definitions.add_template(OrchestrationTemplate(id="x", activities=activities))
    driver.start(manifest("o", "one", list=[1]))
    driver.complete("o", "b")
    first, last = sorted(world.runs())[1:]
    assert (first, last) == ("o.e.0", "o.s")
    with ThreadPoolExecutor(1) as thread:
        with pool.transaction() as tx:
            tx.rows("SELECT provision_manager.lock_runs(ARRAY[:id])", id=first)
            paused = thread.submit(Operations(PostgresOperations(pool)).pause, "o", ORDER)
            wait_until_somebody_waits(tx)
            tx.rows("SELECT provision_manager.lock_runs(ARRAY[:id])", id=last)
        paused.result()
    assert all(world.orchestrations.get(id_).paused for id_ in world.runs())


@pytest.mark.parametrize(("recorded", "state"), [(2, "DONE"), (3, "FAILED"), ("two", "FAILED")])
def test_what_is_ended_early_while_its_records_are_looked_at_is_looked_at_once_more(
    world: PostgresWorld, driver: Driver, pool: Database, emptied_url: str, recorded: object, state: str
) -> None:
    schema = {"properties": {"r": {"type": "integer"}}, "maxProperties": 2 - (recorded == 3)}
    world.definitions.put_activity_definition(ActivityDefinition(type="t", output_schema=schema))
    world.definitions.add_template(OrchestrationTemplate(id="x", activities={"one": [Activity("a", "t")]}))
    driver.start(manifest("o", "one"))
    completed = driver.outcome("o", "a", values={"r": recorded})
    end = {"orchestrationId": "o", "phase": 0, "ord": 0, "token": completed.token, "kind": "complete", "outside": True}
    early = [json.dumps([end | {"checked": "", "reason": "", "values": {"v": 1}}])]

    class Interrupted(Database):
        """Somebody outside ends the activity behind the first statement."""

        def rows(self, sql: str, **params: object) -> list[Row]:
            found = super().rows(sql, **params)
            if early:
                pool.rows(SQL["record"], outcomes=early.pop(), lease=LEASE)
            return found

    database = Interrupted(emptied_url)
    PostgresEngine(database).record([completed])
    database.close()
    assert world.nodes("o")["a"].state == state
    assert world.orchestrations.get("o").processing_data == {"r": recorded} | ({"v": 1} if state == "DONE" else {})
    assert world.orchestrations.get("o").graph[0].ending == ("" if state == "DONE" else "complete")
    assert broken(pool) == {}


@pytest.mark.parametrize("meanwhile", ["it is sent again", "its run is cancelled", "somebody else fails it"])
def test_nobody_is_told_that_an_activity_is_ended_which_meanwhile_cannot_be(
    world: PostgresWorld, driver: Driver, pool: Database, meanwhile: str
) -> None:
    define(world, one=[Activity("a", "t")])
    driver.start(manifest("o", "one"))
    made = ending(driver.sent["o", "a"])
    if meanwhile == "its run is cancelled":
        driver.record(driver.outcome("o", "a", OutcomeKind.WAIT))
    world.let_time_pass()
    with ThreadPoolExecutor(1) as thread:
        with pool.transaction() as tx:
            tx.rows("SELECT FROM provision_manager.orchestration FOR UPDATE")
            ended = thread.submit(PostgresOrchestrations(pool, KEY).end_activity, "o", "a", made)
            wait_until_somebody_waits(tx)
            match meanwhile:
                case "it is sent again":
                    tx.rows("SELECT FROM provision_manager.sweep_activities(1, interval '0', NULL)")
                case "its run is cancelled":
                    tx.rows("SELECT FROM provision_manager.cancel_run('o', 'no', NULL, interval '0')")
                case _:
                    fatal = outcome_row(driver.outcome("o", "a", OutcomeKind.FATAL), outside=True)
                    tx.rows(SQL["record"], outcomes=json.dumps([fatal]), lease=LEASE)
        refusal = ForbiddenError if meanwhile == "it is sent again" else ConflictError
        with pytest.raises(refusal):
            ended.result()
    assert broken(pool) == {}


def test_a_heartbeat_waits_for_a_step_and_changes_nothing_where_that_has_heard_the_agent(
    world: PostgresWorld, driver: Driver, pool: Database
) -> None:
    define(world, one=[Activity("a", "t")])
    driver.start(manifest("o", "one"))
    heartbeat = Heartbeat(token=driver.sent["o", "a"].token, progress="late")
    outcome = json.dumps([outcome_row(driver.outcome("o", "a"))])
    with ThreadPoolExecutor(1) as thread:
        with pool.transaction() as tx:
            tx.rows(SQL["record"], outcomes=outcome, lease=LEASE)
            beat = thread.submit(PostgresOrchestrations(pool).heartbeat, "o", "a", heartbeat)
            wait_until_somebody_waits(tx)
        with pytest.raises(ConflictError):
            beat.result()
    assert world.orchestrations.get("o").graph[0].progress is None
    assert broken(pool) == {}


def test_the_sweep_leaves_alone_whose_agent_gives_a_sign_of_life_just_then(
    world: PostgresWorld, driver: Driver, pool: Database
) -> None:
    define(world, one=[Activity("a", "t")])
    driver.start(manifest("o", "one"))
    world.let_time_pass()
    with pool.transaction() as tx:
        assert tx.value("SELECT provision_manager.heartbeat('o', 'a', :token, NULL)", token=driver.sent["o", "a"].token)
        assert driver.sweep().outbox == []
    assert driver.sweep().outbox == []
    assert world.nodes("o")["a"].dispatches == 1
