"""Runs that are archived: to be seen, known and acted on as before."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from cfm_core.contracts.activity import OutcomeKind
from cfm_core.contracts.orchestration import DEPLOY
from cfm_core.errors import ConflictError
from cfm_core.provisioning.definitions.model import Activity, ForEach
from cfm_core.provisioning.operations.model import Order, Resolution
from cfm_core.query import Page, parse
from tests.contract.provisioning.world import (
    DIAMOND,
    Driver,
    World,
    define,
    dispatches,
    ending,
    manifest,
    manifests,
    responses,
)

ORDER = Order(actor="ann", reason="because", request_id="r")
CHAIN = [Activity("a", "t"), Activity("b", "t", ("a",))]


def complete(world: World, driver: Driver, *ids: str) -> None:
    """Let runs of the chain come to their end, with something recorded."""
    driver.start(*(manifest(id_, "one", given=1) for id_ in ids))
    for activity in ("a", "b"):
        driver.record(*(driver.outcome(id_, activity, values={activity: 1}, outputs={activity: 2}) for id_ in ids))


def fail(world: World, driver: Driver, id_: str, type_: str = "one") -> None:
    driver.start(manifest(id_, type_, given=1))
    driver.complete(id_, "a", values={"a": 1})
    driver.record(driver.outcome(id_, "b", OutcomeKind.FATAL, reason="broken"))


def listed(world: World, predicate: str = "true", **page: Any) -> list[str]:
    found = world.orchestrations.select(parse(predicate), Page(**page))
    return [one["id"] for one in json.loads(found.json)]


def test_an_archived_run_looks_as_before(world: World, driver: Driver) -> None:
    define(world, one=CHAIN)
    complete(world, driver, "o")
    before = (world.orchestrations.get("o"), world.orchestrations.history("o"))
    world.archive()
    assert (world.orchestrations.get("o"), world.orchestrations.history("o")) == before
    assert before[0].processing_data == {"given": 1, "a": 1, "b": 1}


def test_archived_runs_are_listed_counted_and_found_among_the_others(world: World, driver: Driver) -> None:
    define(world, one=CHAIN)
    complete(world, driver, "o1", "o3")
    world.archive()
    driver.start(manifest("o0", "one"), manifest("o2", "one"))
    assert listed(world) == ["o0", "o1", "o2", "o3"]
    assert listed(world, limit=2, offset=1) == ["o1", "o2"]
    assert listed(world, limit=2, after="o1") == ["o2", "o3"]
    assert listed(world, "state = 2") == ["o1", "o3"]
    assert listed(world, "correlationId = 'of o3'") == ["o3"]
    assert world.orchestrations.select(parse("state > 0"), Page(limit=1)).total == 4


def test_a_run_that_has_not_ended_is_not_archived(world: World, driver: Driver) -> None:
    define(world, deploy=CHAIN, dispose=[Activity("u", "t")])
    driver.start(manifest("o", DEPLOY))
    world.archive()
    driver.complete("o", "a")
    (undo,) = manifests(driver.record(driver.outcome("o", "b", OutcomeKind.FATAL)).outbox)
    world.archive()
    driver.start(undo)
    world.archive()
    driver.complete("o.compensate", "u")
    assert (world.state("o"), world.state("o.compensate")) == ("COMPENSATED", "COMPLETED")


def test_a_known_id_never_starts_again(world: World, driver: Driver) -> None:
    define(world, one=CHAIN)
    driver.start(manifest("o", "one"))
    driver.complete("o", "a")
    (first,) = responses(driver.complete("o", "b").outbox)
    before = world.orchestrations.get("o")
    world.archive()
    again = driver.start(manifest("o", "one"), manifest("new", "one"))
    assert responses(again.outbox) == [first]
    assert dispatches(again.outbox)["a"].orchestration_id == "new"
    world.archive()
    assert world.orchestrations.start(manifest("o", "one")) == before
    assert listed(world) == ["new", "o"]


def test_a_compensation_and_its_run_are_known_together(world: World, driver: Driver) -> None:
    define(world, deploy=CHAIN, dispose=[Activity("u", "t")])
    fail(world, driver, "o", DEPLOY)
    driver.start(manifest("o.compensate", "cfm.orchestration.vpa.dispose"))
    (undone,) = responses(driver.complete("o.compensate", "u").outbox)
    world.archive()
    (again,) = responses(driver.start(manifest("o.compensate", "cfm.orchestration.vpa.dispose")).outbox)
    assert again == undone
    assert (world.state("o"), world.state("o.compensate")) == ("COMPENSATED", "COMPLETED")


def test_an_outcome_that_comes_after_all_is_fenced(world: World, driver: Driver) -> None:
    define(world, one=CHAIN)
    complete(world, driver, "o")
    before = world.orchestrations.get("o")
    world.archive()
    assert driver.complete("o", "b").outbox == []
    assert world.orchestrations.get("o") == before
    assert world.history("o") == ["complete", "complete", "fenced: complete"]


def test_ending_an_activity_of_an_archived_run_is_answered_as_before(world: World, driver: Driver) -> None:
    define(world, one=CHAIN)
    complete(world, driver, "o")
    sent = driver.sent["o", "a"]
    world.archive()
    world.orchestrations.end_activity("o", "a", ending(sent))
    with pytest.raises(ConflictError, match="is done and does not wait"):
        world.orchestrations.end_activity("o", "a", ending(sent, error="no"))


def test_an_archived_run_that_failed_is_retried(world: World, driver: Driver) -> None:
    define(world, one=CHAIN)
    fail(world, driver, "o")
    world.archive()
    assert world.operations.retry("o", ORDER).state == "RUNNING"
    driver.hear()
    driver.complete("o", "b", values={"b": 1})
    assert world.state("o") == "COMPLETED"
    assert world.orchestrations.get("o").processing_data == {"given": 1, "a": 1, "b": 1}


def test_an_activity_of_an_archived_run_is_resolved(world: World, driver: Driver) -> None:
    define(world, one=CHAIN)
    fail(world, driver, "o")
    world.archive()
    world.operations.resolve_activity("o", "b", ORDER, Resolution({"b": "by hand"}))
    world.archive()
    assert world.operations.retry("o", ORDER).state == "COMPLETED"
    assert world.orchestrations.get("o").processing_data == {"given": 1, "a": 1, "b": "by hand"}


def test_an_archived_run_is_compensated_and_its_compensation_repeated(world: World, driver: Driver) -> None:
    define(world, deploy=CHAIN, dispose=[Activity("u", "t")])
    driver.start(manifest("o", DEPLOY))
    driver.complete("o", "a")
    driver.complete("o", "b")
    driver.hear()
    world.archive()
    world.operations.compensate("o", ORDER, force=True)
    (undo,) = manifests(driver.hear())
    driver.start(undo)
    driver.record(driver.outcome("o.compensate", "u", OutcomeKind.FATAL))
    assert world.state("o") == "COMPENSATION_FAILED"
    driver.hear()
    world.archive()
    assert world.operations.compensate("o", ORDER).state == "COMPENSATING"
    driver.hear()
    driver.complete("o.compensate", "u")
    assert world.state("o") == "COMPENSATED"


def test_an_archived_run_is_run_again(world: World, driver: Driver) -> None:
    define(world, one=CHAIN)
    complete(world, driver, "o")
    world.archive()
    again = world.operations.rerun("o", ORDER)
    assert (again.id, again.processing_data) == ("o.again", {"given": 1})
    world.archive()
    assert world.operations.rerun("o", ORDER) == again


def test_what_the_state_forbids_is_refused_and_changes_nothing(world: World, driver: Driver) -> None:
    define(world, one=CHAIN)
    complete(world, driver, "o")
    before = world.orchestrations.get("o")
    world.archive()
    with pytest.raises(ConflictError) as refused:
        world.operations.cancel("o", ORDER)
    assert refused.value.context == {"allowedActions": ["rerun"]}
    assert world.orchestrations.get("o") == before


def test_erasing_reaches_the_archive(world: World, driver: Driver) -> None:
    define(world, one=CHAIN)
    complete(world, driver, "o")
    world.archive()
    assert world.operations.erase("of o", ORDER) == 1
    world.archive()
    erased = world.orchestrations.get("o")
    assert (erased.erased, erased.processing_data, erased.output_data) == (True, {}, {})
    assert world.operations.erase("of o", ORDER) == 0


def test_nothing_is_erased_of_archived_runs_while_another_goes_on(world: World, driver: Driver) -> None:
    define(world, one=CHAIN)
    complete(world, driver, "o")
    world.archive()
    driver.start(manifest("p", "one").model_copy(update={"correlation_id": "of o"}))
    with pytest.raises(ConflictError):
        world.operations.erase("of o", ORDER)
    assert world.orchestrations.get("o").processing_data == {"given": 1, "a": 1, "b": 1}


def test_a_definition_stays_as_long_as_an_archived_run_has_it(world: World, driver: Driver) -> None:
    define(world, one=CHAIN)
    complete(world, driver, "o")
    before = world.orchestrations.get("o")
    world.archive()
    define(world, one=DIAMOND)
    world.definitions.forget(unused_for=timedelta(0))
    assert world.orchestrations.get("o") == before


def test_a_run_goes_with_those_that_carry_out_its_activities(world: World, driver: Driver) -> None:
    each = Activity("e", "t", for_each=ForEach("list"))
    define(world, one=[each, Activity("z", "t", ("e",))])
    driver.start(manifest("o", "one", list=["x", "y"]))
    driver.complete("o.e.0", "e", values={"made": 1})
    world.archive()
    driver.complete("o.e.1", "e", values={"made": 2})
    driver.record(driver.outcome("o", "z", OutcomeKind.FATAL))
    before = [world.orchestrations.get(id_) for id_ in ("o", "o.e.0", "o.e.1")]
    world.archive()
    assert [world.orchestrations.get(id_) for id_ in ("o", "o.e.0", "o.e.1")] == before
    assert before[0].graph[0].children == (2, 2)
    assert listed(world, "parentId = 'o'") == ["o.e.0", "o.e.1"]
    assert world.operations.retry("o", ORDER).state == "RUNNING"
    world.archive()
    driver.hear()
    driver.complete("o", "z")
    assert world.state("o") == "COMPLETED"
