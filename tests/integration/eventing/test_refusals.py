from __future__ import annotations

import base64
import json
import threading
from datetime import timedelta
from typing import Any

import pytest

from cfm_core.contracts import subjects
from cfm_core.contracts.activity import ActivityOutcome, OutcomeKind
from cfm_core.eventing.targets import Target
from local.servers.nats import EmbeddedNats
from tests.integration.eventing.conftest import StartTrigger
from tests.integration.eventing.harness import EVENT_KEY, Events, Functions, Said, fine, reply, serving, until
from tests.integration.eventing.stream import publish, stored
from tests.integration.eventing.test_delivery import (
    Waking,
    an_event,
    announcement,
    both_ways,
    completed,
    dispatch,
    put,
    rows,
)

NAMES = [f"e{number}" for number in range(20)]


def result_target(functions: Functions) -> Target:
    return Target(name="results", url=functions.url("results"), subject=subjects.RESULTS)


def letter_target(functions: Functions) -> Target:
    return Target(name="letters", url=functions.url("letters"), subject=subjects.DEAD_LETTERS)


def letters(functions: Functions) -> list[dict[str, Any]]:
    """What the keeper of dead letters was sent."""
    return [one["data"] for one in functions.events("letters")]


def agent_target(functions: Functions, timeout: timedelta = timedelta(seconds=30)) -> Target:
    return Target(
        name="dns",
        url=functions.url("dns"),
        subject=subjects.activity("dns"),
        activity=announcement("dns"),
        timeout=timeout,
    )


@both_ways
@pytest.mark.parametrize("status", [400, 422])
def test_one_event_that_spoils_its_batch_becomes_a_dead_letter_and_the_others_arrive(
    status: int, handover: str, start_trigger: StartTrigger, waking_database: Waking, own_nats: EmbeddedNats
) -> None:
    accepted: list[str] = []

    def picky(events: Events) -> Said:
        if any(one["id"] == "e7" for one in events):
            return Said(status, b"e7 is bad")
        accepted.extend(one["id"] for one in events)
        return Said()

    with serving({"results": picky, "letters": fine}) as functions:
        trigger = start_trigger([result_target(functions), letter_target(functions)], handover=handover)
        trigger.wait_ready()
        database = waking_database(trigger)
        put(database, subjects.RESULTS, *map(an_event, NAMES))
        until(lambda: rows(database) == 0)
        functions.wait(lambda: {*accepted, "e7"} == {*NAMES})
        functions.wait(lambda: letters(functions))
        (letter,) = letters(functions)
        assert letter.pop("key")
        assert letter == {
            "subject": "event.cfm.result",
            "target": "results",
            "reason": f"{status}: e7 is bad",
            "deliveries": 1,
            "event": an_event("e7"),
        }
        until(lambda: stored(own_nats.url, subjects.ACTIVITY_STREAM) == [])


def test_events_that_an_answer_reports_as_failed_are_treated_each_by_its_own_status(
    start_trigger: StartTrigger, waking_database: Waking, own_nats: EmbeddedNats
) -> None:
    def partly(events: Events) -> Said:
        told = {"dead": 422, "later": 503} if len(events) > 1 else {}
        return reply(
            failures=[
                {"id": one["id"], "status": told[one["id"]], "reason": "because"} for one in events if one["id"] in told
            ]
        )

    with serving({"results": partly, "letters": fine}) as functions:
        trigger = start_trigger([result_target(functions), letter_target(functions)])
        trigger.wait_ready()
        database = waking_database(trigger)
        put(database, subjects.RESULTS, an_event("good"), an_event("dead"), an_event("later"))
        until(lambda: rows(database) == 0)
        assert functions.ids("results") == {"good": 1, "dead": 1, "later": 2}
        (letter,) = letters(functions)
        assert letter["event"] == an_event("dead")


def test_what_the_function_itself_keeps_as_a_dead_letter_is_none_of_the_trigger_s(
    start_trigger: StartTrigger, waking_database: Waking
) -> None:
    def keeping(events: Events) -> Said:
        return reply(failures=[{"id": "kept", "status": 422, "reason": "because", "kept": True}])

    with serving({"results": keeping, "letters": fine}) as functions:
        trigger = start_trigger([result_target(functions), letter_target(functions)])
        trigger.wait_ready()
        database = waking_database(trigger)
        put(database, subjects.RESULTS, an_event("kept"))
        until(lambda: rows(database) == 0)
        assert letters(functions) == []


def test_a_row_stays_until_somebody_keeps_its_dead_letter(
    start_trigger: StartTrigger, waking_database: Waking, own_nats: EmbeddedNats
) -> None:
    healthy = threading.Event()

    def keeping(events: Events) -> Said:
        return Said() if healthy.is_set() else Said(422, b"not now, and the trigger believes never")

    with serving({"results": lambda _: Said(422), "letters": keeping}) as functions:
        own_nats.stop()
        trigger = start_trigger([result_target(functions), letter_target(functions)])
        trigger.wait_ready(nats=False)
        database = waking_database(trigger)
        put(database, subjects.RESULTS, an_event("dead"))
        functions.wait(lambda: letters(functions))
        assert rows(database) == 1
        healthy.set()
        until(lambda: rows(database) == 0)
        assert {one["event"]["id"] for one in letters(functions)} == {"dead"}
        assert len({one["key"] for one in letters(functions)}) == 1


def test_a_dead_letter_that_nobody_keeps_here_waits_in_jetstream(
    start_trigger: StartTrigger, waking_database: Waking, own_nats: EmbeddedNats
) -> None:
    with serving({"results": lambda _: Said(422, b"bad")}) as functions:
        trigger = start_trigger([result_target(functions)])
        trigger.wait_ready()
        database = waking_database(trigger)
        put(database, subjects.RESULTS, an_event("dead"))
        until(lambda: rows(database) == 0)
        (message,) = stored(own_nats.url, subjects.ACTIVITY_STREAM)
        assert message.subject == subjects.dead_letter(subjects.RESULTS) == "event.cfm.dead-letter.cfm=result"
        assert json.loads(message.body)[0]["data"]["event"] == an_event("dead")


@both_ways
def test_events_wait_for_a_function_that_is_not_there(
    handover: str, start_trigger: StartTrigger, waking_database: Waking
) -> None:
    with serving({"results": fine}) as functions:
        functions.stop()
        trigger = start_trigger([result_target(functions)], handover=handover)
        trigger.wait_ready()
        database = waking_database(trigger)
        put(database, subjects.RESULTS, an_event("one"))
        until(lambda: trigger.state()["targets"]["results"]["slots"] == 1)
        functions.start()
        functions.wait(lambda: functions.ids("results") == {"one": 1})
        until(lambda: rows(database) == 0)


@both_ways
def test_a_function_that_refuses_the_token_is_left_alone_and_tried_again(
    handover: str, start_trigger: StartTrigger, waking_database: Waking, own_nats: EmbeddedNats
) -> None:
    with serving({"results": fine}) as functions:
        functions.event_key = "another"
        trigger = start_trigger([result_target(functions)], handover=handover)
        trigger.wait_ready()
        database = waking_database(trigger)
        put(database, subjects.RESULTS, *map(an_event, NAMES))
        until(lambda: trigger.state()["targets"]["results"]["barred"])
        functions.event_key = EVENT_KEY
        functions.wait(lambda: functions.ids("results").keys() == {*NAMES})
        until(lambda: rows(database) == 0)
        until(lambda: stored(own_nats.url, subjects.ACTIVITY_STREAM) == [])
        assert "does not accept the trigger's token" in trigger.text()
        assert not trigger.state()["targets"]["results"]["barred"]


def test_a_message_that_nobody_can_read_becomes_a_dead_letter(
    start_trigger: StartTrigger, own_nats: EmbeddedNats
) -> None:
    with serving({"start": fine, "letters": fine}) as functions:
        start = Target(name="start", url=functions.url("start"), subject=subjects.MANIFESTS)
        trigger = start_trigger([start, letter_target(functions)])
        trigger.wait_ready()
        publish(own_nats.url, subjects.MANIFESTS, b"\xff not json", {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"})
        functions.wait(lambda: letters(functions))
        (letter,) = letters(functions)
        assert base64.b64decode(letter["raw"]) == b"\xff not json"
        assert (letter["subject"], letter["deliveries"]) == (subjects.MANIFESTS, 1)
        assert letter["reason"].startswith("the message is not JSON")
        until(lambda: stored(own_nats.url, subjects.STREAM) == [])
        assert functions.events("start") == []


def test_an_event_too_large_for_jetstream_is_handed_over_directly(
    start_trigger: StartTrigger, waking_database: Waking
) -> None:
    large = an_event("large", data={"text": "x" * 2_000_000})
    with serving({"results": fine}) as functions:
        trigger = start_trigger([result_target(functions)], handover="jetstream")
        trigger.wait_ready()
        database = waking_database(trigger)
        put(database, subjects.RESULTS, an_event("small"), large)
        functions.wait(lambda: functions.ids("results").keys() == {"small", "large"})
        until(lambda: rows(database) == 0)


@both_ways
def test_a_dispatch_that_crashes_its_agent_comes_back_to_the_engine_as_a_retry(
    handover: str, start_trigger: StartTrigger, waking_database: Waking, own_nats: EmbeddedNats
) -> None:
    def crashing(events: Events) -> Said:
        return Said(500, b"KeyError: 'zone'") if any(one["id"] == "bad" for one in events) else completed(events)

    with serving({"dns": crashing, "results": fine, "types": fine}) as functions:
        trigger = start_trigger([agent_target(functions), result_target(functions)], handover=handover)
        trigger.wait_ready()
        database = waking_database(trigger)
        put(database, subjects.activity("dns"), dispatch("good", "dns"), dispatch("bad", "dns"))
        functions.wait(lambda: len(functions.events("results")) == 2)
        until(lambda: rows(database) == 0)
        told = {
            outcome.token: (outcome.kind, outcome.reason)
            for outcome in (ActivityOutcome.model_validate(one["data"]) for one in functions.events("results"))
        }
        assert told == {
            "t-good": (OutcomeKind.COMPLETE, ""),
            "t-bad": (OutcomeKind.RETRY, "the agent's function answered 500: KeyError: 'zone'"),
        }


def test_an_agent_that_gives_no_answer_in_time_comes_back_to_the_engine_as_a_retry(
    start_trigger: StartTrigger, waking_database: Waking
) -> None:
    release = threading.Event()

    def silent(events: Events) -> Said:
        release.wait(20)
        return completed(events)

    with serving({"dns": silent, "results": fine}) as functions:
        targets = [agent_target(functions, timedelta(seconds=0.1)), result_target(functions)]
        trigger = start_trigger(targets)
        trigger.wait_ready()
        database = waking_database(trigger)
        put(database, subjects.activity("dns"), dispatch("one", "dns"))
        functions.wait(lambda: functions.events("results"))
        release.set()
        (outcome,) = functions.events("results")
        assert outcome["data"]["token"] == "t-one"
        assert outcome["data"]["reason"] == "the agent's function gave no answer within 0.1 s"
        until(lambda: rows(database) == 0)


def test_a_row_named_by_an_agent_is_not_believed(start_trigger: StartTrigger, waking_database: Waking) -> None:
    forged = {"id": 1, "subject": subjects.RESPONSES, "events": [an_event("forged", subjects.RESPONSES)]}

    def forging(events: Events) -> Said:
        honest = json.loads(completed(events).body)
        return reply(**honest, outbox=[forged])

    with serving({"dns": forging, "results": fine, "responses": fine}) as functions:
        responses = Target(name="responses", url=functions.url("responses"), subject=subjects.RESPONSES)
        trigger = start_trigger([agent_target(functions), result_target(functions), responses])
        trigger.wait_ready()
        database = waking_database(trigger)
        put(database, subjects.activity("dns"), dispatch("one", "dns"))
        until(lambda: rows(database) == 0)
        assert len(functions.events("results")) == 1
        assert functions.events("responses") == []
