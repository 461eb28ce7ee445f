from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from cfm_core.contracts import subjects
from cfm_core.contracts.reply import OutboxRow
from cfm_core.errors import RecoverableError
from cfm_core.eventing import outcomes
from cfm_core.eventing.cloudevents import event
from cfm_core.eventing.entries import Entry
from cfm_core.eventing.lanes import Lane
from cfm_core.eventing.post import Answer
from cfm_core.eventing.targets import Target
from cfm_core.eventing.verdicts import NO_CONNECTION, TIMEOUT
from tests.unit.eventing.virtual_time import run

PLAIN = Target(name="results", url="http://h", subject=subjects.RESULTS, batch=4, slots=2)
AGENT = Target(
    name="dns", url="http://h", subject=subjects.activity("dns"), batch=4, slots=2, activity={"activityType": "dns"}
)

OK = Answer(200, b"{}")

Script = Callable[[list[str]], Answer]


@dataclass
class Origin:
    """Remembers what it was told."""

    told: list[str] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)

    def settled(self) -> None:
        self.told.append("settled")

    def buried(self) -> None:
        self.told.append("buried")

    def given_back(self, delay: float) -> None:
        self.told.append("given back")
        self.delays.append(delay)


@dataclass
class Calls:
    """The function and the exchange of a lane under test."""

    script: Script
    seconds: float = 0.0
    batches: list[list[str]] = field(default_factory=list)
    at: list[float] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    rows: list[OutboxRow] = field(default_factory=list)
    outcomes: list[Entry] = field(default_factory=list)
    buried: list[tuple[str, str]] = field(default_factory=list)
    published: list[str] = field(default_factory=list)
    stream_is_away: bool = False

    async def post(self, target: Target, body: bytes) -> Answer:
        ids = [one["id"] for one in json.loads(body)]
        self.batches.append(ids)
        self.at.append(asyncio.get_running_loop().time())
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(self.seconds)
        self.at_once -= 1
        return self.script(ids)

    def take_rows(self, rows: Sequence[OutboxRow]) -> None:
        self.rows.extend(rows)

    def take_outcomes(self, entries: Sequence[Entry]) -> None:
        self.outcomes.extend(entries)

    async def to_stream(self, subject: str, entries: Sequence[Entry]) -> list[Entry]:
        if self.stream_is_away:
            return list(entries)
        for entry in entries:
            self.published.append(entry.id)
            entry.origin.settled()
        return []

    async def bury(self, target: Target, entry: Entry, reason: str) -> None:
        if self.stream_is_away:
            raise RecoverableError("NATS is not there")
        self.buried.append((entry.id, reason))


def entry(name: str, **options: Any) -> Entry:
    made = event(type="t", source="/test", subject="event.x", data={"name": name}, id=name)
    return Entry(made, Origin(), **options)


def dispatched(name: str, **options: Any) -> Entry:
    data = {"orchestrationId": "o", "phase": 0, "ord": 0, "token": f"t-{name}"}
    return Entry(event(type="d", source="/engine", subject="event.x", data=data, id=name), Origin(), **options)


def told(one: Entry) -> list[str]:
    assert isinstance(one.origin, Origin)
    return one.origin.told


def delays(one: Entry) -> list[float]:
    assert isinstance(one.origin, Origin)
    return one.origin.delays


def failing(status: int, **per_event: Any) -> Script:
    return lambda ids: Answer(status, b"because", **per_event)


def then(first: Answer, *others: Answer) -> Script:
    answers = [first, *others]
    return lambda ids: answers.pop(0) if len(answers) > 1 else answers[0]


def deliver(calls: Calls, *entries: Entry, target: Target = PLAIN, seconds: float = 60) -> Lane:
    """Offer the entries to a lane, and let ``seconds`` pass."""

    async def work() -> Lane:
        lane = Lane(target, calls.post, calls)
        lane.offer(entries)
        await asyncio.sleep(seconds)
        return lane

    return run(work())


def test_what_is_offered_in_one_turn_leaves_in_full_batches_at_once() -> None:
    calls = Calls(lambda ids: OK)

    async def work() -> None:
        lane = Lane(PLAIN, calls.post, calls)
        for number in range(6):
            lane.offer([entry(str(number))])
        await asyncio.sleep(0.001)

    run(work())
    assert calls.batches == [["0", "1", "2", "3"], ["4", "5"]]


def test_no_more_posts_are_under_way_than_there_are_slots() -> None:
    calls = Calls(lambda ids: OK, seconds=1)
    deliver(calls, *(entry(str(number)) for number in range(40)))
    assert calls.most_at_once == 2
    assert calls.at == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


def test_a_batch_does_not_grow_beyond_what_one_post_may_hold() -> None:
    calls = Calls(lambda ids: OK)
    large = [Entry({**entry(name).event, "data": "x" * 3_000_000}, Origin()) for name in "ab"]
    deliver(calls, *large)
    assert calls.batches == [["a"], ["b"]]


def test_an_event_that_took_effect_is_settled() -> None:
    one = entry("a")
    deliver(Calls(lambda ids: OK), one)
    assert told(one) == ["settled"]


@pytest.mark.parametrize("answer", [Answer(204), Answer(200, b"OK"), Answer(202, b"[]")])
def test_an_answer_without_a_report_settles_all(answer: Answer) -> None:
    entries = [entry("a"), entry("b")]
    deliver(Calls(lambda ids: answer), *entries)
    assert [told(one) for one in entries] == [["settled"], ["settled"]]


def test_rows_that_an_answer_names_are_handed_on() -> None:
    row = {"id": 17, "subject": "event.cfm.result", "events": [entry("x").event]}
    calls = Calls(lambda ids: Answer(200, json.dumps({"outbox": [row]}).encode()))
    deliver(calls, entry("a"))
    assert calls.rows == [OutboxRow(17, "event.cfm.result", [entry("x").event])]


@pytest.mark.parametrize("status", [NO_CONNECTION, TIMEOUT, 404, 408, 409, 425, 429, 500, 502, 503, 504])
def test_an_event_that_may_succeed_later_waits_here_when_nobody_else_has_it(status: int) -> None:
    one = entry("a")
    calls = Calls(then(Answer(status), OK))
    deliver(calls, one)
    assert told(one) == ["settled"]
    assert 0.1 <= calls.at[1] <= 0.125


@pytest.mark.parametrize("status", [NO_CONNECTION, TIMEOUT, 404, 408, 409, 425, 429, 500, 502, 503, 504])
def test_an_event_that_may_succeed_later_is_given_back_to_jetstream(status: int) -> None:
    one = entry("a", in_stream=True, attempts=3)
    calls = Calls(failing(status))
    deliver(calls, one)
    assert told(one) == ["given back"]
    assert 0.8 <= delays(one)[0] <= 1.0
    assert len(calls.batches) == 1


def test_a_function_decides_when_it_is_tried_again() -> None:
    calls = Calls(then(Answer(503, retry_after=7.0), OK))
    deliver(calls, entry("a"))
    assert 7 <= calls.at[1] <= 8.75


def test_an_event_goes_to_jetstream_when_its_function_stays_away() -> None:
    one = entry("a")
    calls = Calls(failing(NO_CONNECTION))
    deliver(calls, one)
    assert calls.published == ["a"]
    assert told(one) == ["settled"]
    assert 3 < calls.at[-1] < 8


def test_an_event_waits_on_when_jetstream_is_away_too() -> None:
    one = entry("a")
    calls = Calls(failing(NO_CONNECTION), stream_is_away=True)
    deliver(calls, one, seconds=600)
    assert told(one) == []
    assert len(calls.batches) > 20


@pytest.mark.parametrize("status", [301, 400, 410, 413, 415, 422])
def test_an_event_that_nothing_can_help_is_buried(status: int) -> None:
    one = entry("a")
    calls = Calls(failing(status))
    deliver(calls, one)
    assert calls.buried == [("a", f"{status}: because")]
    assert told(one) == ["buried"]


def test_an_event_that_cannot_be_buried_stays() -> None:
    held, in_stream = entry("a"), entry("b", in_stream=True)
    calls = Calls(failing(422), stream_is_away=True)
    deliver(calls, held, in_stream, seconds=10)
    assert told(held) == []
    assert told(in_stream) == ["given back"]


def test_the_last_delivery_of_a_message_ends_as_a_dead_letter() -> None:
    one = entry("a", in_stream=True, last=True)
    calls = Calls(failing(503))
    deliver(calls, one)
    assert calls.buried == [("a", "not delivered at the last attempt: 503: because")]
    assert told(one) == ["buried"]


@pytest.mark.parametrize("status", [400, 422, 500])
def test_one_event_does_not_spoil_the_others_of_its_batch(status: int) -> None:
    entries = [entry(name, in_stream=True) for name in "abcd"]
    calls = Calls(lambda ids: Answer(status) if "c" in ids else OK)
    deliver(calls, *entries)
    assert calls.batches == [["a", "b", "c", "d"], ["a"], ["b"], ["c"], ["d"]]
    assert [told(one)[0] for one in entries] == [
        "settled",
        "settled",
        "given back" if status == 500 else "buried",
        "settled",
    ]


def test_a_batch_that_is_too_large_is_sent_in_halves() -> None:
    entries = [entry(name) for name in "abcd"]
    calls = Calls(lambda ids: Answer(413) if len(ids) > 2 else OK)
    deliver(calls, *entries)
    assert calls.batches == [["a", "b", "c", "d"], ["a", "b"], ["c", "d"]]
    assert [told(one) for one in entries] == [["settled"]] * 4


def test_a_batch_that_took_too_long_comes_again_in_halves() -> None:
    calls = Calls(lambda ids: Answer(TIMEOUT) if len(ids) > 2 else OK)
    deliver(calls, *(entry(name) for name in "abcd"))
    assert sorted(map(len, calls.batches)) == [2, 2, 4]


def test_an_overloaded_function_is_sent_half_as_much_at_a_time_until_it_recovers() -> None:
    target = Target(name="t", url="http://h", subject=subjects.RESULTS, batch=1, slots=8)
    calls = Calls(then(Answer(429), *[OK] * 100))

    async def work() -> tuple[int, int]:
        lane = Lane(target, calls.post, calls)
        lane.offer([entry("a")])
        await asyncio.sleep(0.01)
        after = lane.state.slots
        lane.offer(entry(str(number)) for number in range(200))
        await asyncio.sleep(5)
        return after, lane.state.slots

    assert run(work()) == (4, 8)


def test_a_function_that_refuses_the_token_is_left_alone_for_longer_and_longer() -> None:
    held, in_stream = entry("a"), entry("b", in_stream=True)
    calls = Calls(failing(401))
    lane = deliver(calls, held, in_stream, seconds=200)
    assert calls.at == [0, 1, 3, 7, 15, 31, 63, 123, 183]
    assert told(held) == []
    assert told(in_stream) == ["given back"]
    assert lane.state.barred
    assert lane.free == 0


def test_a_function_that_accepts_the_token_again_is_sent_all_that_waited() -> None:
    entries = [entry(str(number)) for number in range(10)]
    calls = Calls(then(Answer(403), Answer(403), OK))
    lane = deliver(calls, *entries)
    assert {tuple(told(one)) for one in entries} == {("settled",)}
    assert not lane.state.barred


def test_a_barred_function_is_tried_with_one_event_that_jetstream_may_bring() -> None:
    calls = Calls(failing(403))

    async def work() -> list[int]:
        lane = Lane(PLAIN, calls.post, calls)
        lane.offer([entry("a", in_stream=True)])
        free = []
        for _ in range(3):
            await asyncio.sleep(0.7)
            free.append(lane.free)
        return free

    assert run(work()) == [0, 1, 1]


def test_a_lane_is_full_at_a_multiple_of_what_it_sends_at_once() -> None:
    async def work() -> list[bool]:
        calls = Calls(lambda ids: OK, seconds=1)
        lane = Lane(PLAIN, calls.post, calls)
        answers = [lane.takes(1000)]
        lane.offer(entry(str(number)) for number in range(30))
        answers += [lane.takes(2), lane.takes(3)]
        return answers

    # An empty lane takes what is larger than any lane, for it may have nowhere else to go.
    assert run(work()) == [True, True, False]


def test_jetstream_is_asked_for_what_free_slots_take() -> None:
    async def work() -> list[int]:
        calls = Calls(lambda ids: OK, seconds=1)
        lane = Lane(PLAIN, calls.post, calls)
        free = [lane.free]
        lane.offer([entry("a"), entry("b")])
        await asyncio.sleep(0.5)
        free.append(lane.free)
        lane.offer(entry(str(number)) for number in range(6))
        free.append(lane.free)
        await asyncio.sleep(5)
        return [*free, lane.free]

    assert run(work()) == [8, 4, 0, 8]


def agent_answer(*names: str, **document: Any) -> Answer:
    made = [
        event(
            type="o",
            source="/agent",
            subject=subjects.RESULTS,
            id=f"o-{name}",
            data={"orchestrationId": "o", "phase": 0, "ord": 0, "token": f"t-{name}", "kind": "complete"},
        )
        for name in names
    ]
    return Answer(200, json.dumps({"events": made, **document}).encode())


def test_an_outcome_ends_the_dispatch_that_it_is_of() -> None:
    one = dispatched("a")
    calls = Calls(lambda ids: agent_answer("a"))
    deliver(calls, one, target=AGENT)
    (outcome,) = calls.outcomes
    assert (outcome.id, outcome.origin, outcome.is_outcome) == ("o-a", one.origin, True)
    assert told(one) == []


def reasons(calls: Calls) -> dict[str, str]:
    return {one.event["data"]["token"]: one.event["data"].get("reason", "") for one in calls.outcomes}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer(500, b"boom"), "the agent's function answered 500: boom"),
        (Answer(TIMEOUT, problem="no answer within 30 s"), "the agent's function gave no answer within 30 s"),
        (Answer(200, b"<html>"), "the agent's function gave an unreadable answer: <html>"),
        (Answer(204), "the agent's function gave an unreadable answer: "),
        (agent_answer("x"), "the agent's function gave no proper outcome for this activity"),
        (
            Answer(200, b'{"failures": [{"id": "a", "status": 500, "reason": "boom"}]}'),
            "the agent's function answered 500: boom",
        ),
        (Answer(422, b"bad"), "the agent's function refuses this activity: 422: bad"),
    ],
)
def test_an_agent_that_fails_is_reported_to_the_engine(answer: Answer, reason: str) -> None:
    one = dispatched("a", in_stream=True)
    calls = Calls(lambda ids: answer)
    deliver(calls, one, target=AGENT)
    assert reasons(calls) == {"t-a": reason}
    assert calls.outcomes[0].origin is one.origin
    assert told(one) == []


@pytest.mark.parametrize("status", [NO_CONNECTION, 404, 429, 502, 503, 504])
def test_an_agent_that_was_not_reached_is_not_to_blame(status: int) -> None:
    calls = Calls(then(Answer(status), agent_answer("a")))
    deliver(calls, dispatched("a"), target=AGENT)
    assert reasons(calls) == {"t-a": ""}


def test_one_dispatch_that_crashes_its_agent_does_not_spoil_the_others() -> None:
    calls = Calls(lambda ids: Answer(500, b"boom") if "b" in ids else agent_answer(*ids))
    deliver(calls, *(dispatched(name) for name in "abc"), target=AGENT)
    assert reasons(calls) == {"t-a": "", "t-b": "the agent's function answered 500: boom", "t-c": ""}


def test_a_dispatch_that_comes_twice_in_a_batch_has_one_outcome_for_both() -> None:
    calls = Calls(lambda ids: agent_answer("a"))
    deliver(calls, dispatched("a"), dispatched("a"), target=AGENT)
    assert [one.id for one in calls.outcomes] == ["o-a", "o-a"]


def test_an_agent_cannot_hand_on_rows() -> None:
    row = {"id": 17, "subject": subjects.RESPONSES, "events": []}
    calls = Calls(lambda ids: agent_answer("a", outbox=[row]))
    deliver(calls, dispatched("a"), target=AGENT)
    assert calls.rows == []


def test_an_outcome_that_the_engine_refuses_is_replaced_by_one_that_says_so() -> None:
    data = {"orchestrationId": "o", "phase": 0, "ord": 0, "token": "t", "kind": "complete"}
    refused = Entry(event(type="o", source="/agent", subject="event.x", id="x", data=data), Origin(), is_outcome=True)
    calls = Calls(failing(422))
    deliver(calls, refused)
    assert [letter for letter, _ in calls.buried] == ["x"]
    assert reasons(calls) == {"t": "the agent's outcome was refused: 422: because"}
    assert told(refused) == []


def test_an_outcome_of_ours_that_the_engine_refuses_ends() -> None:
    data = {"orchestrationId": "o", "phase": 0, "ord": 0, "token": "t"}
    made = outcomes.retry(event(type="d", source="/engine", subject="s", data=data), "boom")
    refused = Entry(made, Origin(), is_outcome=True)
    calls = Calls(failing(422))
    deliver(calls, refused)
    assert told(refused) == ["buried"]
    assert calls.outcomes == []


def drained(calls: Calls, *entries: Entry) -> Lane:
    async def work() -> Lane:
        lane = Lane(Target(name="t", url="http://h", subject="event.x", batch=1, slots=1), calls.post, calls)
        lane.offer(entries)
        await asyncio.sleep(0.5)
        lane.drain()
        await asyncio.sleep(20)
        return lane

    return run(work())


def test_a_draining_lane_ends_what_is_under_way_and_gives_back_the_rest() -> None:
    entries = [entry("under way"), entry("held"), entry("in stream", in_stream=True)]
    calls = Calls(lambda ids: OK, seconds=1)
    lane = drained(calls, *entries)
    assert [told(one) for one in entries] == [["settled"], ["given back"], ["given back"]]
    assert calls.batches == [["under way"]]
    assert lane.is_idle


def test_a_draining_lane_still_sends_outcomes() -> None:
    entries = [entry(name, is_outcome=True) for name in "ab"]
    calls = Calls(lambda ids: OK, seconds=1)
    assert drained(calls, *entries).is_idle
    assert [told(one) for one in entries] == [["settled"], ["settled"]]


@pytest.mark.parametrize("status", [NO_CONNECTION, 401, 503])
def test_a_draining_lane_leaves_outcomes_to_jetstream_that_it_cannot_send(status: int) -> None:
    entries = [entry(name, is_outcome=True) for name in "ab"]
    calls = Calls(failing(status), seconds=1)
    assert drained(calls, *entries).is_idle
    assert sorted(calls.published) == ["a", "b"]


def test_a_lane_that_is_offered_events_while_it_drains_gives_them_back() -> None:
    async def work() -> Entry:
        calls = Calls(lambda ids: OK)
        lane = Lane(PLAIN, calls.post, calls)
        lane.drain()
        late = entry("late")
        lane.offer([late])
        await asyncio.sleep(1)
        assert calls.batches == []
        return late

    assert told(run(work())) == ["given back"]


def test_a_target_may_be_slow_for_as_long_as_it_is_allowed_to() -> None:
    target = Target(name="t", url="http://h", subject=subjects.RESULTS, timeout=timedelta(hours=1))
    one = entry("a")
    deliver(Calls(lambda ids: OK, seconds=3000), one, target=target, seconds=3001)
    assert told(one) == ["settled"]


def test_an_agents_function_that_runs_no_activities_cannot_hand_on_rows_either() -> None:
    body = json.dumps({"outbox": [{"id": 17, "subject": subjects.RESULTS, "events": []}]}).encode()
    calls = Calls(lambda ids: Answer(200, body))
    target = Target(name="keys", url="http://h", subject=subjects.KEY_PAIR_EVENTS, of_agent=True)
    one = entry("a")
    deliver(calls, one, target=target)
    assert calls.rows == []
    assert told(one) == ["settled"]
