"""Activities that are done only if a predicate about the processing data holds."""

from __future__ import annotations

import pytest

from cfm_core.contracts.activity import OutcomeKind
from cfm_core.errors import ValidationError
from cfm_core.provisioning.definitions.model import Activity, ActivityDefinition, Limits, OrchestrationTemplate
from cfm_core.provisioning.operations.model import Order, Resolution
from tests.contract.provisioning.world import Driver, World, define, dispatches, manifest, responses

ORDER = Order(actor="ann", reason="once more", request_id="r1")
CHAIN = [Activity("a", "t"), Activity("b", "t", ("a",), condition="size > 5"), Activity("c", "t", ("b",))]


def states(world: World, id_: str = "o") -> dict[str, str]:
    return {activity: node.state for activity, node in world.nodes(id_).items()}


def test_an_activity_is_sent_if_its_condition_holds_once_its_parents_are_done(world: World, driver: Driver) -> None:
    define(world, one=CHAIN)
    driver.start(manifest("o", "one", size=1))
    assert list(dispatches(driver.complete("o", "a", values={"size": 6}).outbox)) == ["b"]
    driver.complete("o", "b")
    (response,) = responses(driver.complete("o", "c").outbox)
    assert response.success
    assert "skipped" not in world.history("o")


def test_an_activity_whose_condition_does_not_hold_is_skipped_and_its_dependents_go_on(
    world: World, driver: Driver
) -> None:
    define(world, one=CHAIN)
    driver.start(manifest("o", "one", size=1))
    assert list(dispatches(driver.complete("o", "a").outbox)) == ["c"]
    assert states(world) == {"a": "DONE", "b": "SKIPPED", "c": "DISPATCHED"}
    assert world.nodes("o")["b"].dispatches == 0
    driver.complete("o", "c")
    assert world.state("o") == "COMPLETED"
    assert world.orchestrations.get("o").completed == ("a", "c")
    assert world.history("o") == ["complete", "skipped", "complete"]


def test_a_chain_of_skipped_activities_at_the_start_and_at_the_end_is_passed_in_one_step(
    world: World, driver: Driver
) -> None:
    never = [Activity(f"n{n}", "t", (f"n{n - 1}",) if n else (), condition="false") for n in range(3)]
    define(world, one=[*never, Activity("x", "t", ("n2",)), Activity("y", "t", ("x",), condition="false")])
    assert list(dispatches(driver.start(manifest("o", "one")).outbox)) == ["x"]
    (response,) = responses(driver.complete("o", "x").outbox)
    assert response.success
    assert set(states(world).values()) == {"SKIPPED", "DONE"}


def test_a_run_of_which_everything_is_skipped_is_completed_at_once_and_once(world: World, driver: Driver) -> None:
    define(world, one=[Activity("a", "t", condition="`no such` = 1")])
    (response,) = responses(driver.start(manifest("o", "one")).outbox)
    assert (response.success, world.state("o")) == (True, "COMPLETED")
    (again,) = responses(driver.start(manifest("o", "one")).outbox)
    assert again.id == response.id


def test_a_skipped_parent_counts_once_among_others(world: World, driver: Driver) -> None:
    define(
        world,
        one=[
            *(Activity("a", "t"), Activity("b", "t", ("a",), condition="false"), Activity("c", "t", ("a",))),
            Activity("d", "t", ("b", "c")),
        ],
    )
    driver.start(manifest("o", "one"))
    assert list(dispatches(driver.complete("o", "a").outbox)) == ["c"]
    assert world.nodes("o")["d"].deps_left == 1
    assert list(dispatches(driver.complete("o", "c").outbox)) == ["d"]


def test_nothing_is_skipped_in_a_run_that_has_failed_and_what_is_retried_is_looked_at_then(
    world: World, driver: Driver
) -> None:
    define(world, one=[*CHAIN, Activity("x", "t")])
    driver.start(manifest("o", "one", size=1))
    driver.record(driver.outcome("o", "x", OutcomeKind.FATAL, reason="broken"))
    driver.complete("o", "a")
    assert states(world) == {"a": "DONE", "b": "CANCELLED", "c": "CANCELLED", "x": "FAILED"}
    driver.hear()
    world.operations.retry("o", ORDER)
    assert sorted(dispatches(driver.hear())) == ["c", "x"]
    assert states(world) == {"a": "DONE", "b": "SKIPPED", "c": "DISPATCHED", "x": "DISPATCHED"}
    driver.complete("o", "c", "x")
    assert world.state("o") == "COMPLETED"


def test_a_retried_run_that_has_only_skipped_activities_left_is_completed(world: World, driver: Driver) -> None:
    define(world, one=[Activity("x", "t"), Activity("a", "t"), Activity("b", "t", ("a",), condition="false")])
    driver.start(manifest("o", "one"))
    driver.record(driver.outcome("o", "x", OutcomeKind.FATAL, reason="broken"))
    driver.complete("o", "a")
    world.operations.resolve_activity("o", "x", ORDER, Resolution())
    assert world.operations.retry("o", ORDER).state == "COMPLETED"
    assert states(world)["b"] == "SKIPPED"


def test_a_limited_type_skips_without_taking_a_place(world: World, driver: Driver) -> None:
    define(world, one=[Activity("a", "t"), Activity("b", "t", condition="false"), Activity("c", "t")])
    world.definitions.put_activity_definition(ActivityDefinition(type="t", limits=Limits(concurrency=1)))
    driver.start(manifest("o", "one"))
    assert states(world) == {"a": "DISPATCHED", "b": "SKIPPED", "c": "READY"}
    assert list(dispatches(driver.complete("o", "a").outbox)) == ["c"]


def test_an_attempt_that_is_repeated_is_not_looked_at_again(world: World, driver: Driver) -> None:
    define(world, one=[Activity("a", "t"), Activity("b", "t", condition="go = true")])
    driver.start(manifest("o", "one", go=True))
    driver.complete("o", "a", values={"go": False})
    driver.record(driver.outcome("o", "b", OutcomeKind.RETRY, reason="later"))
    world.let_time_pass()
    assert list(dispatches(driver.sweep().outbox)) == ["b"]


@pytest.mark.parametrize("condition", ["size >", "size = 'x", "a" * 5000])
def test_a_condition_that_is_no_predicate_is_refused_with_its_place(world: World, condition: str) -> None:
    world.definitions.put_activity_definition(ActivityDefinition(type="t"))
    template = OrchestrationTemplate(id="x", activities={"one": [Activity("a", "t", condition=condition)]})
    with pytest.raises(ValidationError) as refused:
        world.definitions.add_template(template)
    assert [one.pointer for one in refused.value.errors] == ["/activities/one/0/condition"]
    assert "predicate" in refused.value.errors[0].detail
