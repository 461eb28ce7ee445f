"""The trace context of whoever asked for a run is that of all that follows from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from cfm_core import trace
from cfm_core.clock import system_clock
from cfm_core.contracts import subjects
from cfm_core.contracts.activity import OutcomeKind
from cfm_core.contracts.orchestration import DEPLOY, DISPOSE, compensation_id
from cfm_core.provisioning.definitions.model import Activity, ActivityDefinition, OrchestrationTemplate
from cfm_core.provisioning.operations.model import Order
from cfm_core.provisioning.orchestrations.v1alpha1 import to_internal_json, to_json
from cfm_core.query import Page
from tests.contract.provisioning.world import DIAMOND, Driver, Outbox, World, define, manifest, manifests, responses

ORDER = Order(actor="ann", reason="the issuer is away", request_id="r1")
CONTEXT = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "tracestate": "v=1", "baggage": "user=a%20b"}
OTHER = {"traceparent": f"00-{'c' * 32}-{'d' * 16}-00"}


def traces(outbox: Outbox) -> list[dict[str, str]]:
    """The trace context of each event, in their order."""
    events = [event for row in outbox for event in row.events]
    return [{name: event[name] for name in trace.NAMES if name in event} for event in events]


def traced(outbox: Outbox) -> dict[str, dict[str, str]]:
    """The trace context of each event of the outbox by its subject, where those of a subject agree."""
    found: dict[str, dict[str, str]] = {}
    for row in outbox:
        for context in traces([row]):
            assert found.setdefault(row.subject, context) == context, row.subject
    return found


def start(driver: Driver, id_: str, type_: str, context: Mapping[str, str] = CONTEXT, **payload: Any) -> Outbox:
    return driver.take(driver.world.engine.start([manifest(id_, type_, **payload)], {id_: context})).outbox


def fail(driver: Driver, id_: str, activity: str) -> Outbox:
    return driver.record(driver.outcome(id_, activity, OutcomeKind.FATAL, reason="broken")).outbox


def test_dispatches_and_the_response_belong_to_what_the_manifest_belongs_to(world: World, driver: Driver) -> None:
    define(world, one=DIAMOND)
    first = start(driver, "o", "one")
    second = driver.complete("o", "a", values={"v": 1}).outbox
    third = driver.complete("o", "b", "c").outbox
    last = driver.complete("o", "d").outbox
    assert [len(traces(one)) for one in (first, second, third, last)] == [1, 2, 1, 1]
    assert responses(last)[0].success
    assert [context for one in (first, second, third, last) for context in traces(one)] == [CONTEXT] * 5


def test_runs_of_one_batch_belong_to_what_each_was_asked_for_with(world: World, driver: Driver) -> None:
    define(world, one=[Activity("a", "t.one")])
    ids = ("traced", "other", "plain")
    progress = driver.take(
        world.engine.start([manifest(id_, "one") for id_ in ids], {"traced": CONTEXT, "other": OTHER})
    )
    progress.outbox += driver.record(*(driver.outcome(id_, "a") for id_ in ids)).outbox
    found: dict[str, list[dict[str, str]]] = {}
    for row in progress.outbox:
        for event, context in zip(row.events, traces([row]), strict=True):
            found.setdefault(event["subject"], []).append(context)
    assert found == {"traced": [CONTEXT, CONTEXT], "other": [OTHER, OTHER], "plain": [{}, {}]}


def test_events_of_a_run_without_a_context_have_the_attributes_that_they_always_had(
    world: World, driver: Driver
) -> None:
    define(world, one=[Activity("a", "t.one")])
    rows = [*driver.start(manifest("o", "one")).outbox, *driver.complete("o", "a").outbox]
    always = {"specversion", "id", "source", "type", "subject", "datacontenttype", "data"}
    assert [{*event} for row in rows for event in row.events] == [always, always]
    assert "originTraceContext" not in to_internal_json(world.orchestrations.get("o"), system_clock())


def test_what_is_sent_again_belongs_to_what_it_did(world: World, driver: Driver) -> None:
    define(world, one=[Activity("a", "t.one")])
    start(driver, "o", "one")
    world.let_time_pass()
    lost = driver.sweep().outbox
    driver.record(driver.outcome("o", "a", OutcomeKind.RETRY, reason="busy"))
    world.let_time_pass()
    assert [traces(lost), traces(driver.sweep().outbox)] == [[CONTEXT], [CONTEXT]]


def test_a_manifest_that_comes_again_changes_nothing_of_it(world: World, driver: Driver) -> None:
    define(world, one=[Activity("a", "t.one")])
    start(driver, "o", "one")
    assert start(driver, "o", "one", OTHER) == []
    assert traces(driver.complete("o", "a").outbox) == [CONTEXT]
    assert traces(start(driver, "o", "one", OTHER)) == [CONTEXT]
    world.archive()
    assert traces(start(driver, "o", "one", OTHER)) == [CONTEXT]


def test_what_starts_nothing_is_answered_within_its_own(world: World, driver: Driver) -> None:
    rows = [*start(driver, "nobody defines it", "nothing"), *start(driver, "not storable", "nothing", bad="\0")]
    assert traced(rows) == {subjects.RESPONSES: CONTEXT}
    assert len(responses(rows)) == 2


def test_a_dead_letter_that_is_replayed_belongs_to_what_it_did(world: World, driver: Driver) -> None:
    start(driver, "o" * 513, "one")
    assert world.dead_letters() == [subjects.MANIFESTS]
    (letter,) = json.loads(world.letters.select("true", Page()).json)
    before = len(world.rows())
    world.letters.replay(str(letter["id"]), ORDER)
    assert traced(list(world.rows())[before:]) == {subjects.MANIFESTS: CONTEXT}


def test_an_outcome_that_cannot_be_taken_in_is_kept_with_what_it_belongs_to(world: World, driver: Driver) -> None:
    define(world, one=[Activity("a", "t.one")])
    start(driver, "o", "one")
    outcome = driver.outcome("o", "a", OutcomeKind.COMPLETE, values={"v": "\0"})
    driver.take(world.engine.record([outcome], {outcome.token: OTHER}))
    (letter,) = json.loads(world.letters.select("true", Page()).json)
    event = world.letters.get(str(letter["id"])).event
    assert event is not None
    assert {name: json.loads(event).get(name) for name in trace.NAMES} == {**dict.fromkeys(trace.NAMES), **OTHER}


def test_a_compensation_belongs_to_what_it_undoes(world: World, driver: Driver) -> None:
    define(world, deploy=[Activity("a", "t.one")], dispose=[Activity("x", "t.two")])
    start(driver, "o", DEPLOY)
    failed = fail(driver, "o", "a")
    assert traced(failed) == {subjects.RESPONSES: CONTEXT, subjects.MANIFESTS: CONTEXT}
    world.let_time_pass()
    again = driver.sweep().outbox
    assert traced(again) == {subjects.MANIFESTS: CONTEXT}
    (undoing,), (context,) = manifests(again), traces(again)
    begun = driver.take(world.engine.start([undoing], {undoing.id: context})).outbox
    ended = driver.complete(undoing.id, "x").outbox
    assert (traces(begun), traced(ended)) == ([CONTEXT], {subjects.RESPONSES: CONTEXT})
    assert responses(ended)[0].orchestration_type == DISPOSE


def test_activities_that_undo_others_belong_to_what_these_did(world: World, driver: Driver) -> None:
    chain = [Activity("a", "t", compensation="u"), Activity("b", "t", ("a",), compensation="u")]
    define(world, deploy=chain)
    start(driver, "o", DEPLOY)
    driver.complete("o", "a")
    rows = [*fail(driver, "o", "b"), *driver.complete("o", "b").outbox, *driver.complete("o", "a").outbox]
    assert [one.success for one in responses(rows)] == [False, True]
    assert traces(rows) == [CONTEXT] * 4


def test_orchestrations_of_an_activity_belong_to_what_it_does(world: World, driver: Driver) -> None:
    world.definitions.put_activity_definition(ActivityDefinition(type="t"))
    activities = {"one": [Activity("s", "orchestration:sub")], "sub": [Activity("x", "t")]}
    world.definitions.add_template(OrchestrationTemplate(id="template", activities=activities))
    begun = start(driver, "o", "one")
    ended = driver.complete("o.s", "x").outbox
    assert traced([*begun, *ended]) == {
        subjects.CALLS: CONTEXT,
        subjects.activity("t"): CONTEXT,
        subjects.RESPONSES: CONTEXT,
    }


def test_orchestrations_of_an_activity_go_on_in_the_trace_of_whoever_retries_it(world: World, driver: Driver) -> None:
    world.definitions.put_activity_definition(ActivityDefinition(type="t"))
    activities = {"one": [Activity("s", "orchestration:sub")], "sub": [Activity("x", "t")]}
    world.definitions.add_template(OrchestrationTemplate(id="template", activities=activities))
    start(driver, "o", "one")
    fail(driver, "o.s", "x")
    driver.hear()
    with trace.within(OTHER):
        world.operations.retry("o", ORDER)
    assert traced(driver.take_all()) == {subjects.CALLS: OTHER, subjects.activity("t"): OTHER}


def test_what_is_looked_at_first_belongs_to_what_it_did(world: World, driver: Driver) -> None:
    define(world, one=[Activity("a", "t.one")])
    schema = {"type": "object", "required": ["v"]}
    world.definitions.put_activity_definition(ActivityDefinition(type="t.one", input_schema=schema))
    assert traced(start(driver, "o", "one", v=1)) == {
        subjects.INPUTS: CONTEXT,
        subjects.activity("t.one"): CONTEXT,
    }
    assert traced(start(driver, "p", "one", OTHER)) == {subjects.INPUTS: OTHER, subjects.RESPONSES: OTHER}


def test_what_is_started_over_the_api_belongs_to_the_request(world: World, driver: Driver) -> None:
    define(world, one=[Activity("a", "t.one")])
    with trace.within(CONTEXT):
        started = world.orchestrations.start(manifest("o", "one"))
    assert dict(started.origin_trace) == CONTEXT
    assert to_internal_json(started, system_clock())["originTraceContext"] == CONTEXT
    assert "originTraceContext" not in to_json(started, system_clock())
    assert traces(driver.hear()) == [CONTEXT]
    assert traces(driver.complete("o", "a").outbox) == [CONTEXT]


def test_what_starts_later_belongs_to_the_request_that_asked_for_it(world: World, driver: Driver) -> None:
    define(world, one=[Activity("a", "t.one")])
    later = system_clock() + timedelta(hours=1)
    with trace.within(CONTEXT):
        world.orchestrations.start(manifest("traced", "one"), later)
    asked = world.orchestrations.start(manifest("plain", "one"), later)
    assert dict(asked.origin_trace) == {}
    assert dict(world.orchestrations.get("traced").origin_trace) == CONTEXT
    for id_, context in (("traced", CONTEXT), ("plain", {})):
        world.set_start(id_, system_clock() - timedelta(seconds=1))
        assert traces(driver.take(world.due_starts.sweep()).outbox) == [context]
        assert dict(world.orchestrations.get(id_).origin_trace) == context


def test_another_run_of_the_same_belongs_to_whoever_asks_for_it(world: World, driver: Driver) -> None:
    define(world, one=[Activity("a", "t.one")])
    start(driver, "o", "one")
    driver.complete("o", "a")
    with trace.within(OTHER):
        assert dict(world.operations.rerun("o", ORDER).origin_trace) == OTHER
    assert dict(world.operations.rerun("o", ORDER, new_id="p").origin_trace) == {}
    assert dict(world.orchestrations.get("o").origin_trace) == CONTEXT


@pytest.mark.parametrize(("context", "found"), [({}, CONTEXT), (OTHER, OTHER)])
def test_a_run_that_goes_on_after_its_end_belongs_to_whoever_lets_it_if_that_is_traced(
    world: World, driver: Driver, context: dict[str, str], found: dict[str, str]
) -> None:
    define(world, one=[Activity("a", "t.one")])
    start(driver, "o", "one")
    fail(driver, "o", "a")
    world.archive()
    driver.hear()
    with trace.within(context):
        world.operations.retry("o", ORDER)
    assert traces(driver.hear()) == [found]
    assert traces(driver.complete("o", "a").outbox) == [found]


@pytest.mark.parametrize(("context", "found"), [({}, CONTEXT), (OTHER, OTHER)])
def test_what_an_operator_has_undone_belongs_to_them_if_they_are_traced(
    world: World, driver: Driver, context: dict[str, str], found: dict[str, str]
) -> None:
    define(world, deploy=[Activity("a", "t.one")], dispose=[Activity("x", "t.two")])
    start(driver, "o", DEPLOY)
    driver.complete("o", "a")
    driver.hear()
    with trace.within(context):
        world.operations.compensate("o", ORDER, force=True)
    asked = driver.hear()
    assert traced(asked) == {subjects.MANIFESTS: found}
    (undoing,) = manifests(asked)
    driver.take(world.engine.start([undoing], {undoing.id: traces(asked)[0]}))
    fail(driver, undoing.id, "x")
    driver.hear()
    with trace.within(CONTEXT):
        world.operations.compensate("o", ORDER)
    assert traces(driver.hear()) == [CONTEXT]
    assert dict(world.orchestrations.get(compensation_id("o")).origin_trace) == CONTEXT


def test_what_an_operator_does_to_a_live_run_leaves_it_where_it_belongs(world: World, driver: Driver) -> None:
    define(world, deploy=[Activity("a", "t.one"), Activity("b", "t.one", ("a",))], dispose=[Activity("x", "t.two")])
    start(driver, "o", DEPLOY)
    driver.hear()
    with trace.within(OTHER):
        world.operations.pause("o", ORDER)
        driver.complete("o", "a")
        world.operations.resume("o", ORDER)
        rows = list(driver.hear())
        world.operations.cancel("o", ORDER)
    driver.complete("o", "b")
    rows += driver.hear()
    assert [row.subject for row in rows[-2:]] == [subjects.RESPONSES, subjects.MANIFESTS]
    assert traces(rows) == [CONTEXT] * len(rows)


@pytest.mark.parametrize("archived", [False, True])
def test_erasing_a_run_erases_what_it_belonged_to(world: World, driver: Driver, archived: bool) -> None:
    define(world, one=[Activity("a", "t.one")])
    start(driver, "o", "one")
    driver.complete("o", "a")
    if archived:
        world.archive()
    assert dict(world.orchestrations.get("o").origin_trace) == CONTEXT
    world.operations.erase("of o", ORDER)
    assert dict(world.orchestrations.get("o").origin_trace) == {}
