from __future__ import annotations

import json
import secrets
import shutil
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from nats.js import JetStreamContext, api

from cfm_core.contracts import subjects
from cfm_core.eventing.targets import Target
from cfm_core.store.database import Database
from cfm_core.store.migrations import known, migrate
from local.servers.nats import EmbeddedNats, _binary
from local.servers.postgres import EmbeddedPostgres
from local.servers.process import answers, free_port, spawn, stop, wait_until
from tests.integration.eventing.conftest import StartTrigger
from tests.integration.eventing.harness import Events, Functions, Said, fine, serving, until
from tests.integration.eventing.stream import ask, stored
from tests.integration.eventing.test_delivery import Waking, an_event, both_ways, put, rows
from tests.integration.eventing.test_refusals import NAMES, result_target


def arrived(functions: Functions) -> bool:
    return functions.ids("results").keys() >= {*NAMES}


@both_ways
def test_events_in_hand_of_a_killed_trigger_reach_their_function_by_another(
    handover: str, start_trigger: StartTrigger, database: Database, own_nats: EmbeddedNats
) -> None:
    release = threading.Event()

    def stuck_at_first(events: Events) -> Said:
        if not release.is_set():
            release.wait(20)
            # Nobody reads this answer any more.
            return Said(503)
        return Said()

    with serving({"results": stuck_at_first}) as functions:
        target = Target(name="results", url=functions.url("results"), subject=subjects.RESULTS, batch=2)
        first = start_trigger([target], handover=handover)
        first.wait_ready()
        for name in NAMES:
            put(database, subjects.RESULTS, an_event(name))
        first.wake()
        functions.wait(lambda: functions.batches)
        first.kill()
        shorten_ack_wait(own_nats)
        end_leases(database)
        functions.batches.clear()
        release.set()
        second = start_trigger([target], handover=handover)
        second.wait_ready()
        functions.wait(lambda: arrived(functions))
        until(lambda: rows(database) == 0)
        until(lambda: stored(own_nats.url, subjects.ACTIVITY_STREAM) == [])


@both_ways
def test_every_event_arrives_although_triggers_are_killed_again_and_again(
    handover: str, start_trigger: StartTrigger, database: Database, own_nats: EmbeddedNats
) -> None:
    wanted = {f"e{number}" for number in range(600)}

    def working(events: Events) -> Said:
        threading.Event().wait(0.01)
        return Said()

    with serving({"results": working}) as functions:
        target = Target(name="results", url=functions.url("results"), subject=subjects.RESULTS, batch=4)
        trigger = start_trigger([target], handover=handover)
        trigger.wait_ready()
        for start in range(0, 600, 3):
            put(database, subjects.RESULTS, *(an_event(f"e{number}") for number in range(start, start + 3)))
        for kill in range(1, 4):
            trigger.wake()
            functions.wait(lambda enough=15 * kill: len(functions.batches) >= enough)  # type: ignore[misc]
            trigger.kill()
            shorten_ack_wait(own_nats)
            end_leases(database)
            trigger = start_trigger([target], handover=handover)
        functions.wait(lambda: functions.ids("results").keys() == wanted)
        until(lambda: rows(database) == 0)
        until(lambda: stored(own_nats.url, subjects.ACTIVITY_STREAM) == [])


def shorten_ack_wait(nats: EmbeddedNats) -> None:
    """Let messages in hand of a dead trigger come back sooner than after the usual half minute."""

    async def shorten(context: JetStreamContext) -> None:
        stream, name = subjects.ACTIVITY_STREAM, subjects.consumer(subjects.RESULTS)
        config = (await context.consumer_info(stream, name)).config
        assert config is not None
        await context.add_consumer(stream, config.evolve(ack_wait=0.2))

    ask(nats.url, shorten)


def end_leases(database: Database) -> None:
    """Let the rows in hand of a dead trigger be claimable sooner than after the usual second and a half."""
    database.rows("UPDATE eventing.outbox SET claimable_at = now()")


def test_nats_may_be_away_at_the_start_and_later(
    start_trigger: StartTrigger, waking_database: Waking, own_nats: EmbeddedNats
) -> None:
    port = own_nats.port
    own_nats.stop()
    with serving({"results": fine}) as functions:
        trigger = start_trigger([result_target(functions)])
        trigger.wait_ready(nats=False)
        database = waking_database(trigger)
        put(database, subjects.RESULTS, an_event("without"))
        put(database, subjects.MANIFESTS, an_event("waits", subjects.MANIFESTS))
        functions.wait(lambda: functions.ids("results") == {"without": 1})
        until(lambda: rows(database) == 1)
        own_nats.start()
        assert own_nats.port == port
        trigger.wait_ready()
        until(lambda: rows(database) == 0)
        assert len(stored(own_nats.url, subjects.STREAM)) == 1
        own_nats.stop(signal.SIGKILL)
        until(lambda: not trigger.state()["nats"])
        put(database, subjects.RESULTS, an_event("without again"))
        functions.wait(lambda: functions.ids("results")["without again"])
        own_nats.start()
        trigger.wait_ready()
        assert trigger.stop() == 0


def test_events_go_on_after_nats_was_restarted(
    start_trigger: StartTrigger, waking_database: Waking, own_nats: EmbeddedNats
) -> None:
    with serving({"results": fine}) as functions:
        trigger = start_trigger([result_target(functions)], handover="jetstream")
        trigger.wait_ready()
        database = waking_database(trigger)
        put(database, subjects.RESULTS, an_event("before"))
        functions.wait(lambda: functions.ids("results")["before"])
        own_nats.stop(signal.SIGKILL)
        put(database, subjects.RESULTS, *map(an_event, NAMES))
        own_nats.start()
        functions.wait(lambda: arrived(functions))
        until(lambda: rows(database) == 0)


def test_streams_and_consumers_are_made_anew_when_their_store_is_gone(
    start_trigger: StartTrigger, waking_database: Waking, own_nats: EmbeddedNats
) -> None:
    with serving({"results": fine}) as functions:
        trigger = start_trigger([result_target(functions)], handover="jetstream")
        trigger.wait_ready()
        database = waking_database(trigger)
        own_nats.stop(signal.SIGKILL)
        shutil.rmtree(own_nats.store)
        own_nats.start()
        put(database, subjects.RESULTS, *map(an_event, NAMES))
        functions.wait(lambda: arrived(functions))
        until(lambda: rows(database) == 0)


def test_a_stream_that_somebody_deletes_is_made_anew(
    start_trigger: StartTrigger, waking_database: Waking, own_nats: EmbeddedNats
) -> None:
    async def delete(context: JetStreamContext) -> None:
        await context.delete_stream(subjects.ACTIVITY_STREAM)

    with serving({"results": fine}) as functions:
        trigger = start_trigger([result_target(functions)], handover="jetstream")
        trigger.wait_ready()
        database = waking_database(trigger)
        ask(own_nats.url, delete)
        put(database, subjects.RESULTS, *map(an_event, NAMES))
        functions.wait(lambda: arrived(functions))
        until(lambda: rows(database) == 0)


def test_a_database_that_was_restarted_is_used_again(start_trigger: StartTrigger, tmp_path: Path) -> None:
    postgres = EmbeddedPostgres(tmp_path / "postgres", tmp_path / "postgres.log")
    postgres.start()
    try:
        migrate(postgres.url(), known()[:1])
        with serving({"results": fine}) as functions:
            trigger = start_trigger([result_target(functions)], database_url=postgres.url())
            trigger.wait_ready()
            postgres.stop(signal.SIGQUIT)
            until(lambda: not trigger.state()["ready"])
            postgres.start()
            database = Database(postgres.url())
            put(database, subjects.RESULTS, *map(an_event, NAMES))
            functions.wait(lambda: arrived(functions))
            until(lambda: rows(database) == 0)
            database.close()
            assert trigger.stop() == 0
    finally:
        postgres.stop()


@both_ways
def test_a_trigger_told_to_stop_ends_what_is_under_way_and_leaves_the_rest(
    handover: str, start_trigger: StartTrigger, database: Database, own_nats: EmbeddedNats
) -> None:
    release = threading.Event()

    def slow(events: Events) -> Said:
        release.wait(20)
        return Said()

    with serving({"results": slow}) as functions:
        target = Target(name="results", url=functions.url("results"), subject=subjects.RESULTS, batch=1, slots=1)
        trigger = start_trigger([target], handover=handover)
        trigger.wait_ready()
        put(database, subjects.RESULTS, an_event("under way"))
        trigger.wake()
        functions.wait(lambda: functions.batches)
        put(database, subjects.RESULTS, an_event("later"))
        trigger.wake()
        until(
            lambda: trigger.state()["targets"]["results"]["waiting"] or (handover == "jetstream" and not rows(database))
        )
        trigger.process.send_signal(signal.SIGTERM)
        until(lambda: trigger.state()["draining"])
        release.set()
        assert trigger.wait_exit() == 0
        assert functions.ids("results") == {"under way": 1}
        if handover == "direct":
            (left,) = database.rows("SELECT events::text FROM eventing.outbox")
            assert json.loads(left[0]) == [an_event("later")]
        else:
            (message,) = stored(own_nats.url, subjects.ACTIVITY_STREAM)
            assert json.loads(message.body) == [an_event("later")]


@pytest.fixture
def old_nats() -> Iterator[str]:
    """Says that it is a NATS of 2022, and no more."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        info = {"server_id": "A", "version": "2.9.10", "host": "127.0.0.1", "port": port, "max_payload": 1048576}

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"INFO " + json.dumps(info | {"headers": True, "proto": 1}).encode() + b"\r\n")
                while data := connection.recv(65536):
                    if b"PING" in data:
                        connection.sendall(b"PONG\r\n")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"nats://127.0.0.1:{port}"
        thread.join(5)


def test_a_nats_server_that_is_too_old_is_refused(start_trigger: StartTrigger, old_nats: str) -> None:
    trigger = start_trigger([], nats_url=old_nats)
    assert trigger.wait_exit() == 1
    assert "the NATS server is 2.9.10, and 2.10 or newer is needed" in trigger.text()


@pytest.mark.parametrize(
    ("existing", "complaint"),
    [
        (
            api.StreamConfig(name=subjects.STREAM, subjects=["event.other"], retention=api.RetentionPolicy.WORK_QUEUE),
            "must have event.cfm-orchestration, event.cfm-orchestration-response",
        ),
        (
            api.StreamConfig(name=subjects.STREAM, subjects=["event.*"], retention=api.RetentionPolicy.LIMITS),
            "has the retention limits; it must be workqueue",
        ),
        (
            api.StreamConfig(name="another", subjects=["event.>"], retention=api.RetentionPolicy.WORK_QUEUE),
            "the stream cfm-stream for event.* cannot be made",
        ),
    ],
)
def test_a_stream_that_does_not_fit_is_refused(
    existing: api.StreamConfig, complaint: str, start_trigger: StartTrigger, own_nats: EmbeddedNats
) -> None:
    async def make(context: JetStreamContext) -> None:
        await context.add_stream(existing)

    ask(own_nats.url, make)
    trigger = start_trigger([])
    assert trigger.wait_exit() == 1
    assert complaint in trigger.text()


def test_a_consumer_of_another_activity_type_in_its_place_leaves_the_direct_way(
    start_trigger: StartTrigger, waking_database: Waking, own_nats: EmbeddedNats
) -> None:
    async def make(context: JetStreamContext) -> None:
        await context.add_stream(
            api.StreamConfig(
                name=subjects.ACTIVITY_STREAM,
                subjects=list(subjects.ACTIVITY_STREAM_SUBJECTS),
                retention=api.RetentionPolicy.WORK_QUEUE,
            )
        )
        await context.add_consumer(
            subjects.ACTIVITY_STREAM,
            api.ConsumerConfig(
                durable_name=subjects.consumer(subjects.activity("a.b")), filter_subject=subjects.activity("a-b")
            ),
        )

    ask(own_nats.url, make)
    with serving({"agent": fine}) as functions:
        target = Target(name="agent", url=functions.url("agent"), subject=subjects.activity("a.b"))
        trigger = start_trigger([target])
        trigger.wait_ready()
        put(waking_database(trigger), subjects.activity("a.b"), an_event("one"))
        functions.wait(lambda: functions.ids("agent") == {"one": 1})
        assert "the consumer cfm=activity=a=b of stream cfm-activities must be a pull consumer" in trigger.text()


def test_a_way_of_handing_over_that_does_not_exist_is_refused(start_trigger: StartTrigger) -> None:
    trigger = start_trigger([], handover="by hand")
    assert trigger.wait_exit() == 1
    assert "CFM_HANDOVER is 'by hand'; it must be direct or jetstream" in trigger.text()


def test_the_platforms_own_stream_and_consumer_are_taken_as_they_are(
    start_trigger: StartTrigger, waking_database: Waking, own_nats: EmbeddedNats
) -> None:
    async def make(context: JetStreamContext) -> None:
        await context.add_stream(
            api.StreamConfig(name=subjects.STREAM, subjects=["event.*"], retention=api.RetentionPolicy.WORK_QUEUE)
        )
        await context.add_consumer(
            subjects.STREAM,
            api.ConsumerConfig(
                durable_name="cfm-orchestration", filter_subject=subjects.MANIFESTS, ack_wait=17, max_deliver=-1
            ),
        )

    async def ack_wait(context: JetStreamContext) -> float | None:
        config = (await context.consumer_info(subjects.STREAM, "cfm-orchestration")).config
        return config.ack_wait if config else None

    ask(own_nats.url, make)
    with serving({"start": fine}) as functions:
        target = Target(name="start", url=functions.url("start"), subject=subjects.MANIFESTS)
        trigger = start_trigger([target], handover="jetstream")
        trigger.wait_ready()
        put(waking_database(trigger), subjects.MANIFESTS, an_event("m-1", subjects.MANIFESTS))
        functions.wait(lambda: functions.ids("start") == {"m-1": 1})
        assert ask(own_nats.url, ack_wait) == 17


def test_the_rights_of_the_platforms_nats_users_are_enough(
    start_trigger: StartTrigger, waking_database: Waking, tmp_path: Path
) -> None:
    port, password = free_port(), secrets.token_urlsafe()
    rights = {
        "publish": ["event.>", "$KV.cfm-bucket.>", "$JS.API.>", "$JS.ACK.>"],
        "subscribe": ["event.>", "events.>", "$KV.cfm-bucket.>", "_INBOX.>"],
    }
    config = tmp_path / "platform.conf"
    config.write_text(
        json.dumps(
            {
                "host": "127.0.0.1",
                "port": port,
                "jetstream": {"store_dir": str(tmp_path / "platform")},
                "authorization": {"users": [{"user": "cfm", "password": password, "permissions": rights}]},
            }
        )
    )
    log = tmp_path / "platform.log"
    process = spawn([_binary(), "-c", config], log=log)
    wait_until(lambda: answers("127.0.0.1", port), process=process, log=log, what="NATS")
    try:
        with serving({"results": fine}) as functions:
            url = f"nats://cfm:{password}@127.0.0.1:{port}"
            trigger = start_trigger([result_target(functions)], nats_url=url, handover="jetstream")
            trigger.wait_ready()
            database = waking_database(trigger)
            put(database, subjects.RESULTS, *map(an_event, NAMES))
            functions.wait(lambda: arrived(functions))
            until(lambda: rows(database) == 0)
            until(lambda: stored(url, subjects.ACTIVITY_STREAM) == [])
            assert "ermission" not in log.read_text()
    finally:
        stop(process)
