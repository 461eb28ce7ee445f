"""Which activities are sent where a type has limits, is paused, or keeps failing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cfm_core.contracts.activity import ActivityTypeAnnouncement, OutcomeKind
from cfm_core.contracts.orchestration import TENANT_ID, OrchestrationManifest
from cfm_core.errors import NotFoundError, PreconditionFailedError, ValidationError
from cfm_core.provisioning.definitions.model import Activity, ActivityDefinition, Limits, Rate
from cfm_core.provisioning.operations.model import Order
from cfm_core.query import Page
from cfm_core.versions import Expected
from tests.contract.provisioning.world import Driver, NodeView, Outbox, World, all_dispatches, define, manifest

ORDER = Order(actor="ann", reason="maintenance", request_id="r1")
ONE = [Activity("a", "t")]
CHAIN = [Activity("a", "t"), Activity("b", "t", ("a",))]


def limit(world: World, type_: str = "t", **limits: Any) -> None:
    world.definitions.put_activity_definition(ActivityDefinition(type=type_, limits=Limits(**limits)))


def runs(ids: Iterable[str], tenant: str = "") -> list[OrchestrationManifest]:
    return [manifest(id_, "one", **({TENANT_ID: tenant} if tenant else {})) for id_ in ids]


def sent(outbox: Outbox) -> list[str]:
    return [one.orchestration_id for one in all_dispatches(outbox)]


def fail(driver: Driver, *ids: str) -> None:
    driver.record(*(driver.outcome(id_, "a", OutcomeKind.RETRY) for id_ in ids))


# Limits -----------------------------------------------------------------------------------------------------------------


def test_no_more_is_sent_than_the_limit_allows_and_the_rest_in_its_order(world: World, driver: Driver) -> None:
    define(world, one=ONE)
    limit(world, concurrency=2)
    assert sent(driver.start(*runs("ab"), *runs("cd")).outbox) == ["a", "b"]
    assert world.nodes("c")["a"] == NodeView("READY")
    assert sent(driver.complete("b", "a").outbox) == ["c"]
    assert sent(driver.complete("a", "a").outbox) == ["d"]
    assert driver.sweep().outbox == []
    driver.record(driver.outcome("c", "a"), driver.outcome("d", "a"))
    assert {world.state(id_) for id_ in "abcd"} == {"COMPLETED"}


@pytest.mark.parametrize("kind", [OutcomeKind.WAIT, OutcomeKind.SCHEDULE, OutcomeKind.RETRY, OutcomeKind.FATAL])
def test_whatever_an_agent_answers_makes_room(world: World, driver: Driver, kind: OutcomeKind) -> None:
    define(world, one=ONE)
    limit(world, concurrency=1)
    driver.start(*runs("ab"))
    assert sent(driver.record(driver.outcome("a", "a", kind)).outbox) == ["b"]


def test_a_dispatch_that_nobody_answers_makes_room_and_queues_again(world: World, driver: Driver) -> None:
    define(world, one=ONE)
    limit(world, concurrency=1)
    driver.start(*runs("ab"))
    world.let_time_pass()
    assert sent(driver.sweep().outbox) == ["b"]
    assert world.nodes("a")["a"] == NodeView("READY", 0, 1)
    assert sent(driver.complete("b", "a").outbox) == ["a"]


def test_a_tenant_has_no_more_in_flight_than_its_share(world: World, driver: Driver) -> None:
    define(world, one=ONE)
    limit(world, concurrency=3, concurrency_per_tenant=2)
    driver.start(*runs("abcd", "x"))
    assert {world.nodes(id_)["a"].state for id_ in "cd"} == {"READY"}
    assert sent(driver.start(*runs("ef", "y")).outbox) == ["e"]
    assert sent(driver.complete("e", "a").outbox) == ["f"]
    assert sent(driver.complete("f", "a").outbox) == []
    assert sent(driver.complete("a", "a").outbox) == ["c"]


def test_many_queued_runs_of_one_tenant_hold_up_no_other(world: World, driver: Driver) -> None:
    """10,000 queued runs, four at a time: at each of its activities, another tenant's run waits for one that is out."""
    define(world, one=CHAIN)
    limit(world, concurrency=4)
    for first in range(0, 10_000, 1_000):
        driver.start(*runs((f"m{n:05}" for n in range(first, first + 1_000)), "many"))
    driver.start(*runs(["single"], "one"))
    assert world.nodes("single")["a"].state == "READY"
    answered = 0
    while world.state("single") != "COMPLETED":
        # Agents answer in the order in which they were asked.
        key = next(iter(driver.sent))
        outcome = driver.outcome(*key)
        del driver.sent[key]
        driver.record(outcome)
        answered += 1
        assert answered <= 12


def test_a_limit_counts_what_was_out_before_it_was_set(world: World, driver: Driver) -> None:
    define(world, one=ONE)
    driver.start(*runs("ab"))
    limit(world, concurrency=2)
    assert sent(driver.start(*runs("c")).outbox) == []
    assert sent(driver.complete("a", "a").outbox) == ["c"]


def test_a_limit_that_is_lifted_lets_everything_go(world: World, driver: Driver) -> None:
    define(world, one=ONE)
    limit(world, concurrency=1)
    driver.start(*runs("abc"))
    limit(world)
    assert sorted(sent(driver.sweep().outbox)) == ["b", "c"]
    assert sent(driver.start(*runs("d")).outbox) == ["d"]


def test_a_paused_run_leaves_the_queue_and_comes_back(world: World, driver: Driver) -> None:
    define(world, one=ONE)
    limit(world, concurrency=1)
    driver.start(*runs("abc"))
    world.operations.pause("b", ORDER)
    assert sent(driver.complete("a", "a").outbox) == ["c"]
    driver.hear()
    world.operations.resume("b", ORDER)
    assert driver.hear() == []
    assert sent(driver.complete("c", "a").outbox) == ["b"]


def test_a_cancelled_run_leaves_the_queue(world: World, driver: Driver) -> None:
    define(world, one=ONE)
    limit(world, concurrency=1)
    driver.start(*runs("abc"))
    assert world.operations.cancel("b", ORDER).state == "CANCELLED"
    assert sent(driver.complete("a", "a").outbox) == ["c"]


def test_tenants_take_turns_where_one_goes_at_a_time(world: World, driver: Driver) -> None:
    define(world, one=ONE)
    limit(world, concurrency=1)
    driver.start(*runs("abc", "many"))
    driver.start(*runs("x", "one"))
    # The others have waited since "a" was sent, "x" since a little later.
    for before, then in ("ab", "bx", "xc"):
        assert sent(driver.complete(before, "a").outbox) == [then]


@pytest.mark.parametrize("bad", [{"concurrency": 0}, {"concurrency_per_tenant": -1}, {"consecutive_failures": -1}])
def test_a_limit_that_makes_no_sense_is_refused(world: World, bad: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="/limits/"):
        limit(world, "t", **bad)


# Rates ------------------------------------------------------------------------------------------------------------------


def test_no_more_is_sent_in_a_period_than_the_rate_allows(world: World, driver: Driver) -> None:
    define(world, one=ONE)
    limit(world, rate=Rate(2, timedelta(minutes=1)))
    assert sent(driver.start(*runs("abcde")).outbox) == ["a", "b"]
    assert driver.complete("a", "a").outbox[1:] == []
    assert driver.sweep().outbox == []
    world.let_time_pass()
    assert sent(driver.sweep().outbox) == ["c", "d"]
    assert driver.sweep().outbox == []
    world.let_time_pass()
    assert sent(driver.sweep().outbox) == ["b", "e"]


@pytest.mark.parametrize("kind", [OutcomeKind.RETRY, OutcomeKind.SCHEDULE])
def test_what_is_sent_again_counts_in_a_rate(world: World, driver: Driver, kind: OutcomeKind) -> None:
    define(world, one=ONE)
    limit(world, rate=Rate(1, timedelta(minutes=1)))
    driver.start(*runs("a"))
    driver.record(driver.outcome("a", "a", kind, after=timedelta(0)))
    assert driver.sweep().outbox == []
    assert world.nodes("a")["a"].state == "READY"
    world.let_time_pass()
    assert sent(driver.sweep().outbox) == ["a"]


def test_a_rate_holds_for_what_operators_send(world: World, driver: Driver) -> None:
    define(world, one=ONE)
    limit(world, rate=Rate(1, timedelta(minutes=1)))
    driver.start(*runs("a"))
    driver.record(driver.outcome("a", "a", OutcomeKind.FATAL))
    driver.hear()
    world.operations.retry("a", ORDER)
    assert driver.hear() == []
    world.activity_types.pause("t", ORDER)
    world.activity_types.resume("t", ORDER)
    assert driver.hear() == []
    world.let_time_pass()
    assert sent(driver.sweep().outbox) == ["a"]


def test_a_tenant_sends_no_more_in_a_period_than_its_rate_allows(world: World, driver: Driver) -> None:
    define(world, one=ONE)
    limit(world, rate=Rate(3, timedelta(minutes=1)), rate_per_tenant=Rate(2, timedelta(minutes=2)))
    assert sent(driver.start(*runs("abc", "x")).outbox) == ["a", "b"]
    assert sent(driver.start(*runs("de", "y")).outbox) == ["d"]
    driver.record(*(driver.outcome(id_, "a") for id_ in "abd"))
    world.let_time_pass()
    assert sent(driver.sweep().outbox) == ["c", "e"]


def test_tenants_take_turns_where_a_rate_lets_one_through_at_a_time(world: World, driver: Driver) -> None:
    define(world, one=ONE)
    limit(world, rate=Rate(1, timedelta(minutes=1)))
    order = sent(driver.start(*runs("abc", "x"), *runs("de", "y"), *runs("f", "z")).outbox)
    while order[-1:] != ["c"]:
        driver.complete(order[-1], "a")
        world.let_time_pass()
        order += sent(driver.sweep().outbox)
    assert order == ["a", "d", "f", "b", "e", "c"]


def test_a_rate_and_a_limit_hold_together(world: World, driver: Driver) -> None:
    define(world, one=ONE)
    limit(world, concurrency=1, rate=Rate(2, timedelta(minutes=1)))
    assert sent(driver.start(*runs("abc")).outbox) == ["a"]
    assert sent(driver.complete("a", "a").outbox) == ["b"]
    assert sent(driver.complete("b", "a").outbox) == []
    world.let_time_pass()
    assert sent(driver.sweep().outbox) == ["c"]


def test_a_rate_that_is_lifted_lets_everything_go_and_one_that_comes_back_counts_anew(
    world: World, driver: Driver
) -> None:
    define(world, one=ONE)
    limit(world, rate=Rate(1, timedelta(minutes=1)))
    driver.start(*runs("abc"))
    limit(world)
    assert sorted(sent(driver.sweep().outbox)) == ["b", "c"]
    limit(world, rate=Rate(1, timedelta(minutes=1)))
    assert len(sent(driver.start(*runs("de")).outbox)) <= 1


def test_runs_and_types_say_that_a_rate_holds_them_back(world: World, driver: Driver) -> None:
    define(world, one=ONE)
    limit(world, rate=Rate(2, timedelta(minutes=1)), rate_per_tenant=Rate(1, timedelta(minutes=2)))
    driver.start(*runs("ab", "x"))
    shown = world.activity_types.get("t")
    assert (shown.rate, shown.rate_opens_at) == (Rate(2, timedelta(minutes=1)), None)
    assert list(shown.tenant_rates_open_at) == ["x"]
    (waits,) = world.orchestrations.get("b").graph
    assert waits.rate_opens_at == shown.tenant_rates_open_at["x"]
    assert timedelta(seconds=110) < waits.rate_opens_at - datetime.now(UTC) <= timedelta(minutes=2)

    driver.start(*runs("cd", "y"))
    shown = world.activity_types.get("t")
    assert shown.rate_opens_at is not None
    assert timedelta(seconds=50) < shown.rate_opens_at - datetime.now(UTC) <= timedelta(minutes=1)
    assert sorted(shown.tenant_rates_open_at) == ["x", "y"]
    world.let_time_pass()
    assert world.activity_types.get("t").rate_opens_at is None
    assert world.orchestrations.get("b").graph[0].rate_opens_at is None


def test_all_that_is_wrong_with_rates_is_said_at_once(world: World) -> None:
    with pytest.raises(ValidationError) as refused:
        limit(world, concurrency=0, rate=Rate(0, timedelta(0)), rate_per_tenant=Rate(10_001, timedelta(days=400)))
    assert [one.pointer for one in refused.value.errors] == [
        "/limits/concurrency",
        *("/limits/rate/count", "/limits/rate/per"),
        *("/limits/ratePerTenant/count", "/limits/ratePerTenant/per"),
    ]


# Pausing a type ---------------------------------------------------------------------------------------------------------


def test_nothing_of_a_paused_type_is_sent(world: World, driver: Driver) -> None:
    define(world, one=[Activity("a", "t"), Activity("b", "u"), Activity("c", "t", ("b",))])
    driver.start(*runs("x"))
    world.activity_types.pause("t", ORDER)
    assert driver.complete("x", "a", "b").outbox == []
    assert Counter(one.activity_type for one in all_dispatches(driver.start(*runs("y")).outbox)) == {"u": 1}
    assert {world.nodes("x")["c"].state, world.nodes("y")["a"].state} == {"READY"}
    world.let_time_pass()
    assert sent(driver.sweep().outbox) == ["y"]
    driver.hear()
    world.activity_types.resume("t", ORDER)
    assert sorted(sent(driver.hear())) == ["x", "y"]


def test_a_type_is_paused_once_and_noted(world: World, driver: Driver) -> None:
    define(world, one=ONE)
    paused = world.activity_types.pause("t", ORDER)
    assert world.activity_types.pause("t", ORDER) == paused
    with pytest.raises(PreconditionFailedError):
        world.activity_types.resume("t", ORDER, Expected(frozenset({paused.version + 1})))
    world.activity_types.resume("t", ORDER, Expected(frozenset({paused.version})))
    world.activity_types.resume("t", ORDER)
    assert world.audit.select("activityType = 't'", Page()).total == 2
    for unknown in ("nope", "", "a\0b"):
        with pytest.raises(NotFoundError):
            world.activity_types.pause(unknown, ORDER)


# Failures ---------------------------------------------------------------------------------------------------------------


def test_many_failures_in_a_row_close_a_type_until_a_probe_succeeds(world: World, driver: Driver) -> None:
    define(world, one=ONE)
    limit(world, consecutive_failures=3)
    driver.start(*runs("abcd"))
    fail(driver, "a", "b")
    assert sent(driver.start(*runs("e")).outbox) == ["e"]
    fail(driver, "c")
    closed = world.activity_types.get("t")
    assert closed.failures == 3
    assert closed.probe_at is not None
    assert timedelta(seconds=8) < closed.probe_at - datetime.now(UTC) <= timedelta(seconds=10)
    assert sent(driver.start(*runs("f")).outbox) == []
    world.let_time_pass()
    # What was out when the type was closed counts as a probe as well.
    (probe,) = sent(driver.sweep().outbox)
    assert sent(driver.sweep().outbox) == []
    waiting = {id_ for id_ in "abcdef" if world.nodes(id_)["a"].state == "READY"}
    assert sorted(sent(driver.complete(probe, "a").outbox)) == sorted(waiting)
    assert world.activity_types.get("t").probe_at is None


def test_a_probe_that_fails_closes_the_type_for_twice_as_long(world: World, driver: Driver) -> None:
    define(world, one=ONE)
    limit(world, consecutive_failures=1)
    driver.start(*runs("a"))
    for seconds in (10, 20, 40):
        fail(driver, "a")
        probe_at = world.activity_types.get("t").probe_at
        assert probe_at is not None
        assert timedelta(seconds=seconds - 2) < probe_at - datetime.now(UTC) <= timedelta(seconds=seconds)
        world.let_time_pass()
        driver.sweep()


def test_a_success_between_them_makes_failures_harmless(world: World, driver: Driver) -> None:
    define(world, one=ONE)
    limit(world, consecutive_failures=2)
    driver.start(*runs("abcd"))
    fail(driver, "a")
    driver.complete("b", "a")
    fail(driver, "c")
    assert world.activity_types.get("t").failures == 1
    assert world.activity_types.get("t").probe_at is None


# What is shown ----------------------------------------------------------------------------------------------------------


def test_types_are_shown_with_what_is_queued_and_in_flight_by_tenant(world: World, driver: Driver) -> None:
    define(world, one=CHAIN, two=[Activity("a", "u")])
    limit(world, concurrency=2)
    announced = ActivityTypeAnnouncement(
        activity_type="only.announced",
        timeout=timedelta(seconds=1),
        max_attempts=1,
        backoff=timedelta(seconds=1),
        backoff_limit=timedelta(seconds=1),
    )
    world.engine.register_types([announced])
    driver.start(*runs("ab", "x"), *runs("cd", "y"))
    driver.record(driver.outcome("a", "a", OutcomeKind.WAIT))
    shown = {one.type: one for one in world.activity_types.all()}
    assert list(shown) == ["only.announced", "t", "u"]
    assert [one.has_agent for one in shown.values()] == [True, False, False]
    assert shown["t"].concurrency == 2
    assert shown["t"].counts == {"x": {"WAITING": 1}, "y": {"DISPATCHED": 1, "READY": 1}} | {
        "x": dict(shown["t"].counts["x"])
    }
    assert sum(n for of_tenant in shown["t"].counts.values() for n in of_tenant.values()) == 4
    assert world.activity_types.get("t") == shown["t"]
    assert world.orchestrations.get("d").graph[0].state == "READY"
