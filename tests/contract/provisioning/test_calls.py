"""Activities that are carried out by orchestrations: one of another type, or one for each element of a list."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cfm_core.contracts import subjects
from cfm_core.contracts.activity import OutcomeKind
from cfm_core.contracts.orchestration import DISPOSE, TENANT_ID
from cfm_core.errors import ValidationError
from cfm_core.provisioning.calls.model import Call
from cfm_core.provisioning.definitions.model import (
    Activity,
    ActivityDefinition,
    ForEach,
    Input,
    Limits,
    OrchestrationTemplate,
    RetryPolicy,
)
from cfm_core.provisioning.operations.model import Order
from cfm_core.query import Page
from tests.contract.provisioning.world import (
    Driver,
    World,
    all_dispatches,
    answer,
    ending,
    manifest,
    responses,
)

ORDER = Order(actor="ann", reason="the issuer is away", request_id="r1")
SUB = Activity("s", "orchestration:sub")
SUBS = {"one": [Activity("a", "t"), Activity("s", "orchestration:sub", ("a",)), Activity("z", "t", ("s",))]}
SUB_OF = {"sub": [Activity("x", "t"), Activity("y", "t", ("x",))]}
EACH = Activity("e", "t", for_each=ForEach("list", "item", concurrency=2))


def define(world: World, **activities: list[Activity]) -> None:
    types = {type_ for nodes in activities.values() for one in nodes for type_ in (one.type, one.compensation)}
    for type_ in sorted(one for one in types if one and ":" not in one):
        world.definitions.put_activity_definition(ActivityDefinition(type=type_))
    world.definitions.add_template(OrchestrationTemplate(id="template", activities=activities))


def states(world: World, id_: str = "o") -> dict[str, str]:
    return {activity: node.state for activity, node in world.nodes(id_).items()}


def started(outbox: Any) -> list[str]:
    """The orchestrations for which something was sent to agents."""
    return sorted(one.orchestration_id for one in all_dispatches(outbox))


# One orchestration ------------------------------------------------------------------------------------------------------


def test_an_activity_is_done_once_the_orchestration_of_its_type_is(world: World, driver: Driver) -> None:
    define(world, **SUBS, **SUB_OF)
    driver.start(manifest("o", "one", **{TENANT_ID: "acme"}, given=1))
    progress = driver.complete("o", "a", values={"made": 2})
    (sent,) = all_dispatches(progress.outbox)
    assert (sent.orchestration_id, sent.activity_id, sent.discriminator, sent.correlation_id) == (
        *("o.s", "x", "sub", "of o"),
    )
    assert sent.values == {TENANT_ID: "acme", "given": 1, "made": 2}
    assert states(world) == {"a": "DONE", "s": "WAITING", "z": "BLOCKED"}
    assert world.orchestrations.get("o.s").tenant_id == "acme"

    driver.complete("o.s", "x", values={"inner": True}, outputs={"out": 3})
    progress = driver.complete("o.s", "y", outputs={"last": 4})
    assert responses(progress.outbox) == []
    (sent,) = all_dispatches(progress.outbox)
    assert (sent.activity_id, sent.values) == ("z", {TENANT_ID: "acme", "given": 1, "made": 2, "out": 3, "last": 4})
    (response,) = responses(driver.complete("o", "z").outbox)
    assert (response.manifest_id, response.success, response.properties) == ("o", True, {"out": 3, "last": 4})


def test_it_gets_the_inputs_that_the_activity_names(world: World, driver: Driver) -> None:
    named = (Input("name", "given"),)
    define(world, one=[Activity("s", "orchestration:sub", inputs=named)], **SUB_OF)
    (sent,) = all_dispatches(driver.start(manifest("o", "one", given=1, other=2)).outbox)
    assert sent.values == {"name": 1}


def test_a_failed_orchestration_fails_the_activity_with_its_words(world: World, driver: Driver) -> None:
    define(world, one=[SUB], **SUB_OF)
    driver.start(manifest("o", "one"))
    progress = driver.record(driver.outcome("o.s", "x", OutcomeKind.FATAL, reason="broken"))
    (response,) = responses(progress.outbox)
    assert response.error_detail == "activity s (orchestration:sub): orchestration o.s: activity x (t): broken"
    assert (world.state("o"), world.state("o.s")) == ("ERRORED", "ERRORED")


def test_a_retried_activity_retries_its_orchestration(world: World, driver: Driver) -> None:
    define(world, one=[SUB], **SUB_OF)
    driver.start(manifest("o", "one"))
    driver.record(driver.outcome("o.s", "x", OutcomeKind.FATAL, reason="broken"))
    driver.hear()
    world.operations.retry("o", ORDER)
    assert started(driver.take_all()) == ["o.s"]
    assert (world.state("o"), world.state("o.s")) == ("RUNNING", "RUNNING")
    driver.complete("o.s", "x")
    driver.complete("o.s", "y")
    assert world.state("o") == "COMPLETED"


def test_a_cancelled_run_cancels_its_orchestrations_and_waits_for_what_they_have_sent(
    world: World, driver: Driver
) -> None:
    define(world, one=[SUB], **SUB_OF)
    driver.start(manifest("o", "one"))
    driver.hear()
    world.operations.cancel("o", ORDER)
    driver.take_all()
    assert (world.state("o"), world.state("o.s")) == ("CANCELLING", "CANCELLING")
    driver.complete("o.s", "x")
    assert (world.state("o"), world.state("o.s")) == ("CANCELLED", "CANCELLED")


def test_a_sibling_that_fails_ends_its_orchestration_too(world: World, driver: Driver) -> None:
    define(world, one=[SUB, Activity("b", "t")], **SUB_OF)
    driver.start(manifest("o", "one"))
    driver.record(driver.outcome("o", "b", OutcomeKind.FATAL, reason="broken"))
    assert world.state("o.s") == "CANCELLING"
    driver.complete("o.s", "x")
    assert (world.state("o"), states(world)) == ("ERRORED", {"s": "FAILED", "b": "FAILED"})


def test_a_type_that_nobody_defines_fails_the_activity(world: World, driver: Driver) -> None:
    define(world, one=[Activity("s", "orchestration:none")])
    (response,) = responses(driver.start(manifest("o", "one")).outbox)
    assert not response.success
    assert "none" in response.error_detail


def test_a_foreign_orchestration_with_its_id_fails_the_activity(world: World, driver: Driver) -> None:
    define(world, one=[SUB], **SUB_OF)
    driver.start(manifest("o.s", "sub"))
    (response,) = responses(driver.start(manifest("o", "one")).outbox)
    assert (response.success, response.error_detail) == (
        False,
        "activity s (orchestration:sub): there is another orchestration o.s",
    )
    assert world.state("o.s") == "RUNNING"


def test_a_definition_that_calls_itself_ends_at_a_depth(world: World, driver: Driver) -> None:
    define(world, one=[Activity("s", "orchestration:one")])
    (response,) = responses(driver.start(manifest("o", "one")).outbox)
    assert "orchestrations can be nested 8 levels deep" in response.error_detail


# Whatever happens to the messages ---------------------------------------------------------------------------------------


def test_looking_after_an_activity_again_changes_nothing(world: World, driver: Driver) -> None:
    define(world, one=[SUB], **SUB_OF)
    driver.start(manifest("o", "one"))
    history = world.history("o")
    for _ in range(2):
        assert world.calls.tend([Call("o", 0, 0), Call("o", 0, 0), Call("none", 0, 0), Call("o", 1, 5)]).outbox == []
    assert world.history("o") == history
    driver.complete("o.s", "x")
    driver.complete("o.s", "y")
    assert world.calls.tend([Call("o", 0, 0)]).outbox == []


def test_what_nobody_has_looked_after_is_found_by_the_sweep(world: World, driver: Driver) -> None:
    define(world, one=[SUB], **SUB_OF)
    lost = world.engine.start([manifest("o", "one")])
    assert [row.subject for row in lost.outbox] == [subjects.CALLS]
    world.let_time_pass()
    assert started(driver.sweep().outbox) == ["o.s"]
    driver.complete("o.s", "x")
    world.engine.record([driver.outcome("o.s", "y")])
    assert world.state("o") == "RUNNING"
    world.let_time_pass()
    driver.sweep()
    assert world.state("o") == "COMPLETED"
    assert world.nodes("o")["s"].dispatches == 1


# One for each element ---------------------------------------------------------------------------------------------------


def test_each_element_is_carried_out_so_many_at_a_time_and_collected_in_their_order(
    world: World, driver: Driver
) -> None:
    define(world, one=[EACH, Activity("z", "t", ("e",))])
    progress = driver.start(manifest("o", "one", list=["p", "q", "r"], given=1))
    assert started(progress.outbox) == ["o.e.0", "o.e.1"]
    first = next(one for one in all_dispatches(progress.outbox) if one.orchestration_id == "o.e.0")
    assert (first.activity_id, first.activity_type, first.discriminator) == ("e", "t", "one")
    assert first.values == {"list": ["p", "q", "r"], "given": 1, "item": "p", "item.index": 0}

    assert started(driver.complete("o.e.1", "e", values={"v": "Q"}).outbox) == ["o.e.2"]
    assert driver.complete("o.e.2", "e", values={"v": "R", "w": 1}, outputs={"out": 2}).outbox
    (sent,) = all_dispatches(driver.complete("o.e.0", "e", values={"v": "P"}).outbox)
    assert sent.activity_id == "z"
    assert sent.values == {
        "list": ["p", "q", "r"],
        "given": 1,
        "v": ["P", "Q", "R"],
        "w": [None, None, 1],
    }
    (response,) = responses(driver.complete("o", "z").outbox)
    assert response.properties == {"out": [None, None, 2]}


def test_an_empty_list_is_done_at_once(world: World, driver: Driver) -> None:
    define(world, one=[EACH])
    (response,) = responses(driver.start(manifest("o", "one", list=[])).outbox)
    assert response.success


@pytest.mark.parametrize(
    ("payload", "problem"),
    [
        ({}, "list is not there"),
        ({"list": {"no": "list"}}, "list is no list"),
        ({"list": [0] * 1001}, "list has 1001 elements, there may be 1000"),
    ],
)
def test_what_is_no_list_fails_the_activity(
    world: World, driver: Driver, payload: dict[str, Any], problem: str
) -> None:
    define(world, one=[EACH])
    (response,) = responses(driver.start(manifest("o", "one", **payload)).outbox)
    assert response.error_detail == f"activity e (t): forEach: {problem}"


def test_the_elements_are_those_of_the_beginning(world: World, driver: Driver) -> None:
    define(world, one=[EACH, Activity("b", "t")])
    driver.start(manifest("o", "one", list=["p", "q", "r"]))
    driver.complete("o", "b", values={"list": []})
    for n in range(3):
        driver.complete(f"o.e.{n}", "e", values={"v": n})
    assert world.orchestrations.get("o").processing_data["v"] == [0, 1, 2]


def test_a_list_that_another_activity_has_recorded(world: World, driver: Driver) -> None:
    define(world, one=[Activity("a", "t"), Activity("e", "t", ("a",), for_each=ForEach("a.found"))])
    driver.start(manifest("o", "one", found=["wrong"]))
    progress = driver.complete("o", "a", values={"found": ["right"]})
    assert [one.values["element"] for one in all_dispatches(progress.outbox)] == ["right"]


def test_one_element_that_fails_ends_the_others_and_can_be_retried_alone(world: World, driver: Driver) -> None:
    define(world, one=[EACH])
    driver.start(manifest("o", "one", list=["p", "q", "r"]))
    driver.record(driver.outcome("o.e.1", "e", OutcomeKind.FATAL, reason="broken"))
    assert (world.state("o"), world.state("o.e.0")) == ("RUNNING", "CANCELLING")
    progress = driver.complete("o.e.0", "e", values={"v": "P"})
    (response,) = responses(progress.outbox)
    assert (
        response.error_detail
        == "activity e (t): orchestration o.e.0: " + world.orchestrations.get("o.e.0").error_detail
    )
    driver.hear()

    world.operations.retry("o", ORDER)
    driver.take_all()
    for n in range(3):
        if world.orchestrations.get(f"o.e.{n}").state != "COMPLETED":
            driver.complete(f"o.e.{n}", "e", values={"v": n})
    assert world.state("o") == "COMPLETED"


def test_each_element_is_retried_as_its_type_says_and_limited_by_its_type(world: World, driver: Driver) -> None:
    define(world, one=[EACH])
    limited = ActivityDefinition(type="t", retry=RetryPolicy(max_attempts=2), limits=Limits(concurrency=1))
    world.definitions.put_activity_definition(limited)
    assert started(driver.start(manifest("o", "one", list=["p", "q"])).outbox) == ["o.e.0"]
    driver.record(driver.outcome("o.e.0", "e", OutcomeKind.RETRY, reason="later"))
    assert states(world, "o.e.1") == {"e": "DISPATCHED"}
    driver.complete("o.e.1", "e")
    world.let_time_pass()
    driver.sweep()
    driver.complete("o.e.0", "e")
    assert world.state("o") == "COMPLETED"


def test_orchestrations_for_each_element(world: World, driver: Driver) -> None:
    define(world, one=[Activity("s", "orchestration:sub", for_each=ForEach("list"))], **SUB_OF)
    assert started(driver.start(manifest("o", "one", list=["p", "q"])).outbox) == ["o.s.0", "o.s.1"]
    for n in (1, 0):
        driver.complete(f"o.s.{n}", "x")
        driver.complete(f"o.s.{n}", "y", outputs={"out": n})
    assert world.orchestrations.get("o").output_data == {"out": [0, 1]}


def test_a_paused_run_starts_no_more_of_them(world: World, driver: Driver) -> None:
    define(world, one=[EACH])
    driver.start(manifest("o", "one", list=["p", "q", "r"]))
    world.operations.pause("o", ORDER)
    assert started(driver.complete("o.e.0", "e").outbox) == []
    driver.hear()
    world.operations.resume("o", ORDER)
    assert started(driver.take_all()) == ["o.e.2"]


def nested(world: World, driver: Driver) -> None:
    """Start ``o``, whose ``s`` is carried out by ``o.s``, whose elements are carried out by ``o.s.e.0`` and ``o.s.e.1``."""
    define(world, one=[SUB, Activity("b", "t")], sub=[EACH, Activity("y", "t", ("e",))])
    driver.start(manifest("o", "one", list=["p", "q", "r"]))
    assert world.runs() == ["o", "o.s", "o.s.e.0", "o.s.e.1"]


def paused(world: World) -> list[str]:
    return [id_ for id_ in world.runs() if world.orchestrations.get(id_).paused]


def test_with_a_run_those_below_it_are_paused_and_resumed(world: World, driver: Driver) -> None:
    nested(world, driver)
    before = {id_: world.orchestrations.get(id_).version for id_ in world.runs()}
    world.operations.pause("o", ORDER)
    world.operations.pause("o", ORDER)
    assert paused(world) == world.runs()
    assert {id_: world.orchestrations.get(id_).version - before[id_] for id_ in before} == dict.fromkeys(before, 1)
    assert [world.orchestrations.get(id_).paused_above for id_ in world.runs()] == [False, True, True, True]
    noted = json.loads(world.audit.select("true", Page()).json)
    assert [(one["orchestrationId"], one["action"]) for one in noted] == [("o", "pause")]

    world.let_time_pass()
    assert started(driver.sweep().outbox) == []
    assert {states(world, "o.s.e.0")["e"], states(world, "o.s.e.1")["e"], states(world)["b"]} == {"READY"}
    driver.hear()
    world.operations.resume("o", ORDER)
    assert started(driver.take_all()) == ["o", "o.s.e.0", "o.s.e.1"]
    assert paused(world) == []
    driver.complete("o.s.e.0", "e")
    assert world.runs()[-1] == "o.s.e.2"


def test_what_was_paused_by_itself_stays_so_with_all_below_it(world: World, driver: Driver) -> None:
    nested(world, driver)
    world.operations.pause("o.s", ORDER)
    world.operations.pause("o", ORDER)
    world.operations.resume("o", ORDER)
    assert paused(world) == ["o.s", "o.s.e.0", "o.s.e.1"]
    assert [world.orchestrations.get(id_).paused_above for id_ in paused(world)] == [False, True, True]
    world.operations.resume("o.s", ORDER)
    assert paused(world) == []


def test_what_is_paused_with_a_run_can_be_resumed_alone_and_paused_again(world: World, driver: Driver) -> None:
    nested(world, driver)
    world.operations.pause("o", ORDER)
    world.operations.resume("o.s", ORDER)
    assert paused(world) == ["o"]
    world.operations.pause("o.s", ORDER)
    world.operations.resume("o", ORDER)
    assert paused(world) == ["o.s", "o.s.e.0", "o.s.e.1"]


def test_what_goes_on_no_more_is_not_paused_with_its_run(world: World, driver: Driver) -> None:
    define(world, one=[EACH, SUB], sub=[Activity("x", "t", compensation="u"), Activity("y", "t", ("x",))])
    driver.start(manifest("o", "one", list=["p", "q"]))
    driver.complete("o.e.0", "e")
    driver.complete("o.s", "x")
    driver.record(driver.outcome("o.s", "y", OutcomeKind.FATAL))
    assert (world.state("o.s"), world.state("o.e.0"), world.state("o")) == ("COMPENSATING", "COMPLETED", "RUNNING")
    world.operations.pause("o", ORDER)
    assert paused(world) == ["o", "o.e.1"]


def test_a_paused_run_that_fails_or_is_cancelled_ends_what_was_paused_with_it(world: World, driver: Driver) -> None:
    nested(world, driver)
    world.operations.pause("o", ORDER)
    world.operations.cancel("o", ORDER)
    driver.hear()
    driver.record(*(answer(one) for one in driver.sent.values()))
    assert {world.state(id_) for id_ in world.runs()} == {"CANCELLED"}
    assert paused(world) == []


def test_what_had_failed_below_a_paused_run_is_retried_when_that_goes_on(world: World, driver: Driver) -> None:
    define(world, one=[SUB, Activity("b", "t")], **SUB_OF)
    driver.start(manifest("o", "one"))
    driver.record(driver.outcome("o.s", "x", OutcomeKind.FATAL))
    driver.record(driver.outcome("o", "b"))
    driver.hear()
    world.operations.retry("o", ORDER)
    world.operations.pause("o", ORDER)
    driver.hear()
    assert (world.state("o"), world.state("o.s")) == ("RUNNING", "ERRORED")
    world.operations.resume("o", ORDER)
    assert started(driver.take_all()) == ["o.s"]


# Undoing ----------------------------------------------------------------------------------------------------------------


def test_what_was_done_for_elements_is_undone_for_each_of_them(world: World, driver: Driver) -> None:
    each = Activity("e", "t", compensation="u", for_each=ForEach("list", "item"))
    define(world, one=[each, Activity("b", "t", ("e",))])
    driver.start(manifest("o", "one", list=["p", "q"]))
    for n in range(2):
        driver.complete(f"o.e.{n}", "e", values={"made": f"{n}"})
    progress = driver.record(driver.outcome("o", "b", OutcomeKind.FATAL, reason="broken"))
    sent = sorted(all_dispatches(progress.outbox), key=lambda one: one.orchestration_id)
    assert [(one.orchestration_id, one.activity_type, one.discriminator) for one in sent] == [
        ("o.e.undo.0", "u", DISPOSE),
        ("o.e.undo.1", "u", DISPOSE),
    ]
    assert [(one.values["item"], one.values["made"]) for one in sent] == [("p", "0"), ("q", "1")]
    driver.complete("o.e.undo.0", "e")
    assert world.state("o") == "COMPENSATING"
    driver.complete("o.e.undo.1", "e")
    assert world.state("o") == "COMPENSATED"


def test_what_undoes_an_element_gets_what_somebody_outside_has_recorded_before_its_agent_was_heard(
    world: World, driver: Driver
) -> None:
    each = Activity("e", "t", compensation="u", for_each=ForEach("list", "item", concurrency=2))
    define(world, one=[each])
    driver.start(manifest("o", "one", list=["p", "q"]))
    early = ending(driver.sent["o.e.0", "e"], values={"made": 1}, outputs={"out": 2})
    world.orchestrations.end_activity("o.e.0", "e", early)
    driver.record(driver.outcome("o.e.1", "e", OutcomeKind.FATAL, values={"made": 3}))
    world.let_time_pass()
    sent = {one.orchestration_id: one.values for one in all_dispatches(driver.sweep().outbox)}
    assert sent["o.e.undo.0"] == {"list": ["p", "q"], "item": "p", "item.index": 0, "made": 1, "out": 2}
    assert "made" not in sent["o.e.undo.1"]


def test_what_undoes_the_orchestration_of_an_element_gets_what_somebody_outside_has_given_out_there(
    world: World, driver: Driver
) -> None:
    each = Activity("s", "orchestration:sub", compensation="u", for_each=ForEach("list", "item", concurrency=2))
    define(world, one=[each], sub=[Activity("x", "t")])
    driver.start(manifest("o", "one", list=["p", "q"]))
    world.orchestrations.end_activity("o.s.0", "x", ending(driver.sent["o.s.0", "x"], outputs={"out": 2}))
    driver.record(driver.outcome("o.s.1", "x", OutcomeKind.FATAL))
    world.let_time_pass()
    sent = {one.orchestration_id: one.values for one in all_dispatches(driver.sweep().outbox)}
    assert sent["o.s.undo.0"] == {"list": ["p", "q"], "item": "p", "item.index": 0, "out": 2}


def test_an_orchestration_is_undone_by_another_one(world: World, driver: Driver) -> None:
    define(
        world,
        one=[Activity("s", "orchestration:sub", compensation="orchestration:undo"), Activity("b", "t", ("s",))],
        undo=[Activity("u", "t")],
        **SUB_OF,
    )
    driver.start(manifest("o", "one"))
    driver.complete("o.s", "x")
    driver.complete("o.s", "y", outputs={"made": 1})
    progress = driver.record(driver.outcome("o", "b", OutcomeKind.FATAL, reason="broken"))
    (sent,) = all_dispatches(progress.outbox)
    assert (sent.orchestration_id, sent.activity_id, sent.values) == ("o.s.undo", "u", {"made": 1})
    driver.complete("o.s.undo", "u")
    assert world.state("o") == "COMPENSATED"


# Definitions and views --------------------------------------------------------------------------------------------------


def test_a_list_that_cannot_be_one_is_refused_with_its_place(world: World) -> None:
    text = {"properties": {"list": {"type": "string"}}}
    world.definitions.put_activity_definition(ActivityDefinition(type="t", output_schema=text))
    wrong = Activity("e", "t", ("a",), for_each=ForEach("a.list"))
    with pytest.raises(ValidationError) as refused:
        world.definitions.add_template(OrchestrationTemplate(id="x", activities={"one": [Activity("a", "t"), wrong]}))
    assert [(one.pointer, one.detail) for one in refused.value.errors] == [
        ("/activities/one/1/forEach", "'a.list' is delivered as string, and is no list")
    ]


def test_a_run_for_an_element_shows_its_activity_and_where_it_belongs(world: World, driver: Driver) -> None:
    define(world, one=[Activity("a", "t"), Activity("e", "t", ("a",), for_each=ForEach("list"))])
    driver.start(manifest("o", "one", list=["p"]))
    driver.complete("o", "a")
    shown = world.orchestrations.get("o.e.0")
    assert (shown.parent, shown.activities) == ("o", (Activity("e", "t", for_each=ForEach("list")),))
    assert [(one.id, one.state) for one in shown.graph] == [("e", "DISPATCHED")]
