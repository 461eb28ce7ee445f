"""What a function of a lifecycle agent answers for each of its events."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from cfm_core import trace
from cfm_core.agent import CloudEvent, lifecycle_function
from cfm_core.assembly import ServiceType
from cfm_core.contracts.reply import Failure, Reply
from cfm_core.declaration import EventFunction
from cfm_core.errors import FatalError, NotFoundError, RecoverableError

SERVICE: ServiceType[list[str]] = ServiceType("lifecycle-test")


class Thing(BaseModel):
    name: str


@lifecycle_function(subject="events.thing.>", data=Thing, requires=[SERVICE])
def follow_thing_of_a_test(event: CloudEvent[Thing], seen: list[str]) -> None:
    """Notes things, and fails on some."""
    match event.data.name:
        case "away":
            raise RecoverableError("the service is away", retry_after=3)
        case "refused":
            raise FatalError("the service refuses")
        case "absent":
            raise NotFoundError("thing", "x")
        case "bug":
            raise KeyError("oh")
        case name:
            seen.append(name)


@lifecycle_function(every=timedelta(minutes=5), requires=[SERVICE])
def look_around_of_a_test(event: CloudEvent[None], seen: list[str]) -> None:
    """Notes that it was woken."""
    seen.append("woken")


def declaration(target: Any) -> EventFunction:
    assert isinstance(target.declaration, EventFunction)
    return target.declaration


def call(*names: str) -> tuple[Reply, list[str]]:
    seen: list[str] = []
    events = [CloudEvent(name, "/test", "t", "events.thing.made", Thing(name=name)) for name in names]
    return declaration(follow_thing_of_a_test).handler(events, seen), seen


def test_each_event_has_an_end_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        reply, seen = call("a", "away", "refused", "b", "absent", "bug", "c")
    assert seen == ["a", "b", "c"]
    assert reply.failures == {
        "away": Failure(503, "the service is away", 3),
        "refused": Failure(422, "the service refuses"),
        "absent": Failure(422, "no thing 'x'"),
        "bug": Failure(500, "KeyError: 'oh'"),
    }
    assert [record.message for record in caplog.records] == ["follow_thing_of_a_test failed"], "a bug shows its place"


def test_what_is_declared_is_all_that_the_trigger_is_told() -> None:
    found = declaration(follow_thing_of_a_test)
    assert (found.name, found.subject, found.every) == ("follow_thing_of_a_test", "events.thing.>", None)
    assert (found.of_agent, found.activity, found.requires) == (True, None, (SERVICE,))
    assert found.handler.__doc__ == "Notes things, and fails on some."
    assert found.source.name == "test_lifecycle.py"


def test_one_that_is_woken_gets_an_event_that_carries_nothing() -> None:
    seen: list[str] = []
    found = declaration(look_around_of_a_test)
    assert (found.every, found.subject) == (timedelta(minutes=5), "")
    tick: CloudEvent[None] = CloudEvent("t", "/test", "t", "", None, time=datetime.now(UTC))
    assert found.handler([tick], seen) == Reply()
    assert seen == ["woken"]


def test_each_event_is_handled_within_its_own_trace() -> None:
    contexts = [{"traceparent": f"00-{digit * 32}-{digit * 16}-01"} for digit in "12"]
    seen: list[Mapping[str, str]] = []

    @lifecycle_function(subject="events.thing.>", data=Thing)
    def trace_thing_of_a_test(event: CloudEvent[Thing]) -> None:
        """Notes to which trace it belongs."""
        seen.append(trace.headers())

    events = [CloudEvent("e", "/test", "t", "", Thing(name="a"), trace=one) for one in [*contexts, {}]]
    declaration(trace_thing_of_a_test).handler(events)
    assert [dict(one) for one in seen] == [*contexts, {}]
