from __future__ import annotations

import asyncio
import copy
import json
from typing import Any

from cfm_core.contracts import subjects
from cfm_core.contracts.activity import ActivityDispatch
from cfm_core.contracts.completion import NO_KEY, CompletionKey
from cfm_core.contracts.reply import EventDict
from cfm_core.eventing.addresses import Addresses
from cfm_core.eventing.cloudevents import event
from cfm_core.eventing.entries import Entry
from cfm_core.eventing.lanes import Lane
from cfm_core.eventing.post import Answer
from cfm_core.eventing.targets import Target
from cfm_core.eventing.verdicts import NO_CONNECTION
from tests.unit.eventing.test_lanes import AGENT, Calls, Origin
from tests.unit.eventing.virtual_time import run

KEY = CompletionKey("the key of the test")
API = "https://cfm/api/v1alpha1/"


def dispatch(**changed: Any) -> EventDict:
    data = {
        "orchestrationId": "o/1",
        "phase": 0,
        "ord": 3,
        "token": "t-1",
        "activityId": "a b",
        "activityType": "dns",
        "discriminator": "x",
        "correlationId": "c",
        "attempt": 1,
    }
    return event(type="d", source="/engine", subject=subjects.activity("dns"), data=data | changed, id="d-1")


def test_an_agent_is_told_where_to_turn_to_and_the_event_in_hand_stays_as_it_was() -> None:
    sent = dispatch()
    before = copy.deepcopy(sent)
    given = ActivityDispatch.model_validate(Addresses(API, KEY).given(sent)["data"])
    about = "https://cfm/api/v1alpha1/orchestrations/o%2F1/activities/a%20b"
    assert given.completion is not None
    assert (given.completion.url, given.completion.token) == (f"{about}/complete", KEY.token("o/1", 0, "a b", "t-1"))
    assert given.heartbeat is not None
    assert (given.heartbeat.url, given.heartbeat.token) == (f"{about}/heartbeat", "t-1")
    assert sent == before
    assert given.completion.token not in repr(given)


def test_without_a_key_there_is_no_completion_and_without_an_address_nothing() -> None:
    assert set(Addresses(API, NO_KEY).given(dispatch())["data"]) - set(dispatch()["data"]) == {"heartbeat"}
    assert Addresses("", KEY).given(dispatch()) == dispatch()


def test_what_dispatches_nothing_is_left_alone() -> None:
    for data in (None, [1], {"token": "t"}, "text"):
        one = event(type="d", source="/s", subject="x", data=data, id="1")
        assert Addresses(API, KEY).given(one) == one


def test_a_token_is_that_of_one_dispatch_of_one_activity() -> None:
    names = [("o", 0, "a", "t"), ("o", 1, "a", "t"), ("o2", 0, "a", "t"), ("o", 0, "b", "t"), ("o", 0, "a", "t2")]
    tokens = {KEY.token(*of) for of in [*names, ('o", 0', 0, "a", "t"), ("ö", 0, "a", "t")]}
    assert len(tokens) == 7
    assert {len(one) for one in tokens} == {43}
    assert KEY.token("o", 0, "a", "t") == CompletionKey(KEY.key).token("o", 0, "a", "t")
    assert CompletionKey("other").token("o", 0, "a", "t") not in tokens


def test_only_the_post_carries_tokens_not_what_is_kept_elsewhere() -> None:
    bodies: list[EventDict] = []
    kept: list[EventDict] = []

    class Recording(Calls):
        async def post(self, target: Target, body: bytes) -> Answer:
            bodies.extend(json.loads(body))
            return await super().post(target, body)

        async def to_stream(self, subject: str, entries: Any) -> Any:
            kept.extend(json.loads(entry.encoded) for entry in entries)
            return await super().to_stream(subject, entries)

    calls = Recording(lambda ids: Answer(NO_CONNECTION))

    async def work() -> None:
        lane = Lane(AGENT, calls.post, calls, addressed=Addresses(API, KEY).given)
        lane.offer([Entry(dispatch(), Origin())])
        await asyncio.sleep(60)

    run(work())
    assert all("completion" in one["data"] for one in bodies)
    assert (len(bodies), kept) == (6, [dispatch()])
