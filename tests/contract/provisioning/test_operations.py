from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from cfm_core.contracts import subjects
from cfm_core.contracts.activity import OutcomeKind
from cfm_core.contracts.orchestration import DEPLOY, DISPOSE, VPA_STATE
from cfm_core.errors import ConflictError, NotFoundError, PreconditionFailedError, RefusedError, ValidationError
from cfm_core.provisioning.definitions.model import Activity
from cfm_core.provisioning.operations.model import Order, Resolution
from cfm_core.query import Page
from cfm_core.versions import Expected
from tests.contract.provisioning.world import (
    DIAMOND,
    Driver,
    NodeView,
    World,
    define,
    dispatches,
    manifest,
    manifests,
    responses,
)

ORDER = Order(actor="ann", reason="the issuer is away", request_id="r1")
ONE = [Activity("a", "t")]
CHAIN = [Activity("a", "t"), Activity("b", "t", ("a",))]
PAIR = [Activity("a", "t"), Activity("b", "t")]


def noted(world: World, predicate: str = "true") -> list[dict[str, Any]]:
    return list(json.loads(world.audit.select(predicate, Page()).json))


def actions(world: World) -> list[str]:
    return [one["action"] for one in noted(world)]


def states(world: World, id_: str = "o") -> dict[str, str]:
    return {activity: node.state for activity, node in world.nodes(id_).items()}


def failed(world: World, driver: Driver, *activities: str, id_: str = "o") -> None:
    driver.record(*(driver.outcome(id_, one, OutcomeKind.FATAL, reason="broken") for one in activities))


# Pausing ----------------------------------------------------------------------------------------------------------------


def test_a_paused_run_sends_nothing_until_it_is_resumed(world: World, driver: Driver) -> None:
    define(world, one=DIAMOND)
    driver.start(manifest("o", "one"))
    paused = world.operations.pause("o", ORDER)
    assert (paused.paused, paused.state) == (True, "RUNNING")
    assert driver.complete("o", "a").outbox == []
    assert states(world) == {"a": "DONE", "b": "READY", "c": "READY", "d": "BLOCKED"}
    world.let_time_pass()
    assert driver.sweep().outbox == []
    driver.hear()
    world.operations.resume("o", ORDER)
    assert set(dispatches(driver.hear())) == {"b", "c"}
    driver.complete("o", "b", "c")
    driver.complete("o", "d")
    assert world.state("o") == "COMPLETED"


def test_what_comes_due_while_a_run_is_paused_is_held_back(world: World, driver: Driver) -> None:
    define(world, one=[*PAIR, Activity("c", "t")])
    driver.start(manifest("o", "one"))
    late = driver.outcome("o", "b")
    driver.record(driver.outcome("o", "a", OutcomeKind.RETRY), driver.outcome("o", "c", OutcomeKind.WAIT))
    world.operations.pause("o", ORDER)
    driver.hear()
    world.let_time_pass()
    assert [one.success for one in responses(driver.sweep().outbox)] == [False]
    assert states(world) == {"a": "CANCELLED", "b": "CANCELLED", "c": "FAILED"}
    assert driver.record(late).outbox == []


def test_an_answer_to_a_lease_that_ended_in_the_pause_comes_too_late(world: World, driver: Driver) -> None:
    define(world, one=PAIR)
    driver.start(manifest("o", "one"))
    driver.record(driver.outcome("o", "a", OutcomeKind.SCHEDULE))
    late = driver.outcome("o", "b")
    world.operations.pause("o", ORDER)
    driver.hear()
    world.let_time_pass()
    driver.sweep()
    assert states(world) == {"a": "READY", "b": "READY"}
    assert driver.record(late).outbox == []
    world.operations.resume("o", ORDER)
    driver.hear()
    assert world.nodes("o") == {"a": NodeView("DISPATCHED", 0, 2), "b": NodeView("DISPATCHED", 0, 2)}
    driver.complete("o", "a", "b")
    assert world.state("o") == "COMPLETED"


def test_pausing_twice_is_noted_once(world: World, driver: Driver) -> None:
    define(world, one=CHAIN)
    driver.start(manifest("o", "one"))
    first = world.operations.pause("o", ORDER)
    assert world.operations.pause("o", ORDER) == first
    world.operations.resume("o", ORDER)
    world.operations.resume("o", ORDER)
    assert actions(world) == ["pause", "resume"]
    driver.hear()
    driver.complete("o", "a")
    assert world.nodes("o")["b"] == NodeView("DISPATCHED", 0, 1)


def test_a_paused_run_can_complete_with_what_is_out(world: World, driver: Driver) -> None:
    define(world, one=ONE)
    driver.start(manifest("o", "one"))
    world.operations.pause("o", ORDER)
    (response,) = responses(driver.complete("o", "a").outbox)
    assert response.success
    assert world.orchestrations.get("o").paused is False


# Cancelling -------------------------------------------------------------------------------------------------------------


def test_a_cancelled_run_is_undone_once_what_was_sent_has_reported(world: World, driver: Driver) -> None:
    define(world, deploy=CHAIN, dispose=ONE)
    driver.start(manifest("o", DEPLOY, given=1))
    driver.hear()
    assert world.operations.cancel("o", ORDER).state == "COMPENSATING"
    (response,) = responses(driver.hear())
    assert (response.success, response.error_detail) == (False, "cancelled: the issuer is away")
    assert states(world) == {"a": "DISPATCHED", "b": "CANCELLED"}
    (undo,) = manifests(driver.complete("o", "a", values={"made": 1}).outbox)
    assert (undo.id, undo.payload) == ("o.compensate", {"given": 1, "made": 1, VPA_STATE: {}})
    driver.start(undo)
    driver.complete("o.compensate", "a")
    assert world.state("o") == "COMPENSATED"


def test_a_run_with_nothing_out_is_undone_at_once(world: World, driver: Driver) -> None:
    define(world, deploy=ONE, dispose=ONE)
    driver.start(manifest("o", DEPLOY))
    driver.record(driver.outcome("o", "a", OutcomeKind.WAIT))
    driver.hear()
    world.operations.cancel("o", ORDER)
    assert [row.subject for row in driver.hear()] == [subjects.RESPONSES, subjects.MANIFESTS]


def test_a_run_may_be_cancelled_without_being_undone(world: World, driver: Driver) -> None:
    define(world, deploy=CHAIN, dispose=ONE)
    driver.start(manifest("o", DEPLOY))
    assert world.operations.cancel("o", ORDER, compensate=False).state == "CANCELLING"
    driver.hear()
    assert driver.complete("o", "a").outbox == []
    assert world.state("o") == "CANCELLED"
    assert states(world) == {"a": "DONE", "b": "CANCELLED"}


def test_a_lease_that_ends_ends_the_cancelling(world: World, driver: Driver) -> None:
    define(world, one=PAIR)
    driver.start(manifest("o", "one"))
    world.operations.cancel("o", ORDER)
    world.let_time_pass()
    driver.sweep()
    assert (world.state("o"), states(world)) == ("CANCELLED", {"a": "CANCELLED", "b": "CANCELLED"})


def test_cancelling_twice_answers_once(world: World, driver: Driver) -> None:
    define(world, one=CHAIN)
    driver.start(manifest("o", "one"))
    driver.hear()
    world.operations.cancel("o", ORDER)
    assert world.operations.cancel("o", ORDER).state == "CANCELLING"
    assert len(driver.hear()) == 1
    driver.complete("o", "a")
    assert world.operations.cancel("o", ORDER).state == "CANCELLED"
    assert actions(world) == ["cancel"]


def test_a_compensation_that_is_cancelled_has_failed(world: World, driver: Driver) -> None:
    define(world, deploy=ONE, dispose=ONE)
    driver.start(manifest("o", DEPLOY))
    driver.start(*manifests(driver.record(driver.outcome("o", "a", OutcomeKind.FATAL)).outbox))
    world.operations.cancel("o.compensate", ORDER)
    assert world.state("o") == "COMPENSATION_FAILED"


def test_a_change_of_a_live_participant_is_cancelled_without_disposing_it(world: World, driver: Driver) -> None:
    define(world, deploy=ONE, dispose=ONE)
    driver.start(manifest("o", DEPLOY, **{VPA_STATE: {}}))
    assert world.operations.cancel("o", ORDER).state == "CANCELLING"


# Retrying ---------------------------------------------------------------------------------------------------------------


def test_a_failed_run_goes_on_with_all_that_was_not_done(world: World, driver: Driver) -> None:
    define(world, one=DIAMOND)
    driver.start(manifest("o", "one"))
    driver.complete("o", "a", values={"a": 1})
    driver.complete("o", "b")
    failed(world, driver, "c")
    driver.hear()
    run = world.operations.retry("o", ORDER)
    assert (run.state, run.error_detail) == ("RUNNING", "")
    assert states(world) == {"a": "DONE", "b": "DONE", "c": "DISPATCHED", "d": "BLOCKED"}
    sent = dispatches(driver.hear())["c"]
    assert (sent.attempt, sent.values) == (1, {"a": 1})
    driver.complete("o", "c")
    (response,) = responses(driver.complete("o", "d").outbox)
    assert (response.success, response.retries) == (True, 1)
    assert world.history("o").count("complete") == 4


def test_the_response_after_a_retry_is_another_one(world: World, driver: Driver) -> None:
    define(world, one=ONE)
    driver.start(manifest("o", "one"))
    first = responses(driver.record(driver.outcome("o", "a", OutcomeKind.FATAL)).outbox)
    driver.hear()
    world.operations.retry("o", ORDER)
    driver.hear()
    second = responses(driver.record(driver.outcome("o", "a", OutcomeKind.FATAL)).outbox)
    assert first[0].id != second[0].id
    assert responses(driver.start(manifest("o", "one")).outbox) == second


def test_an_outcome_from_before_the_retry_changes_nothing(world: World, driver: Driver) -> None:
    define(world, one=PAIR)
    driver.start(manifest("o", "one"))
    stale = driver.outcome("o", "a", OutcomeKind.FATAL)
    driver.record(stale)
    world.operations.retry("o", ORDER)
    driver.hear()
    assert driver.record(stale, driver.outcome("o", "b")).outbox == []
    assert states(world) == {"a": "DISPATCHED", "b": "DONE"}


def test_only_some_activities_may_be_retried_and_what_depends_on_them(world: World, driver: Driver) -> None:
    define(world, one=[*PAIR, Activity("c", "t", ("a",)), Activity("d", "t", ("b",))])
    driver.start(manifest("o", "one"))
    failed(world, driver, "a", "b")
    world.operations.retry("o", ORDER, activities=["a"])
    assert states(world) == {"a": "DISPATCHED", "b": "FAILED", "c": "BLOCKED", "d": "CANCELLED"}
    driver.hear()
    driver.complete("o", "a")
    (response,) = responses(driver.complete("o", "c").outbox)
    assert (response.success, response.error_detail) == (False, "activity b (t) was not retried")
    assert world.state("o") == "ERRORED"
    world.operations.retry("o", ORDER)
    driver.hear()
    driver.complete("o", "b")
    assert responses(driver.complete("o", "d").outbox)[0].success


def test_what_could_not_start_is_not_retried(world: World, driver: Driver) -> None:
    define(world, one=[*PAIR, Activity("c", "t", ("a", "b")), Activity("d", "t")])
    driver.start(manifest("o", "one"))
    driver.complete("o", "d")
    failed(world, driver, "a", "b")
    for chosen, problem in (
        (["a"], "c depends on b, which is failed: name it too"),
        (["c"], "c depends on a, which is failed: name it too; c depends on b"),
        (["d"], "d is done: it has not failed"),
    ):
        with pytest.raises(RefusedError, match=problem):
            world.operations.retry("o", ORDER, activities=chosen)
    with pytest.raises(NotFoundError):
        world.operations.retry("o", ORDER, activities=["nope"])
    assert (world.state("o"), actions(world)) == ("ERRORED", [])


def test_an_activity_that_waits_for_its_next_attempt_is_sent_at_once(world: World, driver: Driver) -> None:
    define(world, one=ONE)
    driver.start(manifest("o", "one"))
    driver.record(driver.outcome("o", "a", OutcomeKind.RETRY, after=timedelta(hours=1)))
    driver.hear()
    world.operations.retry_activity("o", "a", ORDER)
    assert dispatches(driver.hear())["a"].attempt == 2
    world.let_time_pass()
    assert world.nodes("o")["a"] == NodeView("DISPATCHED", 0, 2, 1)
    with pytest.raises(ConflictError) as refused:
        world.operations.retry_activity("o", "a", ORDER)
    assert refused.value.context == {"allowedActions": ["resolve"]}
    (note,) = noted(world)
    assert (note["activityId"], note["before"], note["after"]) == ("a", "backoff", "dispatched")


def test_a_failed_activity_is_retried_by_itself(world: World, driver: Driver) -> None:
    define(world, one=CHAIN)
    driver.start(manifest("o", "one"))
    failed(world, driver, "a")
    driver.hear()
    assert world.operations.retry_activity("o", "a", ORDER).state == "RUNNING"
    driver.hear()
    driver.complete("o", "a")
    driver.complete("o", "b")
    assert world.state("o") == "COMPLETED"


def test_a_cancelled_run_can_go_on(world: World, driver: Driver) -> None:
    define(world, one=CHAIN)
    driver.start(manifest("o", "one"))
    world.operations.cancel("o", ORDER)
    driver.complete("o", "a")
    driver.hear()
    world.operations.retry("o", ORDER)
    assert set(dispatches(driver.hear())) == {"b"}
    assert responses(driver.complete("o", "b").outbox)[0].success


# Resolving --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [None, OutcomeKind.WAIT, OutcomeKind.RETRY, OutcomeKind.SCHEDULE])
def test_an_activity_that_is_resolved_is_done(world: World, driver: Driver, kind: OutcomeKind | None) -> None:
    define(world, one=CHAIN)
    driver.start(manifest("o", "one", k=1))
    late = driver.outcome("o", "a")
    if kind is not None:
        driver.record(driver.outcome("o", "a", kind))
    driver.hear()
    run = world.operations.resolve_activity("o", "a", ORDER, Resolution({"v": 1}, {"w": 2}))
    assert (run.completed, run.processing_data, run.output_data) == (("a",), {"k": 1, "v": 1}, {"w": 2})
    assert dispatches(driver.hear())["b"].values == {"k": 1, "v": 1}
    assert driver.record(late).outbox == []
    assert world.operations.resolve_activity("o", "a", ORDER, Resolution({"v": 2})) == run
    assert actions(world) == ["resolve"]
    (attempt,) = [one for one in world.orchestrations.history("o") if one.outcome == "resolved"]
    assert (attempt.activity_id, attempt.reason) == ("a", "the issuer is away")


def test_resolving_the_last_activity_completes_the_run(world: World, driver: Driver) -> None:
    define(world, one=ONE)
    driver.start(manifest("o", "one"))
    driver.hear()
    assert world.operations.resolve_activity("o", "a", ORDER, Resolution()).state == "COMPLETED"
    assert [one.success for one in responses(driver.hear())] == [True]


def test_a_failed_run_whose_activity_is_resolved_goes_on_once_it_is_retried(world: World, driver: Driver) -> None:
    define(world, one=CHAIN)
    driver.start(manifest("o", "one"))
    failed(world, driver, "a")
    driver.hear()
    run = world.operations.resolve_activity("o", "a", ORDER, Resolution({"v": 1}))
    assert (run.state, states(world)) == ("ERRORED", {"a": "DONE", "b": "CANCELLED"})
    assert driver.hear() == []
    with pytest.raises(ConflictError):
        world.operations.retry_activity("o", "a", ORDER)
    world.operations.retry("o", ORDER)
    assert set(dispatches(driver.hear())) == {"b"}


def test_a_run_with_nothing_left_to_do_is_completed_by_a_retry(world: World, driver: Driver) -> None:
    define(world, one=ONE)
    driver.start(manifest("o", "one"))
    failed(world, driver, "a")
    world.operations.resolve_activity("o", "a", ORDER, Resolution())
    driver.hear()
    assert world.operations.retry("o", ORDER).state == "COMPLETED"
    (response,) = responses(driver.hear())
    assert (response.success, response.retries) == (True, 1)


def test_what_has_not_been_reached_cannot_be_resolved(world: World, driver: Driver) -> None:
    define(world, one=CHAIN)
    driver.start(manifest("o", "one"))
    with pytest.raises(ConflictError, match="activity b of orchestration o, which is running, is blocked") as refused:
        world.operations.resolve_activity("o", "b", ORDER, Resolution())
    assert refused.value.context == {"allowedActions": []}
    with pytest.raises(NotFoundError):
        world.operations.resolve_activity("o", "nope", ORDER, Resolution())


def test_what_cannot_be_stored_resolves_nothing(world: World, driver: Driver) -> None:
    define(world, one=ONE)
    driver.start(manifest("o", "one"))
    with pytest.raises(ValidationError):
        world.operations.resolve_activity("o", "a", ORDER, Resolution({"k": "\0"}))
    assert (states(world), actions(world)) == ({"a": "DISPATCHED"}, [])


# Compensating -----------------------------------------------------------------------------------------------------------


def test_a_failed_compensation_is_repeated_where_it_failed(world: World, driver: Driver) -> None:
    define(world, deploy=ONE, dispose=CHAIN)
    driver.start(manifest("o", DEPLOY))
    driver.start(*manifests(driver.record(driver.outcome("o", "a", OutcomeKind.FATAL)).outbox))
    driver.complete("o.compensate", "a")
    failed(world, driver, "b", id_="o.compensate")
    assert world.state("o") == "COMPENSATION_FAILED"
    driver.hear()
    assert world.operations.compensate("o", ORDER).state == "COMPENSATING"
    assert set(dispatches(driver.hear())) == {"b"}
    assert world.operations.compensate("o", ORDER).state == "COMPENSATING"
    assert driver.hear() == []
    driver.complete("o.compensate", "b")
    assert world.state("o") == "COMPENSATED"
    assert world.operations.compensate("o", ORDER).state == "COMPENSATED"
    assert actions(world) == ["compensate"]


def test_a_compensation_that_is_retried_by_itself_counts_as_well(world: World, driver: Driver) -> None:
    define(world, deploy=ONE, dispose=ONE)
    driver.start(manifest("o", DEPLOY))
    driver.start(*manifests(driver.record(driver.outcome("o", "a", OutcomeKind.FATAL)).outbox))
    failed(world, driver, "a", id_="o.compensate")
    world.operations.retry("o.compensate", ORDER)
    assert world.state("o") == "COMPENSATING"
    driver.hear()
    driver.complete("o.compensate", "a")
    assert world.state("o") == "COMPENSATED"


def test_a_cancelled_run_is_undone_by_hand(world: World, driver: Driver) -> None:
    define(world, deploy=ONE, dispose=ONE)
    driver.start(manifest("o", DEPLOY))
    world.operations.cancel("o", ORDER, compensate=False)
    driver.complete("o", "a")
    driver.hear()
    assert world.operations.compensate("o", ORDER).state == "COMPENSATING"
    (undo,) = manifests(driver.hear())
    driver.start(undo)
    driver.complete(undo.id, "a")
    assert world.state("o") == "COMPENSATED"


def test_what_has_completed_or_is_live_is_undone_by_force_only(world: World, driver: Driver) -> None:
    define(world, deploy=ONE, dispose=ONE)
    driver.start(manifest("o", DEPLOY), manifest("p", DEPLOY, **{VPA_STATE: {}}))
    driver.complete("o", "a")
    failed(world, driver, "a", id_="p")
    driver.hear()
    with pytest.raises(ConflictError) as conflict:
        world.operations.compensate("o", ORDER)
    assert conflict.value.context == {"allowedActions": ["rerun"]}
    with pytest.raises(RefusedError, match="live participant"):
        world.operations.compensate("p", ORDER)
    for id_ in "op":
        assert world.operations.compensate(id_, ORDER, force=True).state == "COMPENSATING"
    assert [one.id for one in manifests(driver.hear())] == ["o.compensate", "p.compensate"]


def test_a_run_that_nothing_undoes_cannot_be_compensated(world: World, driver: Driver) -> None:
    define(world, deploy=ONE, other=ONE)
    define(world, dispose=ONE)
    driver.start(manifest("o", "other"), manifest("p", DISPOSE))
    for id_ in "op":
        failed(world, driver, "a", id_=id_)
        with pytest.raises(ConflictError) as refused:
            world.operations.compensate(id_, ORDER, force=True)
        assert refused.value.context == {"allowedActions": ["retry", "rerun"]}


# Running again ----------------------------------------------------------------------------------------------------------


def test_a_run_is_run_again_with_what_it_began_with(world: World, driver: Driver) -> None:
    define(world, one=ONE)
    driver.start(manifest("o", "one", k=1))
    with pytest.raises(ConflictError):
        world.operations.rerun("o", ORDER)
    driver.complete("o", "a", values={"k": 2})
    driver.hear()
    again = world.operations.rerun("o", ORDER)
    assert (again.id, again.correlation_id, again.processing_data) == ("o.again", "of o", {"k": 1})
    assert world.operations.rerun("o", ORDER).id == "o.again"
    assert set(dispatches(driver.hear())) == {"a"}
    assert world.operations.rerun("o", ORDER, new_id="third").id == "third"
    assert world.nodes("o.again")["a"].dispatches == 1
    with pytest.raises(ValidationError):
        world.operations.rerun("o", ORDER, new_id="x" * 513)


# Erasing ----------------------------------------------------------------------------------------------------------------


def test_what_ended_runs_have_held_of_somebody_is_erased(world: World, driver: Driver) -> None:
    define(world, one=CHAIN)
    driver.start(manifest("o", "one", name="Ann"), manifest("p", "one", name="Bob"))
    driver.complete("o", "a", values={"mail": "ann@example.org"}, outputs={"did": "did:web:ann"})
    driver.record(driver.outcome("o", "b", OutcomeKind.FATAL, reason="no such person as Ann"))
    before = world.orchestrations.get("o")
    assert world.operations.erase("of o", ORDER) == 1
    after = world.orchestrations.get("o")
    assert (after.processing_data, after.output_data, after.error_detail) == ({}, {}, "")
    assert (after.state, after.state_at, after.completed) == (before.state, before.state_at, before.completed)
    assert after.version > before.version
    assert [(one.outcome, one.reason) for one in world.orchestrations.history("o")] == [("complete", ""), ("fatal", "")]
    assert world.orchestrations.get("p").processing_data == {"name": "Bob"}
    for act in (world.operations.retry, world.operations.rerun):
        with pytest.raises(ConflictError) as refused:
            act("o", ORDER)
        assert refused.value.context == {"allowedActions": []}
    assert world.operations.erase("of o", ORDER) == 0
    assert world.operations.erase("of nobody", ORDER) == world.operations.erase("a\0b", ORDER) == 0
    assert actions(world) == ["erase"]


def test_nothing_is_erased_while_a_run_goes_on(world: World, driver: Driver) -> None:
    define(world, deploy=ONE, dispose=ONE)
    driver.start(manifest("o", DEPLOY, name="Ann"))
    with pytest.raises(ConflictError) as refused:
        world.operations.erase("of o", ORDER)
    assert refused.value.context == {"usedBy": ["o"]}
    (undo,) = manifests(driver.record(driver.outcome("o", "a", OutcomeKind.FATAL)).outbox)
    with pytest.raises(ConflictError):
        world.operations.erase("of o", ORDER)
    driver.start(undo)
    driver.complete(undo.id, "a")
    assert world.operations.erase("of o", ORDER) == 2


# In general -------------------------------------------------------------------------------------------------------------


def test_a_state_that_forbids_an_action_names_those_that_it_allows(world: World, driver: Driver) -> None:
    define(world, one=ONE)
    driver.start(manifest("o", "one"))
    with pytest.raises(ConflictError, match="orchestration o is running, and cannot be retried") as refused:
        world.operations.retry("o", ORDER)
    assert refused.value.context == {"allowedActions": ["pause", "cancel"]}
    world.operations.pause("o", ORDER)
    with pytest.raises(ConflictError, match="is paused") as refused:
        world.operations.compensate("o", ORDER)
    assert refused.value.context == {"allowedActions": ["resume", "cancel"]}
    driver.complete("o", "a")
    for act in (world.operations.pause, world.operations.resume, world.operations.cancel, world.operations.retry):
        with pytest.raises(ConflictError) as refused:
            act("o", ORDER)
        assert refused.value.context == {"allowedActions": ["rerun"]}


def test_an_order_for_another_version_changes_nothing(world: World, driver: Driver) -> None:
    define(world, one=ONE)
    driver.start(manifest("o", "one"))
    seen = world.orchestrations.get("o").version
    world.operations.pause("o", ORDER, Expected(frozenset({seen})))
    with pytest.raises(PreconditionFailedError):
        world.operations.cancel("o", ORDER, Expected(frozenset({seen})))
    assert (world.state("o"), actions(world)) == ("RUNNING", ["pause"])


@pytest.mark.parametrize("id_", ["nope", "", "a\0b"])
def test_orders_for_an_unknown_orchestration_find_nothing(world: World, id_: str) -> None:
    for act in (world.operations.pause, world.operations.retry, world.operations.compensate):
        with pytest.raises(NotFoundError):
            act(id_, ORDER)


def test_what_was_done_is_noted_with_who_and_why(world: World, driver: Driver) -> None:
    define(world, one=ONE)
    driver.start(manifest("o", "one"), manifest("p", "one"))
    world.operations.pause("o", ORDER)
    world.operations.cancel("p", Order(actor="bob", reason="not needed", request_id="r2"))
    first, second = noted(world)
    assert first["id"] < second["id"]
    del first["id"], first["at"]
    assert first == {
        "actor": "ann",
        "manager": "provision-manager",
        "action": "pause",
        "kind": "orchestrations",
        "entityId": "o",
        "orchestrationId": "o",
        "reason": "the issuer is away",
        "before": "running",
        "after": "paused",
        "requestId": "r1",
    }
    assert (second["before"], second["after"]) == ("running", "cancelling")
    assert [one["orchestrationId"] for one in noted(world, "actor = 'bob' AND action = 'cancel'")] == ["p"]
    behind = world.audit.select("true", Page(after=str(second["id"] - 1)))
    assert [one["actor"] for one in json.loads(behind.json)] == ["bob"]
    for bad in ("x", "-1", "\0", "9" * 30):
        with pytest.raises(ValidationError):
            world.audit.select("true", Page(after=bad))
