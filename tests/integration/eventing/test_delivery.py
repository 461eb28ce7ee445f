from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from cfm_core.contracts import subjects, wake
from cfm_core.contracts.activity import DISPATCH_EVENT, OUTCOME_EVENT, ActivityTypeAnnouncement
from cfm_core.contracts.reply import EventDict, OutboxRow
from cfm_core.eventing.cloudevents import event
from cfm_core.eventing.targets import Target
from cfm_core.store import outbox
from cfm_core.store.database import Database
from local.servers.nats import EmbeddedNats
from tests.integration.eventing.conftest import StartTrigger
from tests.integration.eventing.harness import (
    API,
    KEY,
    WAKE_KEY,
    Events,
    Said,
    TriggerProcess,
    fine,
    reply,
    serving,
    until,
)
from tests.integration.eventing.stream import publish, stored

both_ways = pytest.mark.parametrize("handover", ["direct", "jetstream"])

Waking = Callable[[TriggerProcess], Database]


def an_event(name: str, subject: str = subjects.RESULTS, data: Any = None) -> EventDict:
    return event(type="test", source="/test", subject=subject, data=data or {"name": name}, id=name)


def put(database: Database, subject: str, *events: EventDict) -> None:
    with database.transaction() as transaction:
        outbox.put(transaction, subject, events)


def rows(database: Database) -> int:
    count: int = database.value("SELECT count(*) FROM eventing.outbox")
    return count


def dispatch(name: str, activity_type: str) -> EventDict:
    data = {
        "orchestrationId": "o-1",
        "phase": 0,
        "ord": 0,
        "token": f"t-{name}",
        "activityId": "a",
        "activityType": activity_type,
    }
    return event(type=DISPATCH_EVENT, source="/engine", subject=subjects.activity(activity_type), data=data, id=name)


def completed(events: Events) -> Said:
    """Answers each dispatch with a complete outcome, as an agent does."""
    outcomes = [
        event(
            type=OUTCOME_EVENT,
            source="/agent",
            subject=subjects.RESULTS,
            data={name: one["data"][name] for name in ("orchestrationId", "phase", "ord", "token")}
            | {"kind": "complete"},
            id=f"outcome-{one['id']}",
        )
        for one in events
    ]
    return reply(events=outcomes)


def announcement(activity_type: str) -> dict[str, Any]:
    return ActivityTypeAnnouncement(
        activity_type=activity_type,
        timeout=timedelta(seconds=30),
        max_attempts=5,
        backoff=timedelta(seconds=1),
        backoff_limit=timedelta(minutes=5),
    ).to_json()


@both_ways
def test_an_event_of_the_outbox_arrives_and_its_row_vanishes(
    handover: str, start_trigger: StartTrigger, waking_database: Waking
) -> None:
    with serving({"results": fine}) as functions:
        trigger = start_trigger(
            [Target(name="results", url=functions.url("results"), subject=subjects.RESULTS)], handover=handover
        )
        trigger.wait_ready()
        database = waking_database(trigger)
        put(database, subjects.RESULTS, an_event("one"), an_event("two"))
        functions.wait(lambda: functions.ids("results") == {"one": 1, "two": 1})
        until(lambda: rows(database) == 0)
        assert functions.events("results")[0] == an_event("one")


@both_ways
def test_every_one_of_many_events_arrives(handover: str, start_trigger: StartTrigger, waking_database: Waking) -> None:
    wanted = {f"e{number}" for number in range(3000)}
    with serving({"results": fine}) as functions:
        trigger = start_trigger(
            [Target(name="results", url=functions.url("results"), subject=subjects.RESULTS, batch=64)],
            handover=handover,
        )
        trigger.wait_ready()
        database = waking_database(trigger)
        for start in range(0, 3000, 10):
            put(database, subjects.RESULTS, *(an_event(f"e{number}") for number in range(start, start + 10)))
        functions.wait(lambda: functions.ids("results").keys() == wanted)
        until(lambda: rows(database) == 0)
        assert max(len(events) for _, events in functions.batches) <= 64


@both_ways
def test_a_dispatch_goes_to_its_agent_and_the_outcome_to_the_engine(
    handover: str, start_trigger: StartTrigger, waking_database: Waking
) -> None:
    made: list[Database] = []

    def start_orchestration(events: Events) -> Said:
        with made[0].transaction() as transaction:
            row = outbox.put_for_caller(transaction, subjects.activity("dns"), [dispatch("d-1", "dns")])
        return reply(outbox=[{"id": row.id, "subject": row.subject, "events": row.events}])

    behaviours = {"start": start_orchestration, "dns": completed, "results": fine, "types": fine}
    with serving(behaviours) as functions:
        trigger = start_trigger(
            [
                Target(name="start", url=functions.url("start"), subject=subjects.MANIFESTS),
                Target(
                    name="dns",
                    url=functions.url("dns"),
                    subject=subjects.activity("dns"),
                    activity=announcement("dns"),
                ),
                Target(name="results", url=functions.url("results"), subject=subjects.RESULTS),
                Target(name="types", url=functions.url("types"), subject=subjects.ACTIVITY_TYPES),
            ],
            handover=handover,
        )
        trigger.wait_ready()
        database = waking_database(trigger)
        made.append(database)
        put(database, subjects.MANIFESTS, an_event("m-1", subjects.MANIFESTS))
        functions.wait(lambda: functions.events("results"))
        assert functions.events("results")[0]["data"] == {
            "orchestrationId": "o-1",
            "phase": 0,
            "ord": 0,
            "token": "t-d-1",
            "kind": "complete",
        }
        until(lambda: rows(database) == 0)
        functions.wait(lambda: functions.events("types"))
        (told,) = functions.events("types")
        assert (told["subject"], told["data"]) == (subjects.announcement("dns"), announcement("dns"))
        assert functions.ids("dns") == {"d-1": 1}
        (told,) = functions.events("dns")
        shown = KEY.token("o-1", 0, "a", "t-d-1")
        assert told["data"]["completion"] == {"url": f"{API}/orchestrations/o-1/activities/a/complete", "token": shown}
        assert told["data"]["heartbeat"]["token"] == "t-d-1"
        log = trigger.log.read_text()
        assert shown not in log
        assert KEY.key not in log


@both_ways
def test_an_event_of_a_pattern_is_told_where_it_was_put_and_one_sent_again_goes_where_it_was(
    handover: str, start_trigger: StartTrigger, waking_database: Waking, own_nats: EmbeddedNats
) -> None:
    dns, other = subjects.announcement("dns"), subjects.announcement("other")
    with serving({"types": fine}) as functions:
        trigger = start_trigger(
            [Target(name="types", url=functions.url("types"), subject=subjects.ACTIVITY_TYPES)], handover=handover
        )
        trigger.wait_ready()
        database = waking_database(trigger)
        put(database, dns, an_event("put", other))
        # A replay puts what was refused on the pattern, since it is for its function to take in once more.
        put(database, subjects.ACTIVITY_TYPES, an_event("again", other), an_event("and again", dns))
        until(lambda: rows(database) == 0)
        functions.wait(lambda: len(functions.ids("types")) == 3)
        assert {one["id"]: one["subject"] for one in functions.events("types")} == {
            "put": dns,
            "again": other,
            "and again": dns,
        }
        until(lambda: stored(own_nats.url, subjects.ACTIVITY_STREAM) == [])


def test_an_event_that_names_no_subject_of_its_pattern_is_published_nowhere(
    start_trigger: StartTrigger, waking_database: Waking, own_nats: EmbeddedNats
) -> None:
    trigger = start_trigger([])
    trigger.wait_ready()
    database = waking_database(trigger)
    astray = [an_event("astray", subject) for subject in (subjects.MANIFESTS, subjects.RESULTS, "")]
    put(database, subjects.ACTIVITY_TYPES, *astray, an_event("again", subjects.announcement("dns")))
    until(lambda: stored(own_nats.url, subjects.ACTIVITY_STREAM))
    (message,) = stored(own_nats.url, subjects.ACTIVITY_STREAM)
    assert message.subject == subjects.announcement("dns")
    assert stored(own_nats.url, subjects.STREAM) == []
    assert rows(database) == 1


def test_a_row_that_was_announced_is_not_looked_for_and_comes_once(
    start_trigger: StartTrigger, waking_database: Waking
) -> None:
    with serving({"results": fine}) as functions:
        trigger = start_trigger([Target(name="results", url=functions.url("results"), subject=subjects.RESULTS)])
        trigger.wait_ready()
        # There is no such row: what the trigger delivers is what it was told.
        told = OutboxRow(10**9, subjects.RESULTS, [an_event("told")])
        trigger.wake(wake.sealed(told, wake.key_of(WAKE_KEY)))
        trigger.wake(wake.sealed(told, wake.key_of("guessed")))
        database = waking_database(trigger)
        put(database, subjects.RESULTS, an_event("one"))
        until(lambda: rows(database) == 0)
        functions.wait(lambda: functions.ids("results") == {"told": 1, "one": 1})


def test_a_row_that_does_not_fit_into_a_datagram_is_looked_for(
    start_trigger: StartTrigger, waking_database: Waking
) -> None:
    with serving({"results": fine}) as functions:
        trigger = start_trigger([Target(name="results", url=functions.url("results"), subject=subjects.RESULTS)])
        trigger.wait_ready()
        put(waking_database(trigger), subjects.RESULTS, an_event("large", data={"text": "x" * wake.MOST_EVENTS}))
        functions.wait(lambda: functions.ids("results") == {"large": 1})


def test_a_row_that_nobody_has_announced_is_found_by_the_slow_poll(
    start_trigger: StartTrigger, database: Database
) -> None:
    with serving({"results": fine}) as functions:
        trigger = start_trigger([Target(name="results", url=functions.url("results"), subject=subjects.RESULTS)])
        trigger.wait_ready()
        put(database, subjects.RESULTS, an_event("one"))
        functions.wait(lambda: functions.ids("results") == {"one": 1})


def test_events_that_no_function_here_takes_go_to_jetstream_as_the_contract_wants_them(
    start_trigger: StartTrigger, waking_database: Waking, own_nats: EmbeddedNats
) -> None:
    trigger = start_trigger([])
    trigger.wait_ready()
    database = waking_database(trigger)
    context = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "tracestate": "v=1", "baggage": "user=b"}
    manifest = an_event("m-1", subjects.MANIFESTS, {"id": "m-1"}) | context
    put(database, subjects.MANIFESTS, manifest)
    put(database, subjects.activity("dns"), dispatch("d-1", "dns"), dispatch("d-2", "dns"))
    until(lambda: rows(database) == 0)
    (bare,) = stored(own_nats.url, subjects.STREAM)
    assert json.loads(bare.body) == {"id": "m-1"}
    assert bare.headers.items() >= ({"ce-id": "m-1", "ce-type": "test"} | context).items()
    (batch,) = stored(own_nats.url, subjects.ACTIVITY_STREAM)
    assert json.loads(batch.body) == [dispatch("d-1", "dns"), dispatch("d-2", "dns")]
    assert trigger.stop() == 0


def test_a_bare_document_of_another_manager_becomes_an_event(
    start_trigger: StartTrigger, own_nats: EmbeddedNats
) -> None:
    with serving({"start": fine}) as functions:
        trigger = start_trigger([Target(name="start", url=functions.url("start"), subject=subjects.MANIFESTS)])
        trigger.wait_ready()
        publish(own_nats.url, subjects.MANIFESTS, b'{"id": "m-1"}')
        functions.wait(lambda: functions.events("start"))
        assert functions.events("start")[0]["data"] == {"id": "m-1"}
        until(lambda: stored(own_nats.url, subjects.STREAM) == [])


def test_a_function_is_woken_at_its_interval_and_never_twice_at_a_time(
    start_trigger: StartTrigger, waking_database: Waking
) -> None:
    made: list[Database] = []
    busy = threading.Lock()
    overlaps: list[bool] = []

    def sweep(events: Events) -> Said:
        if not busy.acquire(blocking=False):
            overlaps.append(True)
            return Said()
        try:
            with made[0].transaction() as transaction:
                # Longer than the interval.
                transaction.rows("SELECT pg_sleep(0.12)")
                row = outbox.put_for_caller(transaction, subjects.RESULTS, [an_event(events[0]["id"])])
            return reply(outbox=[{"id": row.id, "subject": row.subject, "events": row.events}])
        finally:
            busy.release()

    with serving({"sweep": sweep, "results": fine}) as functions:
        targets = [
            Target(name="sweep", url=functions.url("sweep"), every=timedelta(seconds=0.1)),
            Target(name="results", url=functions.url("results"), subject=subjects.RESULTS),
        ]
        made.append(waking_database(trigger := start_trigger(targets)))
        functions.wait(lambda: len(functions.events("results")) >= 4)
        assert overlaps == []
        assert {one["type"] for one in functions.events("sweep")} == {"cfm.tick"}
        assert all(len(events) == 1 for name, events in functions.batches if name == "sweep")
        assert trigger.stop() == 0


def test_two_triggers_deliver_an_event_once_even_if_its_function_is_slower_than_a_lease(
    start_trigger: StartTrigger, waking_database: Waking
) -> None:
    release = threading.Event()

    def slow(events: Events) -> Said:
        release.wait(10)
        return Said()

    with serving({"results": slow}) as functions:
        targets = [Target(name="results", url=functions.url("results"), subject=subjects.RESULTS)]
        first, second = start_trigger(targets), start_trigger(targets)
        first.wait_ready()
        second.wait_ready()
        database = waking_database(first)
        put(database, subjects.RESULTS, an_event("one"))
        functions.wait(lambda: functions.events("results"))
        claimable = database.value("SELECT claimable_at FROM eventing.outbox")
        # Two renewals later both have looked into the outbox more than once.
        until(
            lambda: database.value(
                "SELECT claimable_at > :was::timestamptz + interval '2 s' FROM eventing.outbox", was=claimable
            )
        )
        release.set()
        until(lambda: rows(database) == 0)
        assert functions.ids("results") == {"one": 1}
