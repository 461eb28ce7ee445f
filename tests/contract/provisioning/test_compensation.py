"""Runs whose activities say what undoes each of them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from cfm_core.contracts import subjects
from cfm_core.contracts.activity import OutcomeKind
from cfm_core.contracts.orchestration import DEPLOY, DISPOSE
from cfm_core.errors import ConflictError, ValidationError
from cfm_core.provisioning.definitions.model import (
    Activity,
    ActivityDefinition,
    Input,
    OrchestrationTemplate,
    RetryPolicy,
    Undo,
    UndoMode,
)
from cfm_core.provisioning.operations.model import Order, Resolution
from cfm_core.provisioning.orchestrations.model import Ending
from tests.contract.provisioning.world import (
    DIAMOND,
    Driver,
    World,
    all_dispatches,
    define,
    dispatches,
    ending,
    manifest,
    responses,
)

ORDER = Order(actor="ann", reason="the issuer is away", request_id="r1")
CHAIN = [Activity(id_, "t", parents, compensation="u") for id_, parents in (("a", ()), ("b", ("a",)), ("c", ("b",)))]


def states(world: World, id_: str = "o") -> dict[str, str]:
    return {activity: node.state for activity, node in world.nodes(id_).items()}


def failed(driver: Driver, activity: str, id_: str = "o") -> object:
    return driver.record(driver.outcome(id_, activity, OutcomeKind.FATAL, reason="broken"))


def test_what_was_sent_is_undone_the_last_first_and_nothing_else(world: World, driver: Driver) -> None:
    define(world, deploy=CHAIN)
    driver.start(manifest("o", DEPLOY, given=1))
    driver.complete("o", "a", values={"made": 1}, outputs={"out": 2})
    progress = driver.record(driver.outcome("o", "b", OutcomeKind.FATAL, reason="broken"))

    (response,) = responses(progress.outbox)
    assert (response.manifest_id, response.success, response.error_detail) == ("o", False, "activity b (t): broken")
    (undo,) = all_dispatches(progress.outbox)
    assert (undo.activity_id, undo.activity_type, undo.discriminator, undo.phase) == ("b", "u", DISPOSE, 1)
    assert undo.idempotency_key == "o/1/b"
    assert undo.values == {"given": 1, "made": 1}
    assert world.state("o") == "COMPENSATING"

    (undo,) = all_dispatches(driver.complete("o", "b").outbox)
    assert (undo.activity_id, undo.values) == ("a", {"given": 1, "made": 1, "out": 2})
    (response,) = responses(driver.complete("o", "a").outbox)
    assert (response.manifest_id, response.orchestration_type, response.success) == ("o.compensate", DISPOSE, True)
    assert (response.correlation_id, response.properties, response.error_detail) == ("of o", {"out": 2}, "")
    assert world.state("o") == "COMPENSATED"
    assert subjects.MANIFESTS not in world.outbox()


def test_a_diamond_is_undone_from_its_end_with_both_sides_at_once(world: World, driver: Driver) -> None:
    diamond = [Activity(one.id, one.type, one.depends_on, compensation="u") for one in DIAMOND]
    define(world, deploy=diamond)
    driver.start(manifest("o", DEPLOY))
    driver.complete("o", "a")
    driver.complete("o", "b", "c")
    assert list(dispatches(driver.record(driver.outcome("o", "d", OutcomeKind.FATAL)).outbox)) == ["d"]
    assert sorted(dispatches(driver.complete("o", "d").outbox)) == ["b", "c"]
    assert list(dispatches(driver.complete("o", "b").outbox)) == []
    assert list(dispatches(driver.complete("o", "c").outbox)) == ["a"]


def test_the_order_holds_over_what_nothing_undoes_and_over_what_was_skipped(world: World, driver: Driver) -> None:
    define(
        world,
        deploy=[
            Activity("a", "t", compensation="u"),
            Activity("b", "t", ("a",)),
            Activity("c", "t", ("b",), compensation="u", condition="false"),
            Activity("d", "t", ("c",), compensation="u"),
            Activity("e", "t", ("d",)),
        ],
    )
    driver.start(manifest("o", DEPLOY))
    for activity in ("a", "b", "d"):
        driver.complete("o", activity)
    assert list(dispatches(driver.record(driver.outcome("o", "e", OutcomeKind.FATAL)).outbox)) == ["d"]
    assert states(world) == {"a": "BLOCKED", "d": "DISPATCHED"}
    assert list(dispatches(driver.complete("o", "d").outbox)) == ["a"]
    driver.complete("o", "a")
    assert world.state("o") == "COMPENSATED"


def test_undoing_begins_once_what_was_sent_has_reported(world: World, driver: Driver) -> None:
    define(world, deploy=[Activity("a", "t", compensation="u"), Activity("b", "t", compensation="u")])
    driver.start(manifest("o", DEPLOY))
    failed(driver, "a")
    assert (world.state("o"), states(world)) == ("COMPENSATING", {"a": "FAILED", "b": "DISPATCHED"})
    assert sorted(dispatches(driver.complete("o", "b").outbox)) == ["a", "b"]


def test_a_run_of_which_nothing_that_can_be_undone_was_sent_is_compensated_at_once(
    world: World, driver: Driver
) -> None:
    define(world, deploy=[Activity("a", "t"), Activity("b", "t", ("a",), compensation="u")])
    driver.start(manifest("o", DEPLOY))
    progress = driver.record(driver.outcome("o", "a", OutcomeKind.FATAL, reason="broken"))
    assert [(one.manifest_id, one.success) for one in responses(progress.outbox)] == [
        ("o", False),
        ("o.compensate", True),
    ]
    assert world.state("o") == "COMPENSATED"


def test_what_undoes_an_activity_gets_its_inputs_and_what_it_has_recorded(world: World, driver: Driver) -> None:
    named = (Input("name", "given"),)
    define(world, deploy=[Activity("a", "t", inputs=named, compensation="u"), Activity("b", "t", ("a",))])
    driver.start(manifest("o", DEPLOY, given=1, other=2))
    driver.complete("o", "a", values={"made": 3})
    (undo,) = all_dispatches(driver.record(driver.outcome("o", "b", OutcomeKind.FATAL)).outbox)
    assert undo.values == {"name": 1, "made": 3}


def test_what_undoes_an_activity_gets_what_somebody_outside_has_recorded_before_its_agent_was_heard(
    world: World, driver: Driver
) -> None:
    named = (Input("name", "given"),)
    define(world, deploy=[Activity("a", "t", inputs=named, compensation="u"), Activity("b", "t")])
    driver.start(manifest("o", DEPLOY, given=1, other=2))
    early = ending(driver.sent["o", "a"], values={"made": 3, "name": 4}, outputs={"out": 5})
    world.orchestrations.end_activity("o", "a", early)
    failed(driver, "b")
    world.let_time_pass()
    (undo,) = all_dispatches(driver.sweep().outbox)
    assert (undo.activity_id, undo.values) == ("a", {"name": 4, "made": 3, "out": 5})


@pytest.mark.parametrize("said", [{"error": "no"}, {}])
@pytest.mark.parametrize("undone_by", ["u", ""])
def test_whoever_has_ended_an_activity_is_answered_the_same_while_it_is_undone(
    world: World, driver: Driver, undone_by: str, said: dict[str, str]
) -> None:
    define(world, deploy=[Activity("a", "t", compensation=undone_by), Activity("z", "t", compensation="u")])
    driver.start(manifest("o", DEPLOY))
    made = ending(driver.sent["o", "a"], **said)
    driver.record(driver.outcome("o", "a", OutcomeKind.WAIT))
    world.orchestrations.end_activity("o", "a", made)
    failed(driver, "z")
    assert world.orchestrations.get("o").phase == 1
    before = world.orchestrations.get("o")
    world.orchestrations.end_activity("o", "a", made)
    with pytest.raises(ConflictError):
        world.orchestrations.end_activity("o", "a", Ending(token=made.token, error="" if made.error else "no"))
    assert world.orchestrations.get("o") == before


def test_an_early_completion_of_what_undoes_outlasts_the_failure_of_that(world: World, driver: Driver) -> None:
    named = (Input("name", "given"),)
    both = [Activity(id_, "t", inputs=named, compensation="u") for id_ in ("a", "b")]
    define(world, deploy=[*both, Activity("z", "t", ("a", "b"))])
    driver.start(manifest("o", DEPLOY, given=1))
    driver.complete("o", "a", "b")
    failed(driver, "z")
    world.orchestrations.end_activity("o", "a", ending(driver.sent["o", "a"], values={"undone": 1}))
    failed(driver, "b")
    world.let_time_pass()
    driver.sweep()
    assert (world.state("o"), states(world)) == ("COMPENSATION_FAILED", {"a": "CANCELLED", "b": "FAILED"})
    world.operations.compensate("o", ORDER)
    driver.hear()
    driver.record(driver.outcome("o", "a", OutcomeKind.WAIT, values={"asked": 2}), driver.outcome("o", "b"))
    assert world.state("o") == "COMPENSATED"
    assert world.orchestrations.get("o").processing_data == {"given": 1, "undone": 1, "asked": 2}


def test_what_undoes_is_retried_as_its_own_type_says(world: World, driver: Driver) -> None:
    define(world, deploy=CHAIN[:1])
    world.definitions.put_activity_definition(ActivityDefinition(type="t", retry=RetryPolicy(max_attempts=1)))
    world.definitions.put_activity_definition(ActivityDefinition(type="u", retry=RetryPolicy(max_attempts=2)))
    driver.start(manifest("o", DEPLOY))
    driver.record(driver.outcome("o", "a", OutcomeKind.RETRY, reason="away"))
    assert world.state("o") == "COMPENSATING"
    driver.record(driver.outcome("o", "a", OutcomeKind.RETRY, reason="away"))
    world.let_time_pass()
    driver.sweep()
    progress = driver.record(driver.outcome("o", "a", OutcomeKind.RETRY, reason="still away"))
    (response,) = responses(progress.outbox)
    assert (response.manifest_id, response.success) == ("o.compensate", False)
    assert response.error_detail == (
        "activity a (t) failed after 1 attempts: away; not undone: activity a (u) failed after 2 attempts: still away"
    )
    assert world.state("o") == "COMPENSATION_FAILED"


def test_a_lost_dispatch_of_what_undoes_is_sent_again(world: World, driver: Driver) -> None:
    define(world, deploy=CHAIN[:1])
    driver.start(manifest("o", DEPLOY))
    failed(driver, "a")
    late = driver.outcome("o", "a")
    world.let_time_pass()
    assert list(dispatches(driver.sweep().outbox)) == ["a"]
    driver.record(late)
    assert world.state("o") == "COMPENSATING"
    driver.complete("o", "a")
    assert (world.state("o"), world.history("o")[-2:]) == ("COMPENSATED", ["fenced: complete", "complete"])


def test_an_outcome_of_what_it_did_comes_too_late_while_it_is_undone(world: World, driver: Driver) -> None:
    define(world, deploy=CHAIN[:1])
    driver.start(manifest("o", DEPLOY))
    late = driver.outcome("o", "a")
    failed(driver, "a")
    driver.record(late)
    assert states(world) == {"a": "DISPATCHED"}


def test_a_failed_compensation_goes_on_where_it_failed(world: World, driver: Driver) -> None:
    define(world, deploy=CHAIN)
    driver.start(manifest("o", DEPLOY))
    driver.complete("o", "a")
    failed(driver, "b")
    failed(driver, "b")
    assert (world.state("o"), states(world)) == ("COMPENSATION_FAILED", {"a": "CANCELLED", "b": "FAILED"})
    with pytest.raises(ConflictError):
        world.operations.retry("o", ORDER)
    driver.hear()
    assert world.operations.compensate("o", ORDER).state == "COMPENSATING"
    assert list(dispatches(driver.hear())) == ["b"]
    driver.complete("o", "b")
    (response,) = responses(driver.complete("o", "a").outbox)
    assert (response.manifest_id, response.success, response.retries) == ("o.compensate", True, 1)
    assert world.state("o") == "COMPENSATED"
    assert world.operations.compensate("o", ORDER).state == "COMPENSATED"


def test_what_could_not_be_undone_can_be_done_by_hand(world: World, driver: Driver) -> None:
    define(world, deploy=CHAIN)
    driver.start(manifest("o", DEPLOY))
    driver.complete("o", "a")
    failed(driver, "b")
    failed(driver, "b")
    world.operations.resolve_activity("o", "b", ORDER, Resolution())
    driver.hear()
    world.operations.compensate("o", ORDER)
    assert list(dispatches(driver.hear())) == ["a"]
    driver.complete("o", "a")
    assert world.state("o") == "COMPENSATED"


def test_a_repeated_manifest_hears_how_the_run_has_ended_and_how_it_was_undone(world: World, driver: Driver) -> None:
    define(world, deploy=CHAIN[:1])
    driver.start(manifest("o", DEPLOY))
    first = responses(driver.record(driver.outcome("o", "a", OutcomeKind.FATAL)).outbox)
    first += responses(driver.complete("o", "a").outbox)
    again = responses(driver.start(manifest("o", DEPLOY)).outbox)
    assert {one.id for one in again} == {one.id for one in first}
    assert {(one.manifest_id, one.success) for one in again} == {("o", False), ("o.compensate", True)}


def test_a_dispose_definition_of_the_template_goes_before(world: World, driver: Driver) -> None:
    define(world, deploy=CHAIN[:1], dispose=[Activity("x", "t")])
    driver.start(manifest("o", DEPLOY))
    progress = driver.record(driver.outcome("o", "a", OutcomeKind.FATAL))
    assert [row.subject for row in progress.outbox] == [subjects.RESPONSES, subjects.MANIFESTS]


def test_a_cancelled_run_and_one_that_has_completed_can_be_undone(world: World, driver: Driver) -> None:
    define(world, deploy=CHAIN[:1])
    driver.start(manifest("o", DEPLOY), manifest("p", DEPLOY))
    world.operations.cancel("o", ORDER)
    driver.record(driver.outcome("o", "a", OutcomeKind.RETRY))
    assert states(world) == {"a": "DISPATCHED"}
    driver.complete("p", "a")
    with pytest.raises(ConflictError):
        world.operations.compensate("p", ORDER)
    assert world.operations.compensate("p", ORDER, force=True).state == "COMPENSATING"
    driver.hear()
    driver.complete("p", "a")
    driver.complete("o", "a")
    assert (world.state("o"), world.state("p")) == ("COMPENSATED", "COMPENSATED")


# When -------------------------------------------------------------------------------------------------------------------


def define_with(world: World, undo: Undo) -> None:
    for type_ in ("t", "u"):
        world.definitions.put_activity_definition(ActivityDefinition(type=type_))
    world.definitions.add_template(OrchestrationTemplate(id="x", activities={DEPLOY: CHAIN[:2]}, undo=undo))


def test_by_hand_only(world: World, driver: Driver) -> None:
    define_with(world, Undo(mode=UndoMode.MANUAL))
    driver.start(manifest("o", DEPLOY))
    failed(driver, "a")
    world.let_time_pass()
    assert driver.sweep().outbox == []
    assert world.state("o") == "ERRORED"
    assert world.operations.compensate("o", ORDER).state == "COMPENSATING"
    driver.hear()
    driver.complete("o", "a")
    assert world.state("o") == "COMPENSATED"


def test_a_while_later(world: World, driver: Driver) -> None:
    define_with(world, Undo(mode=UndoMode.AFTER, after=timedelta(hours=1)))
    driver.start(manifest("o", DEPLOY), manifest("p", DEPLOY))
    failed(driver, "a")
    failed(driver, "a", "p")
    driver.sweep()
    assert world.state("o") == "ERRORED"
    world.operations.retry("p", ORDER)
    driver.hear()
    world.let_time_pass()
    driver.sweep()
    assert (world.state("o"), states(world)) == ("COMPENSATING", {"a": "DISPATCHED"})
    assert world.state("p") == "RUNNING"
    driver.complete("o", "a")
    assert world.state("o") == "COMPENSATED"


def test_a_compensation_of_no_known_type_is_refused_with_its_place(world: World) -> None:
    world.definitions.put_activity_definition(ActivityDefinition(type="t"))
    with pytest.raises(ValidationError) as refused:
        world.definitions.add_template(OrchestrationTemplate(id="x", activities={DEPLOY: CHAIN[:1]}))
    assert [(one.pointer, one.detail) for one in refused.value.errors] == [
        (f"/activities/{DEPLOY}/0/compensation", "there is no activity type 'u'")
    ]
