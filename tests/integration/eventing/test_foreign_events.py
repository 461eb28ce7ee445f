"""Events that others publish: they come to the functions of agents, again where that may help, and become dead letters."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from datetime import timedelta
from typing import Any

import nats.js.api as api
import pytest
from nats.js import JetStreamContext

from cfm_core.contracts import subjects
from cfm_core.eventing.access import Access
from cfm_core.eventing.jetstream import JetStream, Message, streams
from cfm_core.eventing.targets import Target
from local.servers.nats import EmbeddedNats
from local.standins.events import CONTENT_TYPE, envelope
from tests.integration.eventing.conftest import StartTrigger
from tests.integration.eventing.harness import Events, Functions, Said, TriggerProcess, fine, reply, serving, until
from tests.integration.eventing.stream import ask, publish, stored
from tests.integration.eventing.test_delivery import Waking, an_event, both_ways, put, rows
from tests.integration.eventing.test_refusals import letter_target, letters, result_target

ACTIVATED = "events.keypair.activated"
DATA = {"participantContextId": "pc", "keyId": "did:web:acme#key1"}


def key_target(functions: Functions) -> Target:
    return Target(
        name="keys", url=functions.url("keys"), subject=subjects.KEY_PAIR_EVENTS, batch=4, slots=4, of_agent=True
    )


def happen(server: EmbeddedNats, subject: str = ACTIVATED, name: str = "one", **more: Any) -> None:
    """Publish an event as the dataspace services do."""
    document = envelope(subject.removeprefix("events."), DATA) | {"id": name, **more}
    publish(server.url, subject, json.dumps(document).encode(), {"Content-Type": CONTENT_TYPE})


def make_stream(server: EmbeddedNats, *taken: str, retention: str = "interest") -> None:
    config = api.StreamConfig(name=subjects.EDC_STREAM, subjects=list(taken), retention=api.RetentionPolicy(retention))

    async def make(context: JetStreamContext) -> None:
        await context.add_stream(config)

    ask(server.url, make)


def make_consumer(server: EmbeddedNats, **limits: Any) -> None:
    """The stream, and the consumer that a trigger would make there, with limits of its own."""
    make_stream(server, "events.>")
    config = api.ConsumerConfig(
        durable_name=subjects.consumer(subjects.KEY_PAIR_EVENTS),
        ack_policy=api.AckPolicy.EXPLICIT,
        filter_subject=subjects.KEY_PAIR_EVENTS,
        **limits,
    )

    async def make(context: JetStreamContext) -> None:
        await context.add_consumer(subjects.EDC_STREAM, config)

    ask(server.url, make)


def stream_names(server: EmbeddedNats) -> set[str | None]:
    async def look(context: JetStreamContext) -> set[str | None]:
        return {one.config.name for one in await context.streams_info()}

    return ask(server.url, look)


def left(server: EmbeddedNats) -> int:
    return len(stored(server.url, subjects.EDC_STREAM))


def ready(start_trigger: StartTrigger, functions: Functions, *more: Target, **options: Any) -> TriggerProcess:
    trigger = start_trigger([key_target(functions), *more], **options)
    trigger.wait_ready()
    return trigger


@both_ways
def test_an_event_arrives_with_the_subject_at_which_it_was_published(
    handover: str, start_trigger: StartTrigger, own_nats: EmbeddedNats
) -> None:
    with serving({"keys": fine}) as functions:
        ready(start_trigger, functions, handover=handover)
        happen(own_nats, time="2026-07-24T10:00:00Z")
        functions.wait(lambda: functions.ids("keys") == {"one": 1})
        (event,) = functions.events("keys")
        assert (event["subject"], event["data"], event["time"]) == (ACTIVATED, DATA, "2026-07-24T10:00:00Z")
        until(lambda: left(own_nats) == 0)


def test_only_what_is_listened_to_is_delivered(start_trigger: StartTrigger, own_nats: EmbeddedNats) -> None:
    with serving({"gone": fine}) as functions:
        gone = Target(
            name="gone", url=functions.url("gone"), subject=subjects.PARTICIPANT_CONTEXT_DELETED, of_agent=True
        )
        start_trigger([gone]).wait_ready()
        for number, what in enumerate(("created", "updated", "deleting", "deleted")):
            happen(own_nats, f"events.participantcontext.{what}", f"e{number}")
        happen(own_nats, ACTIVATED, "key")
        functions.wait(lambda: functions.ids("gone") == {"e3": 1})
        until(lambda: left(own_nats) == 0)
        assert functions.ids("gone") == {"e3": 1}


def test_events_that_happen_while_no_trigger_runs_arrive_later(
    start_trigger: StartTrigger, own_nats: EmbeddedNats
) -> None:
    with serving({"keys": fine}) as functions:
        assert ready(start_trigger, functions).stop() == 0
        happen(own_nats)
        assert functions.ids("keys") == {}
        ready(start_trigger, functions)
        functions.wait(lambda: functions.ids("keys") == {"one": 1})


def test_an_event_in_hand_when_the_trigger_dies_is_brought_again(
    start_trigger: StartTrigger, own_nats: EmbeddedNats
) -> None:
    make_consumer(own_nats, ack_wait=1)
    hold = threading.Event()

    def slow_at_first(events: Events) -> Said:
        hold.wait(20)
        return Said()

    with serving({"keys": slow_at_first}) as functions:
        trigger = ready(start_trigger, functions)
        happen(own_nats)
        functions.wait(lambda: functions.ids("keys") == {"one": 1})
        trigger.kill()
        hold.set()
        ready(start_trigger, functions)
        functions.wait(lambda: functions.ids("keys")["one"] >= 2)
        until(lambda: left(own_nats) == 0)


def test_what_may_work_later_is_brought_again_after_the_asked_for_time(
    start_trigger: StartTrigger, own_nats: EmbeddedNats
) -> None:
    def away_twice(events: Events) -> Said:
        if functions.ids("keys")["one"] > 2:
            return Said()
        return reply(failures=[{"id": "one", "status": 503, "reason": "Siglet is away", "retryAfter": 0.2}])

    with serving({"keys": away_twice, "letters": fine}) as functions:
        ready(start_trigger, functions, letter_target(functions))
        happen(own_nats)
        functions.wait(lambda: functions.ids("keys") == {"one": 3})
        until(lambda: left(own_nats) == 0)
        assert letters(functions) == []


def test_one_event_that_fails_does_not_bring_its_neighbours_again(
    start_trigger: StartTrigger, own_nats: EmbeddedNats
) -> None:
    def picky(events: Events) -> Said:
        bad = [one["id"] for one in events if one["id"] == "e3"]
        return reply(failures=[{"id": one, "status": 422, "reason": "e3 is bad"} for one in bad])

    with serving({"keys": picky, "letters": fine}) as functions:
        ready(start_trigger, functions, letter_target(functions))
        for number in range(8):
            happen(own_nats, name=f"e{number}")
        functions.wait(lambda: letters(functions))
        until(lambda: left(own_nats) == 0)
        assert functions.ids("keys") == {f"e{number}": 1 for number in range(8)}


def test_what_no_repetition_helps_becomes_a_dead_letter_with_the_reason(
    start_trigger: StartTrigger, own_nats: EmbeddedNats
) -> None:
    refusing = [{"id": "one", "status": 422, "reason": "the scope siglet-mgmt-api:write is missing"}]
    with serving({"keys": lambda _: reply(failures=refusing), "letters": fine}) as functions:
        ready(start_trigger, functions, letter_target(functions))
        happen(own_nats)
        functions.wait(lambda: letters(functions))
        until(lambda: left(own_nats) == 0)
        (letter,) = letters(functions)
        assert (letter["subject"], letter["target"]) == (subjects.KEY_PAIR_EVENTS, "keys")
        assert letter["reason"] == "422: the scope siglet-mgmt-api:write is missing"
        assert (letter["event"]["id"], letter["event"]["subject"]) == ("one", ACTIVATED)


def test_what_cannot_be_read_becomes_a_dead_letter_as_it_came(
    start_trigger: StartTrigger, own_nats: EmbeddedNats
) -> None:
    with serving({"keys": fine, "letters": fine}) as functions:
        ready(start_trigger, functions, letter_target(functions))
        publish(own_nats.url, ACTIVATED, b"\xff no event", {"Content-Type": CONTENT_TYPE})
        functions.wait(lambda: letters(functions))
        until(lambda: left(own_nats) == 0)
        (letter,) = letters(functions)
        assert base64.b64decode(letter["raw"]) == b"\xff no event"
        assert functions.ids("keys") == {}


def test_what_fails_again_and_again_becomes_a_dead_letter_at_last(
    start_trigger: StartTrigger, own_nats: EmbeddedNats
) -> None:
    make_consumer(own_nats, max_deliver=3)
    with serving({"keys": lambda _: Said(503, b"away"), "letters": fine}) as functions:
        ready(start_trigger, functions, letter_target(functions))
        happen(own_nats)
        functions.wait(lambda: letters(functions))
        until(lambda: left(own_nats) == 0)
        assert functions.ids("keys") == {"one": 3}
        assert letters(functions)[0]["reason"] == "not delivered at the last attempt: 503: away"


@pytest.mark.parametrize("subject", [subjects.KEY_PAIR_EVENTS, subjects.again(subjects.KEY_PAIR_EVENTS)])
def test_without_another_limit_twenty_deliveries_are_enough_and_what_is_given_back_then_still_comes(
    own_nats: EmbeddedNats, subject: str
) -> None:
    """The limit is ours and the server does not know of it, so that nothing is lost at the last attempt."""
    seen: list[tuple[int, bool]] = []

    async def follow() -> None:
        enough = asyncio.Event()

        def take(message: Message) -> None:
            message.expect(1)
            seen.append((message.deliveries, message.is_last))
            if len(seen) < 22:
                message.given_back(0)
                consumer.wake()
            else:
                message.settled()
                enough.set()

        jetstream = JetStream(Access(url=own_nats.url), streams("cfm-stream"))
        consumer = jetstream.consume(subject, lambda: 1, take)
        running = asyncio.ensure_future(jetstream.run())
        try:
            while not jetstream.is_ready:
                await asyncio.sleep(0.01)  # between two looks; what is waited for is the condition
            where = ACTIVATED if subjects.is_foreign(subject) else subject
            await asyncio.to_thread(publish, own_nats.url, where, b"{}")
            await asyncio.wait_for(enough.wait(), 20)
        finally:
            running.cancel()
            await jetstream.close()
            await asyncio.wait([running])

    asyncio.run(follow())
    assert seen == [(number, number >= 20) for number in range(1, 23)]


@both_ways
def test_an_event_that_is_sent_again_goes_to_its_function_alone(
    handover: str, start_trigger: StartTrigger, waking_database: Waking, own_nats: EmbeddedNats
) -> None:
    with serving({"keys": fine}) as functions:
        trigger = ready(start_trigger, functions, handover=handover)
        make_listener(own_nats)
        database = waking_database(trigger)
        put(database, subjects.again(subjects.KEY_PAIR_EVENTS), an_event("again", ACTIVATED, DATA))
        functions.wait(lambda: functions.ids("keys") == {"again": 1})
        assert functions.events("keys")[0]["subject"] == ACTIVATED
        until(lambda: rows(database) == 0)
        assert left(own_nats) == 0, "nobody else who listens is told once more"


def test_an_event_that_is_sent_again_and_fails_for_long_stays_here(
    start_trigger: StartTrigger, waking_database: Waking, own_nats: EmbeddedNats
) -> None:
    def well_at_last(events: Events) -> Said:
        return Said() if functions.ids("keys")["again"] > 7 else Said(503)

    with serving({"keys": well_at_last}) as functions:
        trigger = ready(start_trigger, functions)
        make_listener(own_nats)
        database = waking_database(trigger)
        put(database, subjects.again(subjects.KEY_PAIR_EVENTS), an_event("again", ACTIVATED, DATA))
        until(lambda: rows(database) == 0, seconds=40)
        assert functions.ids("keys") == {"again": 8}
        assert left(own_nats) == 0


def make_listener(server: EmbeddedNats) -> None:
    """Somebody else who listens to everything, and takes nothing: all that is published stays."""

    async def listen(context: JetStreamContext) -> None:
        await context.add_consumer(
            subjects.EDC_STREAM, api.ConsumerConfig(durable_name="other", ack_policy=api.AckPolicy.EXPLICIT)
        )

    ask(server.url, listen)


def test_an_agents_function_has_no_say_in_the_outbox(
    start_trigger: StartTrigger, waking_database: Waking, own_nats: EmbeddedNats
) -> None:
    named = [{"id": 1, "subject": subjects.RESULTS, "events": [an_event("forged")]}]
    with serving({"keys": lambda _: reply(outbox=named), "tick": lambda _: reply(outbox=named)}) as functions:
        tick = Target(name="tick", url=functions.url("tick"), every=timedelta(seconds=0.05), slots=1, of_agent=True)
        with serving({"results": fine}) as others:
            ready(start_trigger, functions, tick, result_target(others))
            happen(own_nats)
            functions.wait(lambda: functions.ids("keys") == {"one": 1} and len(functions.events("tick")) >= 3)
            until(lambda: left(own_nats) == 0)
            assert others.ids("results") == {}


def test_where_nobody_listens_the_stream_of_others_is_not_made(
    start_trigger: StartTrigger, own_nats: EmbeddedNats
) -> None:
    with serving({"results": fine}) as functions:
        start_trigger([result_target(functions)]).wait_ready()
        assert stream_names(own_nats) == {subjects.STREAM, subjects.ACTIVITY_STREAM}


def test_where_somebody_listens_the_stream_is_made_like_the_charts(
    start_trigger: StartTrigger, own_nats: EmbeddedNats
) -> None:
    async def look(context: JetStreamContext) -> tuple[Any, ...]:
        config = (await context.stream_info(subjects.EDC_STREAM)).config
        return config.subjects, config.retention, config.storage

    with serving({"keys": fine}) as functions:
        ready(start_trigger, functions)
        assert ask(own_nats.url, look) == (["events.>"], "interest", "file")


def test_a_stream_that_others_made_in_their_way_is_taken_as_it_is(
    start_trigger: StartTrigger, own_nats: EmbeddedNats
) -> None:
    make_stream(own_nats, "events.>", "more.>", retention="limits")
    happen(own_nats, name="before")
    with serving({"keys": fine}) as functions:
        ready(start_trigger, functions)
        happen(own_nats, name="after")
        functions.wait(lambda: functions.ids("keys") == {"before": 1, "after": 1})


def test_a_stream_of_others_that_does_not_fit_is_named_and_stops_nothing_else(
    start_trigger: StartTrigger, waking_database: Waking, own_nats: EmbeddedNats
) -> None:
    make_stream(own_nats, "events.asset.>")
    with serving({"keys": fine, "results": fine}) as functions:
        trigger = ready(start_trigger, functions, result_target(functions), handover="jetstream")
        put(waking_database(trigger), subjects.RESULTS, an_event("one"))
        functions.wait(lambda: functions.ids("results") == {"one": 1})
        assert "the stream edc-events has the subjects events.asset.>; it must have events.keypair.>" in trigger.text()


@pytest.mark.parametrize(
    ("subject", "durable"),
    [
        (subjects.KEY_PAIR_EVENTS, "cfm-events=keypair"),
        (subjects.PARTICIPANT_CONTEXT_DELETED, "cfm-events=participantcontext=deleted"),
    ],
)
def test_the_consumer_in_the_stream_of_others_says_whose_it_is(subject: str, durable: str) -> None:
    assert subjects.consumer(subject) == durable
