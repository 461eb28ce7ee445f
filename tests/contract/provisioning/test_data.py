"""What activities get and record: mapped inputs, and both held against the schemas of their types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import pytest

from cfm_core.contracts import subjects
from cfm_core.contracts.activity import OutcomeKind
from cfm_core.contracts.orchestration import DEPLOY, DISPOSE, VPA_STATE
from cfm_core.errors import ValidationError
from cfm_core.provisioning.definitions.model import Activity, ActivityDefinition, Input, OrchestrationTemplate
from cfm_core.provisioning.engine.model import Progress
from cfm_core.provisioning.operations.model import Order, Resolution
from tests.contract.provisioning.world import (
    Driver,
    World,
    dispatches,
    ending,
    manifest,
    manifests,
    responses,
    unchecked_dispatches,
)

TEXT = {"properties": {"k": {"type": "string"}}, "required": ["k"]}


def define(
    world: World,
    *activities: Activity,
    input_schema: dict[str, Any] | None = None,
    output_schema: dict[str, Any] | None = None,
    type_: str = "x",
    others: Mapping[str, Sequence[Activity]] = MappingProxyType({}),
) -> None:
    """Activity type ``s`` has the schemas, ``t`` has none."""
    world.definitions.put_activity_definition(ActivityDefinition(type="t"))
    world.definitions.put_activity_definition(
        ActivityDefinition(type="s", input_schema=input_schema or {}, output_schema=output_schema or {})
    )
    world.definitions.add_template(OrchestrationTemplate(id="tpl", activities={type_: activities, **others}))


def inputs(**sources: str) -> tuple[Input, ...]:
    return tuple(Input(target, source) for target, source in sources.items())


def failure(world: World, progress: Progress) -> str:
    """Why the one run that has failed has done so."""
    (response,) = responses(progress.outbox)
    assert not response.success
    return response.error_detail


def test_without_inputs_an_activity_gets_all_processing_data(world: World, driver: Driver) -> None:
    define(world, Activity("a", "t"), Activity("b", "t", ("a",)))
    driver.start(manifest("o", "x", p=1))
    sent = dispatches(driver.complete("o", "a", values={"q": [2]}).outbox)
    assert sent["b"].values == {"p": 1, "q": [2]}


def test_with_inputs_an_activity_gets_these_and_nothing_else(world: World, driver: Driver) -> None:
    mapped = inputs(p="p", from_a="a.q", out="a.o", late="a.early", nothing="a.nothing", none="absent", null="null")
    define(world, Activity("a", "t"), Activity("b", "t", ("a",)), Activity("c", "t", ("b",), mapped))
    driver.start(manifest("o", "x", p={"d": 1}, null=None, secret="no"))
    driver.record(driver.outcome("o", "a", OutcomeKind.SCHEDULE, values={"early": 0, "q": 0}))
    world.let_time_pass()
    driver.sweep()
    driver.complete("o", "a", values={"q": 2}, outputs={"o": 3, "q": "hidden"})
    sent = dispatches(driver.complete("o", "b", values={"q": "of b", "o": "of b"}).outbox)
    assert sent["c"].values == {"p": {"d": 1}, "from_a": 2, "out": 3, "late": 0, "null": None}


def test_inputs_are_mapped_again_with_each_dispatch(world: World, driver: Driver) -> None:
    define(world, Activity("a", "t", (), inputs(mine="p")))
    sent = dispatches(driver.start(manifest("o", "x", p=1)).outbox)
    assert sent["a"].values == {"mine": 1}
    driver.record(driver.outcome("o", "a", OutcomeKind.SCHEDULE, values={"p": 2, "mine": 3}))
    world.let_time_pass()
    assert dispatches(driver.sweep().outbox)["a"].values == {"mine": 2}


def test_what_fits_its_schema_is_handed_on_as_it_was(world: World, driver: Driver) -> None:
    define(world, Activity("a", "s"), Activity("b", "t"), input_schema=TEXT)
    progress = world.engine.start([manifest("o", "x", k="v", other=1)])
    assert sorted(row.subject for row in progress.outbox) == [subjects.activity("t"), subjects.INPUTS]
    ((event_id, unchecked),) = unchecked_dispatches(progress.outbox).items()
    checked = world.engine.check_inputs({event_id: unchecked})
    ((event,),) = [row.events for row in checked.outbox]
    (subject,) = [row.subject for row in checked.outbox]
    assert (subject, event["id"], event["data"]) == (subjects.activity("s"), "o/0/0/1", unchecked.to_agent_json())
    assert "inputSchema" not in event["data"]
    assert dispatches(checked.outbox)["a"].values == {"k": "v", "other": 1}


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ({}, '"k" is a required property'),
        ({"k": 5}, '/k: the value is not of type "string"'),
        ({"k": None}, '/k: the value is not of type "string"'),
    ],
)
def test_what_does_not_fit_its_schema_reaches_no_agent(
    world: World, driver: Driver, payload: dict[str, Any], reason: str
) -> None:
    define(world, Activity("a", "s"), Activity("b", "t", ("a",)), input_schema=TEXT)
    progress = driver.start(manifest("o", "x", **payload))
    assert dispatches(progress.outbox) == {}
    assert failure(world, progress) == f"activity a (s): invalid input: {reason}"
    assert world.state("o") == "ERRORED"
    assert world.history("o") == ["invalid input"]
    assert {id_: (node.state, node.failures) for id_, node in world.nodes("o").items()} == {
        "a": ("FAILED", 0),
        "b": ("CANCELLED", 0),
    }


def test_only_mapped_inputs_count_for_the_schema(world: World, driver: Driver) -> None:
    strict = TEXT | {"additionalProperties": False}
    define(world, Activity("a", "s", (), inputs(k="p")), Activity("b", "s", ("a",)), input_schema=strict)
    sent = dispatches(driver.start(manifest("o", "x", p="v", k=5)).outbox)
    assert sent["a"].values == {"k": "v"}
    # One that gets everything is not asked to get nothing else.
    progress = driver.complete("o", "a", values={"k": "w"})
    assert dispatches(progress.outbox)["b"].values == {"p": "v", "k": "w"}


def test_an_invalid_input_is_undone_like_any_failure(world: World, driver: Driver) -> None:
    define(
        world,
        *(Activity("a", "t"), Activity("b", "s", ("a",))),
        input_schema={"properties": {"k": {"maxLength": 1}}},
        type_=DEPLOY,
        others={DISPOSE: [Activity("u", "t")]},
    )
    driver.start(manifest("o", DEPLOY))
    progress = driver.complete("o", "a", values={"k": "too long"})
    assert world.state("o") == "COMPENSATING"
    (undo,) = manifests(progress.outbox)
    assert undo.payload == {"k": "too long", VPA_STATE: {}}


def test_looking_twice_at_one_dispatch_hands_it_on_twice_and_fails_it_once(world: World) -> None:
    define(world, Activity("a", "s"), input_schema=TEXT)
    good = unchecked_dispatches(world.engine.start([manifest("good", "x", k="v")]).outbox)
    bad = unchecked_dispatches(world.engine.start([manifest("bad", "x")]).outbox)
    first, second = (world.engine.check_inputs(good | bad) for _ in range(2))
    assert dispatches(first.outbox) == dispatches(second.outbox)
    assert [len(responses(progress.outbox)) for progress in (first, second)] == [1, 0]
    assert world.history("bad") == ["invalid input", "fenced: fatal"]


def test_a_dispatch_that_was_replaced_before_anybody_looked_fails_nothing(world: World) -> None:
    define(world, Activity("a", "s"), input_schema=TEXT)
    stale = unchecked_dispatches(world.engine.start([manifest("o", "x")]).outbox)
    world.let_time_pass()
    fresh = unchecked_dispatches(world.engine.sweep().outbox)
    assert responses(world.engine.check_inputs(stale).outbox) == []
    assert world.state("o") == "RUNNING"
    assert len(responses(world.engine.check_inputs(fresh).outbox)) == 1


def test_what_an_operator_lets_go_on_is_looked_at_as_well(world: World, driver: Driver) -> None:
    order = Order(actor="ann", reason="why", request_id="r")
    define(world, Activity("a", "s"), input_schema=TEXT)
    driver.start(manifest("o", "x"))
    world.operations.retry("o", order)
    (again,) = unchecked_dispatches(world.rows()[-1:]).items()
    assert world.history("o") == ["invalid input"]
    world.engine.check_inputs(dict([again]))
    assert world.history("o") == ["invalid input", "invalid input"]


@pytest.mark.parametrize(
    ("recorded", "reason"),
    [
        ({}, '"k" is a required property'),
        ({"values": {"k": 5}}, '/k: the value is not of type "string"'),
        ({"outputs": {"k": 5}}, '/k: the value is not of type "string"'),
        ({"values": {"j": 5}}, '"k" is a required property'),
        ({"deleted": ["k"]}, '"k" is a required property'),
    ],
)
def test_an_activity_that_records_something_else_has_failed(
    world: World, driver: Driver, recorded: dict[str, Any], reason: str
) -> None:
    define(world, Activity("a", "s"), Activity("b", "t", ("a",)), output_schema=TEXT)
    driver.start(manifest("o", "x"))
    progress = driver.complete("o", "a", **recorded)
    assert failure(world, progress) == f"activity a (s): invalid output: {reason}"
    assert dispatches(progress.outbox) == {}
    assert world.history("o") == ["invalid output"]
    assert {id_: node.state for id_, node in world.nodes("o").items()} == {"a": "FAILED", "b": "CANCELLED"}
    # What undoes the run may need it.
    assert world.orchestrations.get("o").processing_data == recorded.get("values", {})


@pytest.mark.parametrize("recorded", [{"values": {"k": "v"}}, {"outputs": {"k": "v"}}, {"values": {"k": "v", "l": 1}}])
def test_an_activity_that_records_what_it_should_is_done(
    world: World, driver: Driver, recorded: dict[str, Any]
) -> None:
    define(world, Activity("a", "s"), Activity("b", "t", ("a",)), output_schema=TEXT)
    driver.start(manifest("o", "x"))
    assert list(dispatches(driver.complete("o", "a", **recorded).outbox)) == ["b"]
    assert world.history("o") == ["complete"]


def test_what_an_attempt_before_has_recorded_counts(world: World, driver: Driver) -> None:
    define(world, Activity("a", "s"), output_schema=TEXT)
    driver.start(manifest("o", "x"))
    driver.record(driver.outcome("o", "a", OutcomeKind.SCHEDULE, values={"k": "v"}))
    world.let_time_pass()
    driver.sweep()
    driver.complete("o", "a")
    assert world.state("o") == "COMPLETED"


def test_only_what_completes_an_activity_is_held_against_its_schema(world: World, driver: Driver) -> None:
    define(world, Activity("a", "s"), output_schema=TEXT)
    driver.start(manifest("o", "x"))
    driver.record(driver.outcome("o", "a", OutcomeKind.RETRY, reason="later", values={"k": 5}))
    world.let_time_pass()
    driver.sweep()
    driver.record(driver.outcome("o", "a", OutcomeKind.WAIT))
    assert world.history("o") == ["retry", "wait"]


def test_a_repeated_outcome_with_a_schema_changes_nothing(world: World, driver: Driver) -> None:
    define(world, Activity("a", "s"), output_schema=TEXT)
    driver.start(manifest("good", "x"), manifest("bad", "x"))
    outcomes = [driver.outcome("good", "a", values={"k": "v"}), driver.outcome("bad", "a")]
    driver.record(*outcomes, *outcomes)
    assert responses(driver.record(*outcomes).outbox) == []
    assert sorted(world.history("good")) == ["complete", "fenced: complete", "fenced: complete"]
    assert sorted(world.history("bad")) == ["fenced: complete", "fenced: complete", "invalid output"]


def test_one_batch_may_hold_outcomes_with_and_without_schemas(world: World, driver: Driver) -> None:
    define(world, Activity("a", "s"), Activity("b", "t"), Activity("c", "t", ("a", "b")), output_schema=TEXT)
    driver.start(manifest("good", "x"), manifest("bad", "x"))
    progress = driver.record(
        driver.outcome("good", "a", values={"k": "v"}),
        driver.outcome("bad", "b"),
        driver.outcome("good", "b"),
        driver.outcome("bad", "a"),
        driver.outcome("good", "a", OutcomeKind.FATAL),
    )
    assert {(one.orchestration_id, one.activity_id) for one in dispatches(progress.outbox).values()} == {("good", "c")}
    assert sorted(world.history("good")) == ["complete", "complete", "fenced: fatal"]
    assert sorted(world.history("bad")) == ["complete", "invalid output"]


def test_of_two_outcomes_with_a_schema_the_last_word_on_a_key_counts(world: World, driver: Driver) -> None:
    define(world, *(Activity(id_, "s") for id_ in "abc"), output_schema=TEXT)
    driver.start(manifest("o", "x"))
    driver.record(*(driver.outcome("o", id_, values={"k": id_}) for id_ in "bca"))
    assert world.orchestrations.get("o").processing_data == {"k": "a"}


def test_somebody_outside_is_told_what_does_not_fit_and_may_try_again(world: World, driver: Driver) -> None:
    define(world, Activity("a", "s"), output_schema=TEXT)
    driver.start(manifest("o", "x"))
    sent = driver.sent["o", "a"]
    driver.record(driver.outcome("o", "a", OutcomeKind.WAIT))
    with pytest.raises(ValidationError) as caught:
        world.orchestrations.end_activity("o", "a", ending(sent, values={"k": 5}))
    assert [(one.pointer, one.detail) for one in caught.value.errors] == [
        ("/values/k", 'the value is not of type "string"')
    ]
    assert world.nodes("o")["a"].state == "WAITING"
    for _ in range(2):
        world.orchestrations.end_activity("o", "a", ending(sent, values={"k": "v"}))
    assert world.state("o") == "COMPLETED"
    assert world.history("o") == ["wait", "complete"]


def test_an_operator_may_resolve_an_activity_without_what_its_schema_asks_for(world: World, driver: Driver) -> None:
    define(world, Activity("a", "s"), output_schema=TEXT)
    driver.start(manifest("o", "x"))
    order = Order(actor="ann", reason="why", request_id="r")
    world.operations.resolve_activity("o", "a", order, Resolution({"k": 5}))
    assert world.state("o") == "COMPLETED"


def test_a_run_keeps_the_schemas_that_it_began_with(world: World, driver: Driver) -> None:
    define(world, Activity("a", "s"), input_schema={}, output_schema={})
    driver.start(manifest("old", "x"))
    world.definitions.put_activity_definition(ActivityDefinition(type="s", output_schema=TEXT))
    driver.start(manifest("new", "x"))
    driver.complete("old", "a")
    driver.complete("new", "a")
    assert (world.state("old"), world.state("new")) == ("COMPLETED", "ERRORED")


@pytest.mark.parametrize(
    ("schema", "pointer"),
    [
        ({"required": "k"}, "/required"),
        ({"properties": {"k": {"type": "text"}}}, "/properties/k/type"),
        ({"properties": {"k": {"$ref": "https://example.com/schema.json"}}}, "/properties/k/$ref"),
        ({"properties": {"k": {"pattern": "(?=a)"}}}, "/properties/k/pattern"),
        ({"allOf": [{"$ref": "#"}]}, "/allOf/0/$ref"),
    ],
)
def test_a_schema_that_could_not_be_applied_is_refused(world: World, schema: dict[str, Any], pointer: str) -> None:
    with pytest.raises(ValidationError) as caught:
        world.definitions.put_activity_definition(ActivityDefinition(type="t", input_schema=schema))
    assert [error.pointer for error in caught.value.errors] == [f"/inputSchema{pointer}"]
