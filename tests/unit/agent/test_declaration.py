"""An activity as a function: what the decorator leaves in the module, and what that answers to the trigger."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import sys
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import cfm_core.clients.http  # noqa: F401 - not while an attempt is timed
from cfm_core import trace
from cfm_core.agent import ActivityContext, ActivityResult, Complete, Fatal, Retry, Schedule, Wait, activity
from cfm_core.agent.declaration import LONGEST_REASON
from cfm_core.assembly.secrets import SECRETS
from cfm_core.assembly.service_type import ServiceType
from cfm_core.contracts.activity import ActivityDispatch, ActivityTypeAnnouncement, Address
from cfm_core.contracts.orchestration import DEPLOY
from cfm_core.contracts.reply import Reply
from cfm_core.declaration import EventFunction
from cfm_core.errors import FatalError, RecoverableError
from cfm_core.eventing.cloudevents import CloudEvent

GREETING: ServiceType[str] = ServiceType("greeting")
RELEASED = threading.Event()


@pytest.fixture(autouse=True)
def release() -> Iterator[None]:
    """Lets go whatever hangs at the end of a test."""
    RELEASED.clear()
    yield
    RELEASED.set()


@pytest.fixture(autouse=True)
def loopback_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the API of these tests is: its address comes with each activity."""
    monkeypatch.setenv("CFM_OUTBOUND_NETWORKS", "127.0.0.0/8")


@activity(
    "unit.greeter",
    requires=[GREETING],
    timeout=timedelta(seconds=7),
    max_attempts=3,
    backoff=timedelta(seconds=2),
    backoff_limit=timedelta(seconds=9),
    batch=5,
    slots=2,
)
class DNSGreeter2Go:
    """Greets."""

    made = 0

    def __init__(self, greeting: str) -> None:
        self._greeting = greeting
        DNSGreeter2Go.made += 1

    def deploy(self, ctx: ActivityContext) -> ActivityResult:
        ctx.set_value("greeting", self._greeting)
        ctx.set_output("said", True)
        ctx.delete_value("mood")
        return Complete()


@activity("unit.obedient", timeout=timedelta(seconds=0.05))
class Obedient:
    """Does what the values say."""

    def deploy(self, ctx: ActivityContext) -> ActivityResult:
        match ctx.values.get("do"):
            case "hang":
                ctx.set_value("begun", True)
                RELEASED.wait()
            case "raise":
                raise ValueError("\0on fire\ud800")
            case "talk":
                return Fatal("x" * 10_000)
            case "wait":
                return Wait(timedelta(minutes=1), "for the postman")
            case "schedule":
                return Schedule(timedelta(seconds=1.5))
        return Complete()


def function(name: str) -> EventFunction:
    declaration = vars(sys.modules[__name__])[name].declaration
    assert isinstance(declaration, EventFunction)
    assert declaration.activity is not None
    type_, handler = declaration.activity.activity_type, declaration.handler

    @functools.wraps(handler)
    def handle(events: Sequence[CloudEvent[ActivityDispatch]], *services: Any) -> Any:
        mine = [dataclasses.replace(one, data=one.data.model_copy(update={"activity_type": type_})) for one in events]
        return handler(mine, *services)

    return dataclasses.replace(declaration, handler=handle)


def event(
    number: int = 0, deadline: datetime | None = None, sign_of_life: Address | None = None, **values: Any
) -> CloudEvent[ActivityDispatch]:
    dispatch = ActivityDispatch(
        orchestration_id="o",
        phase=0,
        ord=number,
        token=f"token-{number}",
        activity_id="a",
        activity_type="unit.obedient",
        discriminator=DEPLOY,
        correlation_id="c",
        attempt=1,
        deadline=deadline,
        timeout_seconds=1.0 if sign_of_life else None,
        heartbeat=sign_of_life,
        values=values,
    )
    return CloudEvent(f"event-{number}", "test", "cfm.activity.dispatch", "", dispatch)


def outcomes(reply: Reply) -> list[dict[str, Any]]:
    """The outcomes without what identifies them."""
    return [
        {key: value for key, value in one["data"].items() if key not in {"orchestrationId", "phase", "ord", "token"}}
        for one in reply.events
    ]


def obey(*events: CloudEvent[ActivityDispatch]) -> Reply:
    reply: Reply = function("obedient").handler(list(events))
    return reply


@activity("unit.traced")
class Traced:
    """Says to which trace it belongs."""

    def deploy(self, ctx: ActivityContext) -> ActivityResult:
        ctx.set_output("trace", dict(trace.headers()))
        return Complete()


FIRST, SECOND = (f"00-{digit * 32}-{digit * 16}-01" for digit in "12")
WHOLE = {"traceparent": FIRST, "tracestate": "v=1", "baggage": "a=1"}


@pytest.mark.parametrize(
    ("of_event", "values", "found"),
    [
        ({}, {}, {}),
        (WHOLE, {}, WHOLE),
        ({"traceparent": FIRST}, {"trace_context": SECOND}, {"traceparent": SECOND}),
        ({"traceparent": FIRST}, {"trace_context": 5}, {"traceparent": FIRST}),
    ],
)
def test_an_attempt_belongs_to_the_trace_of_its_run_or_else_of_its_dispatch(
    of_event: dict[str, str], values: dict[str, Any], found: dict[str, str]
) -> None:
    traced_event = dataclasses.replace(event(**values), trace=of_event)
    reply: Reply = function("traced").handler([traced_event])
    assert reply.events[0]["data"]["outputs"]["trace"] == found
    # The outcome belongs to whatever the dispatch does.
    assert {name: reply.events[0][name] for name in trace.NAMES if name in reply.events[0]} == of_event


def test_the_declaration_holds_what_the_decorator_was_told() -> None:
    declared = function("dns_greeter2_go")
    assert declared.subject == "event.cfm.activity.unit.greeter"
    assert (declared.batch, declared.slots, declared.requires) == (5, 2, (GREETING,))
    assert declared.source == Path(__file__).resolve()
    assert declared.handler.__doc__ == "Greets."
    assert declared.activity == ActivityTypeAnnouncement(
        activity_type="unit.greeter",
        timeout=timedelta(seconds=7),
        max_attempts=3,
        backoff=timedelta(seconds=2),
        backoff_limit=timedelta(seconds=9),
    )


def test_an_outcome_answers_each_dispatch_and_repeats_its_token() -> None:
    reply: Reply = function("dns_greeter2_go").handler([event(1), event(2)], "hello")
    assert reply.failures == {}
    assert reply.events[0] == {
        "specversion": "1.0",
        "id": "event-1/outcome",
        "source": "cfm/agent/unit.greeter",
        "type": "cfm.activity.outcome",
        "subject": "event.cfm.result",
        "datacontenttype": "application/json",
        "data": {
            "orchestrationId": "o",
            "phase": 0,
            "ord": 1,
            "token": "token-1",
            "kind": "complete",
            "values": {"greeting": "hello"},
            "deleted": ["mood"],
            "outputs": {"said": True},
        },
    }
    assert [one["data"]["token"] for one in reply.events] == ["token-1", "token-2"]


def test_one_instance_serves_all_events_and_new_services_make_a_new_one() -> None:
    DNSGreeter2Go.made = 0
    handler = function("dns_greeter2_go").handler
    first, second = "first service", "second service"
    for service in (first, first, second):
        handler([event(1), event(2)], service)
    assert DNSGreeter2Go.made == 2


def test_each_result_has_its_outcome() -> None:
    reply = obey(*(event(n, do=do) for n, do in enumerate(["", "wait", "schedule", "raise"])))
    assert outcomes(reply) == [
        {"kind": "complete"},
        {"kind": "wait", "after": "PT1M", "reason": "for the postman"},
        {"kind": "schedule", "after": "PT1.5S"},
        {"kind": "retry", "reason": "ValueError: on fire?"},
    ]


def test_a_reason_is_not_endless() -> None:
    (outcome,) = outcomes(obey(event(do="talk")))
    assert len(outcome["reason"]) == LONGEST_REASON


def test_an_activity_that_hangs_is_a_retry_with_what_it_recorded_and_holds_nobody_up() -> None:
    reply = obey(event(0), event(1, do="hang"), *(event(n) for n in range(2, 40)))
    assert [one["kind"] for one in outcomes(reply)] == ["complete", "retry", *["complete"] * 38]
    assert outcomes(reply)[1] == {"kind": "retry", "reason": "timed out after 0.05 s", "values": {"begun": True}}


def test_activities_that_hang_without_end_are_limited_in_number() -> None:
    @activity("unit.hopeless", timeout=timedelta(milliseconds=10))
    class Hopeless:
        def deploy(self, ctx: ActivityContext) -> ActivityResult:
            RELEASED.wait()
            return Complete()

    handler = function("hopeless").handler
    for _ in range(2):
        handler([event(number) for number in range(8)])
    with pytest.raises(RecoverableError, match="16 activities hang") as caught:
        handler([event()])
    assert caught.value.retry_after is not None


def test_a_deadline_ends_an_activity_as_its_timeout_does() -> None:
    @activity("unit.patient", timeout=timedelta(hours=1))
    class Patient:
        def deploy(self, ctx: ActivityContext) -> ActivityResult:
            RELEASED.wait()
            return Complete()

    reply: Reply = function("patient").handler([event(deadline=datetime.now(UTC) + timedelta(seconds=0.04))])
    (outcome,) = outcomes(reply)
    assert outcome["kind"] == "retry"
    assert outcome["reason"].startswith("timed out after 0")


def test_a_definition_may_give_more_time_than_the_activity_asks_for() -> None:
    @activity("unit.hurried", timeout=timedelta(milliseconds=1))
    class Hurried:
        def deploy(self, ctx: ActivityContext) -> ActivityResult:
            RELEASED.wait(0.01)
            return Complete()

    reply: Reply = function("hurried").handler([event(deadline=datetime.now(UTC) + timedelta(seconds=20))])
    assert outcomes(reply) == [{"kind": "complete"}]


def test_what_arrives_after_its_deadline_is_not_begun_and_asks_for_another_turn() -> None:
    reply = obey(event(do="raise", deadline=datetime.now(UTC) - timedelta(seconds=1)))
    assert outcomes(reply) == [{"kind": "schedule", "after": "PT1S", "begun": False}]


def test_what_is_another_agents_is_not_carried_out() -> None:
    mine, foreign = event(1), event(2, do="raise")
    foreign = dataclasses.replace(foreign, data=foreign.data.model_copy(update={"activity_type": "unit.fragile"}))
    declaration = vars(sys.modules[__name__])["obedient"].declaration
    reply: Reply = declaration.handler([mine, foreign])
    assert outcomes(reply) == [{"kind": "complete"}]
    assert {key: failure.status for key, failure in reply.failures.items()} == {"event-2": 422}


def test_an_activity_that_cannot_be_made_is_tried_again_with_the_next_event() -> None:
    failing = [True]

    @activity("unit.fragile")
    class Fragile:
        def __init__(self) -> None:
            if failing:
                failing.clear()
                raise FatalError("CFM_X is not set")

        def deploy(self, ctx: ActivityContext) -> ActivityResult:
            return Complete()

    handler = function("fragile").handler
    assert outcomes(handler([event()])) == [
        {"kind": "retry", "reason": "Fragile cannot be made: FatalError: CFM_X is not set"}
    ]
    assert outcomes(handler([event()])) == [{"kind": "complete"}]


def test_an_activity_with_secrets_requires_the_secret_store() -> None:
    class Store:
        def get(self, path: str) -> str:
            return f"value of {path}"

    @activity("unit.secretive", requires=[GREETING], secrets=["hub"])
    class Secretive:
        def __init__(self, greeting: str) -> None:
            self._greeting = greeting

        def deploy(self, ctx: ActivityContext) -> ActivityResult:
            return Retry(f"{self._greeting} {ctx.secrets['hub']}")

    declared = function("secretive")
    assert declared.requires == (GREETING, SECRETS)
    assert outcomes(declared.handler([event()], "hello", Store())) == [
        {"kind": "retry", "reason": "hello [secret hub]"}
    ]


def declare(source: str) -> None:
    module = sys.modules[__name__]
    exec(source, {**vars(module), "__name__": __name__})


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("@activity('a b')\nclass A:\n  def deploy(self, ctx): ...", "cannot be an activity type"),
        (
            "@activity('a', max_attempts=0)\nclass A:\n  def deploy(self, ctx): ...",
            "A declares what nobody can hold to",
        ),
        ("@activity('a')\nclass A: ...", "none of the methods deploy, dispose, process"),
        ("@activity('a')\nclass A:\n  async def deploy(self, ctx): ...", "A.deploy is a coroutine"),
        ("@activity('a')\nclass lower:\n  def deploy(self, ctx): ...", "write the class name lower in CamelCase"),
        ("@activity('a')\nclass Pytest:\n  def deploy(self, ctx): ...", "rename Pytest, or what is called pytest"),
    ],
)
def test_a_declaration_that_makes_no_sense_says_what_to_change(source: str, words: str) -> None:
    with pytest.raises(FatalError, match=words):
        declare(source)


@contextlib.contextmanager
def api(status: int) -> Iterator[tuple[Address, list[Any]]]:
    """Where heartbeats are answered with ``status``, and what has arrived there."""
    arrived: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            arrived.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield Address(url=f"http://127.0.0.1:{server.server_port}/beat", token="t"), arrived
        server.shutdown()


def test_an_attempt_that_is_waited_for_gives_a_sign_of_life_and_has_its_timeout_from_then_on() -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    with api(200) as (address, arrived):
        (outcome,) = outcomes(obey(event(deadline=later, sign_of_life=address, do="hang")))
    assert arrived == [{"token": "t", "progress": None}]
    assert (outcome["kind"], outcome["reason"]) == ("retry", "timed out after 1 s")


def test_an_attempt_that_is_superseded_before_it_has_begun_does_nothing() -> None:
    with api(409) as (address, arrived):
        (outcome,) = outcomes(obey(event(sign_of_life=address, do="wait")))
    assert len(arrived) == 1
    assert outcome["kind"] == "schedule"
