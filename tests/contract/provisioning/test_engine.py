from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from cfm_core.contracts import subjects
from cfm_core.contracts.activity import ActivityTypeAnnouncement, OutcomeKind
from cfm_core.contracts.orchestration import DEPLOY, DISPOSE, VPA_STATE, OrchestrationManifest
from cfm_core.provisioning.definitions.model import Activity, ActivityDefinition, Limits, RetryPolicy
from tests.contract.provisioning.world import (
    DIAMOND,
    Driver,
    NodeView,
    World,
    define,
    dispatches,
    ending,
    manifest,
    manifests,
    responses,
)

ONE = [Activity("a", "t")]
PAIR = [Activity("a", "t"), Activity("b", "t")]
CHAIN = [Activity("a", "t"), Activity("b", "t", ("a",))]


# Starting ---------------------------------------------------------------------------------------------------------------


def test_starting_dispatches_what_depends_on_nothing(world: World, driver: Driver) -> None:
    define(world, one=DIAMOND)
    (row,) = driver.start(manifest("o", "one", k={"n": 1})).outbox
    assert row.subject == "event.cfm.activity.t.one"
    (event,) = row.events
    assert (event["id"], event["source"], event["type"]) == (
        "o/0/0/1",
        "cfm/provision-manager",
        "cfm.activity.dispatch",
    )
    sent = dispatches([row])["a"]
    assert (sent.orchestration_id, sent.phase, sent.ord, sent.attempt) == ("o", 0, 0, 1)
    assert (sent.activity_type, sent.discriminator, sent.correlation_id) == ("t.one", "one", "of o")
    assert (sent.values, sent.outputs) == ({"k": {"n": 1}}, {})
    assert sent.deadline is not None
    assert timedelta(seconds=25) < sent.deadline - datetime.now(UTC) <= timedelta(seconds=30)
    assert world.state("o") == "RUNNING"
    assert world.nodes("o") == {
        "a": NodeView("DISPATCHED", 0, 1),
        "b": NodeView("BLOCKED", 1),
        "c": NodeView("BLOCKED", 1),
        "d": NodeView("BLOCKED", 2),
    }


def test_a_batch_makes_one_outbox_row_for_each_activity_type(world: World, driver: Driver) -> None:
    define(world, one=DIAMOND, two=[Activity("x", "t.two")])
    rows = driver.start(*(manifest(f"o{n}", "one") for n in range(3)), manifest("p", "two")).outbox
    assert sorted((row.subject, len(row.events)) for row in rows) == [
        ("event.cfm.activity.t.one", 3),
        ("event.cfm.activity.t.two", 1),
    ]


def test_a_manifest_given_twice_starts_one_run(world: World, driver: Driver) -> None:
    define(world, one=ONE)
    progress = driver.start(manifest("o", "one", k=1), manifest("o", "one", k=2))
    assert [len(row.events) for row in progress.outbox] == [1]
    assert driver.start(manifest("o", "one", k=3)).outbox == []
    assert world.orchestrations.get("o").processing_data == {"k": 1}
    assert world.nodes("o")["a"].dispatches == 1


def test_a_manifest_repeated_after_the_end_is_answered_with_the_same_response(world: World, driver: Driver) -> None:
    define(world, one=ONE)
    driver.start(manifest("o", "one"))
    first = responses(driver.complete("o", "a", outputs={"y": 1}).outbox)
    again = driver.start(manifest("o", "one"))
    assert responses(again.outbox) == first
    assert [row.subject for row in again.outbox] == [subjects.RESPONSES]


def test_an_unknown_orchestration_type_is_answered_with_a_failure(world: World, driver: Driver) -> None:
    define(world, one=ONE)
    progress = driver.start(manifest("x", "nope"), manifest("o", "one"))
    (response,) = responses(progress.outbox)
    assert (response.manifest_id, response.correlation_id, response.success) == ("x", "of x", False)
    assert response.error_detail == "there is no active orchestration type nope"
    assert set(dispatches(progress.outbox)) == {"a"}
    assert progress.refused == {}


def test_a_type_that_is_defined_later_starts_by_the_same_manifest(world: World, driver: Driver) -> None:
    driver.start(manifest("o", "one"))
    define(world, one=ONE)
    assert set(dispatches(driver.start(manifest("o", "one")).outbox)) == {"a"}


def test_a_manifest_without_correlation_id_is_answered_by_its_own_id(world: World, driver: Driver) -> None:
    (response,) = responses(driver.start(OrchestrationManifest(id="o", orchestration_type="nope")).outbox)
    assert response.correlation_id == "o"


@pytest.mark.parametrize("bad", ["a\0b", "\ud800", float("inf"), float("nan")], ids=repr)
def test_a_manifest_that_cannot_be_stored_is_refused_alone(world: World, driver: Driver, bad: object) -> None:
    define(world, one=ONE)
    good = [manifest(f"o{n}", "one") for n in range(5)]
    progress = driver.start(*good[:2], manifest("bad", "one", k=bad), *good[2:])
    assert list(progress.refused) == [2]
    assert world.dead_letters() == [subjects.MANIFESTS]
    assert sum(len(row.events) for row in progress.outbox if "activity" in row.subject) == 5
    (response,) = responses(progress.outbox)
    assert (response.manifest_id, response.success) == ("bad", False)


def test_an_id_that_cannot_be_stored_is_refused_without_an_answer(world: World, driver: Driver) -> None:
    define(world, one=ONE)
    progress = driver.start(manifest("a\0b", "one"))
    assert (list(progress.refused), progress.outbox) == ([0], [])
    assert world.dead_letters() == [subjects.MANIFESTS]


def test_the_longest_id_can_be_compensated(world: World, driver: Driver) -> None:
    define(world, deploy=ONE, dispose=ONE)
    longest = "ä" * 512
    driver.start(manifest(longest, DEPLOY))
    (undo,) = manifests(driver.record(driver.outcome(longest, "a", OutcomeKind.FATAL)).outbox)
    driver.start(undo)
    driver.complete(undo.id, "a")
    assert world.state(longest) == "COMPENSATED"
    too_long = OrchestrationManifest(id="x" * 513, correlation_id="c", orchestration_type=DEPLOY)
    assert list(driver.start(too_long).refused) == [0]


@pytest.mark.parametrize("id_", ["a/b c", "ü'\"\\%_", "..", "x.compensate", ":id", "\n"])
def test_an_id_may_be_any_text(world: World, driver: Driver, id_: str) -> None:
    define(world, one=ONE)
    driver.start(manifest(id_, "one"))
    (response,) = responses(driver.complete(id_, "a").outbox)
    assert (response.manifest_id, world.state(id_)) == (id_, "COMPLETED")


# Completing -------------------------------------------------------------------------------------------------------------


def test_a_child_starts_when_its_own_parents_are_done(world: World, driver: Driver) -> None:
    define(world, one=[*DIAMOND, Activity("slow", "t.one"), Activity("last", "t.one", ("slow",))])
    driver.start(manifest("o", "one"))
    assert set(dispatches(driver.complete("o", "a").outbox)) == {"b", "c"}
    assert set(dispatches(driver.complete("o", "c").outbox)) == set()
    assert set(dispatches(driver.complete("o", "b").outbox)) == {"d"}
    assert world.nodes("o")["slow"] == NodeView("DISPATCHED", 0, 1)


def test_children_that_become_free_in_one_batch_are_sent_once(world: World, driver: Driver) -> None:
    define(world, one=DIAMOND)
    driver.start(manifest("o", "one"))
    driver.complete("o", "a")
    progress = driver.complete("o", "b", "c")
    assert set(dispatches(progress.outbox)) == {"d"}
    assert world.nodes("o")["d"] == NodeView("DISPATCHED", 0, 1)


def test_the_last_completion_ends_the_run_and_answers_with_its_outputs(world: World, driver: Driver) -> None:
    define(world, one=CHAIN)
    driver.start(manifest("o", "one"), manifest("p", "one"))
    driver.complete("o", "a", outputs={"x": 1, "y": 1})
    driver.complete("p", "a")
    (row,) = driver.record(driver.outcome("o", "b", outputs={"y": [2]}), driver.outcome("p", "b")).outbox
    assert row.subject == subjects.RESPONSES
    first, second = responses([row])
    assert (first.manifest_id, first.correlation_id, first.orchestration_type) == ("o", "of o", "one")
    assert (first.success, first.error_detail, first.properties) == (True, "", {"x": 1, "y": [2]})
    assert (second.manifest_id, second.properties) == ("p", {})
    assert (world.state("o"), world.state("p")) == ("COMPLETED", "COMPLETED")


def test_parallel_activities_do_not_undo_each_others_values(world: World, driver: Driver) -> None:
    define(world, one=DIAMOND)
    driver.start(manifest("o", "one", gone=1, kept=2, changed=3))
    driver.complete("o", "a")
    driver.record(driver.outcome("o", "b", values={"b": 1}, deleted=["gone"]))
    progress = driver.record(driver.outcome("o", "c", values={"c": {"d": None}, "changed": 4}))
    assert dispatches(progress.outbox)["d"].values == {"kept": 2, "changed": 4, "b": 1, "c": {"d": None}}
    assert world.orchestrations.get("o").processing_data == {"kept": 2, "changed": 4, "b": 1, "c": {"d": None}}


def test_values_recorded_in_one_batch_merge_and_the_last_word_on_a_key_counts(world: World, driver: Driver) -> None:
    define(world, one=DIAMOND)
    driver.start(manifest("o", "one", k=0))
    driver.complete("o", "a")
    progress = driver.record(
        driver.outcome("o", "c", values={"c": 1, "both": "c"}, deleted=["k"], outputs={"o": "c"}),
        driver.outcome("o", "b", values={"b": 1, "both": "b", "k": 5}, deleted=["c"], outputs={"p": "b"}),
    )
    sent = dispatches(progress.outbox)["d"]
    assert (sent.values, sent.outputs) == ({"b": 1, "both": "b", "k": 5}, {"o": "c", "p": "b"})


def test_what_one_outcome_deletes_and_sets_is_set(world: World, driver: Driver) -> None:
    define(world, one=CHAIN)
    driver.start(manifest("o", "one", k=0))
    progress = driver.record(driver.outcome("o", "a", values={"k": 1}, deleted=["k"]))
    assert dispatches(progress.outbox)["b"].values == {"k": 1}


# Fencing ----------------------------------------------------------------------------------------------------------------


def test_an_outcome_recorded_twice_counts_once(world: World, driver: Driver) -> None:
    define(world, one=CHAIN)
    driver.start(manifest("o", "one"))
    outcome = driver.outcome("o", "a", outputs={"n": 1})
    driver.record(outcome)
    assert driver.record(outcome, outcome).outbox == []
    assert world.nodes("o") == {"a": NodeView("DONE", 0, 1), "b": NodeView("DISPATCHED", 0, 1)}
    assert world.history("o") == ["complete", "fenced: complete", "fenced: complete"]


def test_an_outcome_doubled_within_a_batch_counts_once(world: World, driver: Driver) -> None:
    define(world, one=CHAIN)
    driver.start(manifest("o", "one"))
    outcome = driver.outcome("o", "a")
    progress = driver.record(outcome, outcome)
    assert set(dispatches(progress.outbox)) == {"b"}
    assert sorted(world.history("o")) == ["complete", "fenced: complete"]


def test_a_superseded_outcome_changes_nothing_even_beside_the_live_one(world: World, driver: Driver) -> None:
    define(world, one=CHAIN)
    driver.start(manifest("o", "one"))
    stale = driver.outcome("o", "a", values={"from": "stale"})
    world.let_time_pass()
    driver.sweep()
    assert driver.record(stale).outbox == []
    assert world.nodes("o")["a"] == NodeView("DISPATCHED", 0, 2)
    progress = driver.record(stale, driver.outcome("o", "a", values={"from": "live"}), stale)
    assert dispatches(progress.outbox)["b"].values == {"from": "live"}


@pytest.mark.parametrize(
    "change", [{"orchestration_id": "nope"}, {"token": "x"}, {"phase": 1}, {"ord": 7}, {"ord": -1}], ids=str
)
def test_an_outcome_of_nothing_known_is_noted_and_changes_nothing(
    world: World, driver: Driver, change: dict[str, object]
) -> None:
    define(world, one=CHAIN)
    driver.start(manifest("o", "one"))
    progress = driver.record(driver.outcome("o", "a").model_copy(update=change))
    assert (progress.outbox, progress.refused) == ([], {})
    assert world.nodes("o")["a"] == NodeView("DISPATCHED", 0, 1)
    assert world.history(str(change.get("orchestration_id", "o"))) == ["fenced: complete"]


def test_an_outcome_that_cannot_be_stored_fails_its_activity_alone(world: World, driver: Driver) -> None:
    define(world, one=ONE)
    driver.start(*(manifest(f"o{n}", "one") for n in range(4)))
    outcomes = [driver.outcome(f"o{n}", "a", values={"k": "\0"} if n == 2 else {"k": n}) for n in range(4)]
    progress = driver.record(*outcomes)
    assert list(progress.refused) == [2]
    assert world.dead_letters() == [subjects.RESULTS]
    assert {one.manifest_id: one.success for one in responses(progress.outbox)} == {
        "o0": True,
        "o1": True,
        "o2": False,
        "o3": True,
    }
    assert world.orchestrations.get("o2").error_detail.startswith("activity a (t): its outcome could not be stored")


# Wait, schedule, retry --------------------------------------------------------------------------------------------------


def test_a_scheduled_activity_runs_again_after_the_delay_without_counting_as_failed(
    world: World, driver: Driver
) -> None:
    define(world, one=ONE)
    driver.start(manifest("o", "one"))
    first = driver.outcome("o", "a", OutcomeKind.SCHEDULE, after=timedelta(seconds=20), values={"seen": 1})
    assert driver.record(first).outbox == []
    assert 15 < world.seconds_until_due("o")["a"] <= 20
    assert driver.sweep().outbox == []
    world.let_time_pass()
    sent = dispatches(driver.sweep().outbox)["a"]
    assert (sent.attempt, sent.values) == (1, {"seen": 1})
    assert sent.token != first.token
    assert world.nodes("o")["a"] == NodeView("DISPATCHED", 0, 2, 0)


def test_a_waiting_activity_is_completed_with_the_token_of_its_dispatch(world: World, driver: Driver) -> None:
    define(world, one=CHAIN)
    driver.start(manifest("o", "one"))
    wait = driver.outcome("o", "a", OutcomeKind.WAIT, after=timedelta(hours=1))
    driver.record(wait)
    assert world.nodes("o")["a"].state == "WAITING"
    assert 3500 < world.seconds_until_due("o")["a"] <= 3600
    assert driver.record(wait).outbox == []
    assert set(dispatches(driver.complete("o", "a").outbox)) == {"b"}


def test_a_completion_that_overtakes_its_wait_counts(world: World, driver: Driver) -> None:
    define(world, one=CHAIN)
    driver.start(manifest("o", "one"), manifest("p", "one"))
    driver.complete("o", "a")
    driver.record(driver.outcome("o", "a", OutcomeKind.WAIT))
    driver.record(driver.outcome("p", "a", OutcomeKind.WAIT), driver.outcome("p", "a"))
    assert (world.nodes("o")["a"].state, world.nodes("p")["a"].state) == ("DONE", "DONE")


def test_a_wait_that_lasts_too_long_fails_the_run(world: World, driver: Driver) -> None:
    define(world, one=CHAIN)
    driver.start(manifest("o", "one"))
    driver.record(driver.outcome("o", "a", OutcomeKind.WAIT))
    assert 86000 < world.seconds_until_due("o")["a"] <= 86400
    world.let_time_pass()
    (response,) = responses(driver.sweep().outbox)
    assert (response.success, response.error_detail) == (False, "activity a (t): wait timed out")


def test_a_failure_is_retried_after_a_backoff_that_doubles(world: World, driver: Driver) -> None:
    define(world, one=ONE)
    world.definitions.put_activity_definition(ActivityDefinition(type="t", limits=Limits(consecutive_failures=0)))
    driver.start(*(manifest(f"o{n}", "one") for n in range(40)))
    for failures, greatest in ((1, 1.0), (2, 2.0), (3, 4.0), (4, 8.0)):
        driver.record(*(driver.outcome(f"o{n}", "a", OutcomeKind.RETRY, reason="no") for n in range(40)))
        delays = [world.seconds_until_due(f"o{n}")["a"] for n in range(40)]
        assert max(delays) <= greatest
        assert max(delays) - min(delays) > greatest / 4, "the jitter is full"
        assert world.nodes("o7")["a"] == NodeView("BACKOFF", 0, failures, failures)
        world.let_time_pass()
        assert dispatches(driver.sweep().outbox)["a"].attempt == failures + 1


def test_the_delay_that_an_agent_asks_for_overrides_the_backoff(world: World, driver: Driver) -> None:
    define(world, one=PAIR)
    driver.start(manifest("o", "one"))
    driver.record(
        driver.outcome("o", "a", OutcomeKind.RETRY, after=timedelta(minutes=5)),
        driver.outcome("o", "b", OutcomeKind.RETRY, after=timedelta(days=999_999_999)),
    )
    due = world.seconds_until_due("o")
    assert 290 < due["a"] <= 300
    assert due["b"] <= timedelta(days=366).total_seconds()


def test_the_last_allowed_failure_fails_the_run(world: World, driver: Driver) -> None:
    define(world, one=CHAIN)
    world.definitions.put_activity_definition(ActivityDefinition(type="t", retry=RetryPolicy(max_attempts=2)))
    driver.start(manifest("o", "one"))
    assert driver.record(driver.outcome("o", "a", OutcomeKind.RETRY, reason="first")).outbox == []
    world.let_time_pass()
    driver.sweep()
    (response,) = responses(driver.record(driver.outcome("o", "a", OutcomeKind.RETRY, reason="second")).outbox)
    assert response.error_detail == "activity a (t) failed after 2 attempts: second"
    assert world.nodes("o") == {"a": NodeView("FAILED", 0, 2, 2), "b": NodeView("CANCELLED", 1)}
    assert world.state("o") == "ERRORED"


def test_a_policy_is_the_definitions_then_the_agents_then_the_default(world: World, driver: Driver) -> None:
    define(world, one=[Activity("default", "d"), Activity("announced", "a"), Activity("defined", "b")])
    announced = {"max_attempts": 1, "backoff": timedelta(seconds=9), "backoff_limit": timedelta(seconds=9)}
    types = [
        ActivityTypeAnnouncement(activity_type=type_, timeout=timedelta(seconds=seconds), **announced)
        for type_, seconds in (("a", 1), ("a", 100), ("b", 100), ("unused", 100))
    ]
    world.engine.register_types(types)
    assert world.engine.register_types(types).outbox == []
    world.definitions.put_activity_definition(ActivityDefinition(type="b", timeout=timedelta(seconds=200)))
    driver.start(manifest("o", "one"))
    due = {id_: round(seconds / 5) * 5 for id_, seconds in world.seconds_until_due("o").items()}
    assert due == {"default": 45, "announced": 115, "defined": 215}
    (response,) = responses(driver.record(driver.outcome("o", "defined", OutcomeKind.RETRY, reason="x")).outbox)
    assert response.error_detail == "activity defined (b) failed after 1 attempts: x"


# Leases -----------------------------------------------------------------------------------------------------------------


def test_an_activity_that_nobody_answers_is_sent_again_with_a_new_token(world: World, driver: Driver) -> None:
    define(world, one=ONE)
    driver.start(manifest("o", "one"))
    first = driver.outcome("o", "a")
    assert driver.sweep().outbox == []
    world.let_time_pass()
    progress = driver.sweep()
    sent = dispatches(progress.outbox)["a"]
    assert (sent.attempt, progress.outbox[0].events[0]["id"]) == (1, "o/0/0/2")
    assert sent.token != first.token
    assert world.nodes("o")["a"] == NodeView("DISPATCHED", 0, 2, 0)
    assert driver.sweep().outbox == []


def test_ten_dispatches_without_a_sign_of_life_fail_the_run(world: World, driver: Driver) -> None:
    define(world, one=ONE)
    driver.start(manifest("o", "one"))
    for _ in range(9):
        world.let_time_pass()
        assert set(dispatches(driver.sweep().outbox)) == {"a"}
    world.let_time_pass()
    (response,) = responses(driver.sweep().outbox)
    assert response.error_detail == "activity a (t): no agent answered for activity type t"
    assert world.nodes("o")["a"] == NodeView("FAILED", 0, 10, 0)


def test_a_sign_of_life_starts_the_count_of_silent_dispatches_anew(world: World, driver: Driver) -> None:
    define(world, one=ONE)
    driver.start(manifest("o", "one"))
    for _ in range(9):
        world.let_time_pass()
        driver.sweep()
    driver.record(driver.outcome("o", "a", OutcomeKind.SCHEDULE, after=timedelta(0)))
    for _ in range(10):
        world.let_time_pass()
        assert set(dispatches(driver.sweep().outbox)) == {"a"}
    assert world.nodes("o")["a"] == NodeView("DISPATCHED", 0, 20, 0)


def test_a_sweep_takes_no_more_than_it_is_told(world: World, driver: Driver) -> None:
    define(world, one=ONE)
    driver.start(*(manifest(f"o{n}", "one") for n in range(5)))
    world.let_time_pass()
    assert [sum(len(row.events) for row in world.engine.sweep(2).outbox) for _ in range(4)] == [2, 2, 1, 0]


# Failing and compensating -----------------------------------------------------------------------------------------------


def test_a_fatal_outcome_fails_the_run_and_cancels_what_was_not_sent(world: World, driver: Driver) -> None:
    define(world, one=[*PAIR, Activity("c", "t", ("a",)), Activity("d", "t"), Activity("e", "t")])
    driver.start(manifest("o", "one"))
    driver.record(
        driver.outcome("o", "d", OutcomeKind.WAIT), driver.outcome("o", "e", OutcomeKind.RETRY, outputs={"y": 1})
    )
    progress = driver.record(driver.outcome("o", "a", OutcomeKind.FATAL, reason="no way"))
    (response,) = responses(progress.outbox)
    assert (response.success, response.error_detail) == (False, "activity a (t): no way")
    assert response.properties == {"y": 1}
    assert {id_: node.state for id_, node in world.nodes("o").items()} == {
        "a": "FAILED",
        "b": "DISPATCHED",
        "c": "CANCELLED",
        "d": "CANCELLED",
        "e": "CANCELLED",
    }
    assert world.state("o") == "ERRORED"
    assert len(progress.outbox) == 1


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        (OutcomeKind.COMPLETE, "DONE"),
        (OutcomeKind.FATAL, "FAILED"),
        (OutcomeKind.RETRY, "CANCELLED"),
        (OutcomeKind.SCHEDULE, "CANCELLED"),
        (OutcomeKind.WAIT, "CANCELLED"),
    ],
)
def test_what_was_out_when_the_run_failed_ends_without_consequences(
    world: World, driver: Driver, kind: OutcomeKind, state: str
) -> None:
    define(world, one=[*PAIR, Activity("c", "t", ("b",))])
    driver.start(manifest("o", "one"))
    driver.record(driver.outcome("o", "a", OutcomeKind.FATAL))
    assert driver.record(driver.outcome("o", "b", kind, values={"late": 1})).outbox == []
    assert {id_: node.state for id_, node in world.nodes("o").items()} == {"a": "FAILED", "b": state, "c": "CANCELLED"}
    assert world.orchestrations.get("o").processing_data == {"late": 1}


def test_in_one_batch_a_fatal_outcome_keeps_the_others_from_dispatching(world: World, driver: Driver) -> None:
    define(world, one=[*PAIR, Activity("c", "t", ("b",)), Activity("d", "t")])
    driver.start(manifest("o", "one"))
    progress = driver.record(
        driver.outcome("o", "b"),
        driver.outcome("o", "d", OutcomeKind.SCHEDULE),
        driver.outcome("o", "a", OutcomeKind.FATAL),
    )
    assert [row.subject for row in progress.outbox] == [subjects.RESPONSES]
    assert world.nodes("o")["c"] == NodeView("CANCELLED", 0)
    assert world.nodes("o")["d"].state == "CANCELLED"


def test_two_fatal_outcomes_in_one_batch_give_one_response(world: World, driver: Driver) -> None:
    define(world, one=PAIR)
    driver.start(manifest("o", "one"))
    progress = driver.record(
        driver.outcome("o", "b", OutcomeKind.FATAL, reason="first"), driver.outcome("o", "a", OutcomeKind.FATAL)
    )
    assert [one.error_detail for one in responses(progress.outbox)] == ["activity b (t): first"]


def test_a_failed_deployment_is_compensated_once_its_last_activity_is_in(world: World, driver: Driver) -> None:
    define(world, deploy=PAIR, dispose=CHAIN)
    driver.start(manifest("o", DEPLOY, given=1))
    progress = driver.record(driver.outcome("o", "a", OutcomeKind.FATAL, values={"a": 1}))
    assert [row.subject for row in progress.outbox] == [subjects.RESPONSES]
    assert world.state("o") == "COMPENSATING"

    progress = driver.complete("o", "b", values={"b": 1}, outputs={"out": 1})
    assert [row.subject for row in progress.outbox] == [subjects.MANIFESTS]
    assert progress.outbox[0].events[0]["id"] == "o.compensate"
    (undo,) = manifests(progress.outbox)
    assert (undo.id, undo.correlation_id, undo.orchestration_type) == ("o.compensate", "of o", DISPOSE)
    assert undo.payload == {"given": 1, "a": 1, "b": 1, VPA_STATE: {"out": 1}}

    driver.start(undo, undo)
    driver.start(undo)
    driver.complete("o.compensate", "a")
    assert world.state("o") == "COMPENSATING"
    (response,) = responses(driver.complete("o.compensate", "b").outbox)
    assert (response.manifest_id, response.success, response.orchestration_type) == ("o.compensate", True, DISPOSE)
    assert (world.state("o"), world.state("o.compensate")) == ("COMPENSATED", "COMPLETED")
    assert world.outbox().count(subjects.MANIFESTS) == 1


def test_a_run_without_siblings_is_compensated_at_once_after_its_response(world: World, driver: Driver) -> None:
    define(world, deploy=ONE, dispose=ONE)
    driver.start(manifest("o", DEPLOY))
    progress = driver.record(driver.outcome("o", "a", OutcomeKind.FATAL))
    assert [row.subject for row in progress.outbox] == [subjects.RESPONSES, subjects.MANIFESTS]


def test_a_compensation_gets_what_somebody_outside_has_recorded_before_the_agent_was_heard(
    world: World, driver: Driver
) -> None:
    define(world, deploy=[Activity("a", "t"), Activity("b", "t"), Activity("z", "t")], dispose=[Activity("u", "t")])
    driver.start(manifest("o", DEPLOY, kept=1, replaced=1))
    for activity, said in (("b", {"both": "b", "replaced": 2}), ("a", {"both": "a"})):
        early = ending(driver.sent["o", activity], values=said, outputs={activity: 1, "both": activity})
        world.orchestrations.end_activity("o", activity, early)
    driver.record(driver.outcome("o", "z", OutcomeKind.FATAL, outputs={"both": "z", "z": 1}))
    world.let_time_pass()
    (undo,) = manifests(driver.sweep().outbox)
    assert undo.payload == {
        "kept": 1,
        "replaced": 2,
        "both": "b",
        "cfm.vpa.state": {"a": 1, "b": 1, "z": 1, "both": "b"},
    }


def test_the_end_of_the_last_lease_lets_the_compensation_begin(world: World, driver: Driver) -> None:
    define(world, deploy=PAIR, dispose=ONE)
    driver.start(manifest("o", DEPLOY))
    late = driver.outcome("o", "b")
    driver.record(driver.outcome("o", "a", OutcomeKind.FATAL))
    world.let_time_pass()
    assert [one.id for one in manifests(driver.sweep().outbox)] == ["o.compensate"]
    assert world.nodes("o")["b"].state == "CANCELLED"
    assert driver.record(late).outbox == []


def test_a_compensation_that_fails_is_shown_and_not_compensated(world: World, driver: Driver) -> None:
    define(world, deploy=ONE, dispose=ONE)
    driver.start(manifest("o", DEPLOY))
    driver.start(*manifests(driver.record(driver.outcome("o", "a", OutcomeKind.FATAL)).outbox))
    progress = driver.record(driver.outcome("o.compensate", "a", OutcomeKind.FATAL))
    assert [row.subject for row in progress.outbox] == [subjects.RESPONSES]
    assert (world.state("o"), world.state("o.compensate")) == ("COMPENSATION_FAILED", "ERRORED")


def test_a_compensation_that_times_out_is_shown(world: World, driver: Driver) -> None:
    define(world, deploy=ONE, dispose=ONE)
    driver.start(manifest("o", DEPLOY))
    driver.start(*manifests(driver.record(driver.outcome("o", "a", OutcomeKind.FATAL)).outbox))
    driver.record(driver.outcome("o.compensate", "a", OutcomeKind.WAIT))
    world.let_time_pass()
    driver.sweep()
    assert world.state("o") == "COMPENSATION_FAILED"


def test_a_compensation_whose_manifest_was_lost_is_asked_for_again(world: World, driver: Driver) -> None:
    define(world, deploy=ONE, dispose=ONE)
    driver.start(manifest("o", DEPLOY))
    (undo,) = manifests(driver.record(driver.outcome("o", "a", OutcomeKind.FATAL)).outbox)
    assert driver.sweep().outbox == []
    world.let_time_pass()
    assert manifests(driver.sweep().outbox) == [undo]
    assert driver.sweep().outbox == []
    driver.start(undo)
    world.let_time_pass()
    assert manifests(driver.sweep().outbox) == []


def test_whoever_asks_after_a_failed_run_hears_how_it_was_undone_as_well(world: World, driver: Driver) -> None:
    define(world, deploy=ONE, dispose=ONE)
    driver.start(manifest("o", DEPLOY))
    (undo,) = manifests(driver.record(driver.outcome("o", "a", OutcomeKind.FATAL)).outbox)
    assert [one.manifest_id for one in responses(driver.start(manifest("o", DEPLOY)).outbox)] == ["o"]
    driver.start(undo)
    assert [one.manifest_id for one in responses(driver.start(manifest("o", DEPLOY)).outbox)] == ["o"]
    (undone,) = responses(driver.complete("o.compensate", "a").outbox)
    again = sorted(responses(driver.start(manifest("o", DEPLOY)).outbox), key=lambda one: one.manifest_id)
    assert [(one.manifest_id, one.success) for one in again] == [("o", False), ("o.compensate", True)]
    assert again[1] == undone


def test_a_compensation_that_can_no_longer_start_is_shown(world: World, driver: Driver) -> None:
    define(world, deploy=ONE, dispose=ONE)
    driver.start(manifest("o", DEPLOY))
    (undo,) = manifests(driver.record(driver.outcome("o", "a", OutcomeKind.FATAL)).outbox)
    (response,) = responses(driver.start(undo.model_copy(update={"orchestration_type": "gone"})).outbox)
    assert response.success is False
    assert world.state("o") == "COMPENSATION_FAILED"


def test_a_dispose_of_another_template_compensates_nothing(world: World, driver: Driver) -> None:
    define(world, deploy=ONE)
    define(world, dispose=ONE)
    driver.start(manifest("o", DEPLOY))
    progress = driver.record(driver.outcome("o", "a", OutcomeKind.FATAL))
    assert [row.subject for row in progress.outbox] == [subjects.RESPONSES]
    assert world.state("o") == "ERRORED"


def test_a_run_that_began_before_an_upgrade_is_compensated_by_what_is_in_force_now(
    world: World, driver: Driver
) -> None:
    define(world, deploy=ONE, dispose=ONE)
    driver.start(manifest("o", DEPLOY))
    define(world, deploy=PAIR, dispose=[Activity("z", "t")])
    (undo,) = manifests(driver.record(driver.outcome("o", "a", OutcomeKind.FATAL)).outbox)
    assert set(dispatches(driver.start(undo).outbox)) == {"z"}


def test_a_failed_dispose_is_not_compensated(world: World, driver: Driver) -> None:
    define(world, deploy=ONE, dispose=ONE)
    driver.start(manifest("o", DISPOSE))
    progress = driver.record(driver.outcome("o", "a", OutcomeKind.FATAL))
    assert [row.subject for row in progress.outbox] == [subjects.RESPONSES]
    assert world.state("o") == "ERRORED"


def test_a_failed_change_of_a_live_participant_is_not_compensated(world: World, driver: Driver) -> None:
    define(world, deploy=ONE, dispose=ONE)
    driver.start(manifest("o", DEPLOY, **{VPA_STATE: {}}))
    driver.start(manifest("p", DEPLOY))
    progress = driver.record(driver.outcome("o", "a", OutcomeKind.FATAL))
    assert [row.subject for row in progress.outbox] == [subjects.RESPONSES]
    assert world.state("o") == "ERRORED"
    # A value of that name which an activity has set is another matter.
    progress = driver.record(driver.outcome("p", "a", OutcomeKind.FATAL, values={VPA_STATE: {}}))
    assert [row.subject for row in progress.outbox] == [subjects.RESPONSES, subjects.MANIFESTS]


def test_a_failed_run_stays_failed_whatever_is_heard_afterwards(world: World, driver: Driver) -> None:
    define(world, one=PAIR)
    driver.start(manifest("o", "one"))
    driver.record(driver.outcome("o", "a", OutcomeKind.FATAL, reason="the first"))
    driver.record(driver.outcome("o", "b", OutcomeKind.FATAL, reason="the second"))
    driver.start(manifest("o", "one"))
    run = world.orchestrations.get("o")
    assert (run.state, run.error_detail) == ("ERRORED", "activity a (t): the first")
