"""Each trigger is somebody of its own at NATS and in the database, and gets no further than its own subjects and rows."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import nats.js
import pytest
from nats.js import api

import functions
from cfm_core.assembly.database import Waker
from cfm_core.contracts import subjects, wake
from cfm_core.contracts.activity import ActivityTypeAnnouncement
from cfm_core.contracts.reply import OutboxRow
from cfm_core.declaration import EventFunction, discover
from cfm_core.eventing.permissions import ACCOUNT, Identity, accounts, identities
from cfm_core.eventing.targets import Target
from cfm_core.store.database import Database, connect
from cfm_core.store.roles import Role, set_up, url_of
from local.servers.nats import EmbeddedNats, lets_in
from local.servers.postgres import EmbeddedPostgres
from tests.integration.eventing.conftest import StartTrigger
from tests.integration.eventing.harness import Events, Functions, Said, TriggerProcess, fine, serving, until
from tests.integration.eventing.stream import ask, publish, stored
from tests.integration.eventing.test_delivery import an_event, completed, dispatch, put
from tests.integration.eventing.test_foreign_events import happen

DNS = ActivityTypeAnnouncement(
    activity_type="acme.dns",
    timeout=timedelta(seconds=30),
    max_attempts=5,
    backoff=timedelta(seconds=1),
    backoff_limit=timedelta(minutes=5),
)
DECLARED = [one for one in discover(functions) if isinstance(one, EventFunction)]
IDENTITIES = {one.name: one for one in identities([*(one.subject for one in DECLARED), subjects.activity("acme.dns")])}
PASSWORDS = {role: f"password-of-{role}" for role in Role}
NAME = "with_roles"
STREAMS = (subjects.STREAM, subjects.ACTIVITY_STREAM)
PASSWORD = "the-same-for-all"
WAKES = {"tenant-manager": "wakes-for-tenants", "provision-manager": "wakes-for-provisioning"}


@pytest.fixture(scope="module")
def database_with_roles(postgres: EmbeddedPostgres) -> Iterator[str]:
    admin = connect(postgres.url("postgres"))
    admin.run(f"CREATE DATABASE {NAME}")
    set_up(postgres.url(NAME), PASSWORDS)
    yield postgres.url(NAME)
    admin.run(f"DROP DATABASE {NAME} WITH (FORCE)")
    admin.close()


@pytest.fixture
def guarded_nats(own_nats: EmbeddedNats, tmp_path: Path) -> Iterator[EmbeddedNats]:
    """A NATS that knows each identity, in its account; the one who may do everything is in that of the managers."""
    own_nats.stop()
    configured = accounts(IDENTITIES.values(), lambda _: PASSWORD)
    may_everything = urlsplit(own_nats.url)
    configured[ACCOUNT]["users"].append({"user": may_everything.username, "password": may_everything.password})
    settings = {"authorization": {}, "accounts": configured}
    server = EmbeddedNats(tmp_path / "nats", tmp_path / "nats.log", own_nats.port, settings=settings)
    server.start()
    yield server
    server.stop()


@dataclass
class System:
    """Triggers of both managers and of one agent, each on its own, and the functions that they call."""

    functions: Functions
    triggers: dict[str, TriggerProcess]
    tenant_manager: Database
    provision_manager: Database


@pytest.fixture
def system(start_trigger: StartTrigger, guarded_nats: EmbeddedNats, database_with_roles: str) -> Iterator[System]:
    behaviours = dict.fromkeys(("apply", "start", "results", "types", "letters"), fine)
    with ExitStack() as open_, serving({**behaviours, "dns": completed}) as served:
        targets = {
            "tenant-manager": [("apply", subjects.RESPONSES)],
            "provision-manager": [
                ("start", subjects.MANIFESTS),
                ("results", subjects.RESULTS),
                ("types", subjects.ACTIVITY_TYPES),
                ("letters", subjects.DEAD_LETTERS),
            ],
            "agent-acme=dns": [("dns", subjects.activity("acme.dns"))],
        }
        roles = {"tenant-manager": Role.TENANT_MANAGER_TRIGGER, "provision-manager": Role.PROVISION_MANAGER_TRIGGER}
        triggers = {}
        for name, served_there in targets.items():
            role = roles.get(name)
            triggers[name] = start_trigger(
                [
                    Target(
                        name=function,
                        url=served.url(function),
                        subject=subject,
                        activity=DNS.to_json() if function == "dns" else None,
                        of_agent=function == "dns",
                    )
                    for function, subject in served_there
                ],
                database_url=url_of(role, database_with_roles, PASSWORDS[role]) if role else "",
                nats_url=guarded_nats.url_for(name, PASSWORD),
                wakes={
                    f"CFM_{role.replace('-', '_').upper()}_WAKE_KEY": key for role, key in WAKES.items() if role == name
                },
                told={"CFM_NATS_INBOX_PREFIX": IDENTITIES[name].inbox_prefix},
            )
            # An agent's finds the streams that the managers' have made: it may make none.
            triggers[name].wait_ready()

        def pool(name: str, role: Role) -> Database:
            waker = Waker(triggers[name].wake_address, wake.key_of(WAKES[name]))
            database = Database(url_of(role, database_with_roles, PASSWORDS[role]), announce=waker, hands_over=True)
            open_.callback(waker.close)
            open_.callback(database.close)
            return database

        yield System(
            served,
            triggers,
            pool("tenant-manager", Role.TENANT_MANAGER),
            pool("provision-manager", Role.PROVISION_MANAGER),
        )


def test_three_triggers_bring_a_deployment_through_and_need_no_more_rights_than_they_have(
    system: System, guarded_nats: EmbeddedNats, database_with_roles: str
) -> None:
    put(system.tenant_manager, subjects.MANIFESTS, an_event("manifest", subjects.MANIFESTS))
    put(system.provision_manager, subjects.activity("acme.dns"), dispatch("d-1", "acme.dns"))
    put(system.provision_manager, subjects.RESPONSES, an_event("response", subjects.RESPONSES))
    system.functions.wait(lambda: system.functions.events("start"))
    system.functions.wait(lambda: system.functions.events("apply"))
    system.functions.wait(lambda: system.functions.events("results"))
    system.functions.wait(lambda: system.functions.events("types"))
    (outcome,) = system.functions.events("results")
    assert (outcome["data"]["token"], outcome["data"]["kind"]) == ("t-d-1", "complete")
    (announced,) = {event["data"]["activityType"] for event in system.functions.events("types")}
    assert announced == "acme.dns"
    admin = Database(database_with_roles)
    until(lambda: admin.value("SELECT count(*) FROM eventing.outbox") == 0)
    admin.close()
    until(lambda: all(stored(guarded_nats.url, stream) == [] for stream in STREAMS))
    for name, trigger in system.triggers.items():
        assert "ermission" not in trigger.text(), name
    assert "ermission" not in guarded_nats.log.read_text()


def test_an_agent_in_an_account_of_its_own_gets_what_comes_again_and_goes_on_when_nats_comes_back(
    system: System, guarded_nats: EmbeddedNats
) -> None:
    def away_once(events: Events) -> Said:
        return completed(events) if system.functions.ids("dns")["d-1"] > 1 else Said(503)

    def recorded() -> set[str]:
        return {event["data"]["token"] for event in system.functions.events("results")}

    system.functions.behaviours["dns"] = away_once
    put(system.provision_manager, subjects.activity("acme.dns"), dispatch("d-1", "acme.dns"))
    system.functions.wait(lambda: recorded() == {"t-d-1"})
    guarded_nats.stop(signal.SIGKILL)
    put(system.provision_manager, subjects.activity("acme.dns"), dispatch("d-2", "acme.dns"))
    guarded_nats.start()
    many = [dispatch(f"m-{n}", "acme.dns") for n in range(300)]
    for n in range(0, len(many), 10):
        put(system.provision_manager, subjects.activity("acme.dns"), *many[n : n + 10])
    system.functions.wait(lambda: len(recorded()) == 302)
    # An acknowledgement that was lost with the server means that the message comes again, after half a minute.
    until(lambda: all(stored(guarded_nats.url, stream) == [] for stream in STREAMS), seconds=60)


def test_an_agents_trigger_holds_no_database_and_others_need_one(
    system: System, start_trigger: StartTrigger, guarded_nats: EmbeddedNats
) -> None:
    assert system.triggers["agent-acme=dns"].state()["ready"]
    without = start_trigger([Target(name="x", url="http://127.0.0.1:1/x", subject=subjects.RESULTS)], database_url="")
    assert without.wait_exit() == 1
    assert "CFM_DATABASE_URL is not set" in without.text()


def _listening(start_trigger: StartTrigger, server: EmbeddedNats, served: Functions) -> TriggerProcess:
    """A trigger of the one who listens to key pairs, and of nobody else."""
    (name,) = (one.name for one in IDENTITIES.values() if subjects.KEY_PAIR_EVENTS in one.handles)
    trigger = start_trigger(
        [Target(name="keys", url=served.url("keys"), subject=subjects.KEY_PAIR_EVENTS, of_agent=True)],
        database_url="",
        nats_url=server.url_for(name, PASSWORD),
        told={"CFM_NATS_INBOX_PREFIX": IDENTITIES[name].inbox_prefix},
    )
    trigger.wait_ready()
    return trigger


def test_a_listener_hears_what_others_publish_without_a_database(
    start_trigger: StartTrigger, guarded_nats: EmbeddedNats
) -> None:
    ask(guarded_nats.url, _make_streams)
    with serving({"keys": fine}) as served:
        trigger = _listening(start_trigger, guarded_nats, served)
        happen(guarded_nats)
        served.wait(lambda: served.ids("keys") == {"one": 1})
        assert "ermission" not in trigger.text() + guarded_nats.log.read_text()


def test_what_an_operator_sends_again_reaches_who_listens_to_others(
    system: System, start_trigger: StartTrigger, guarded_nats: EmbeddedNats
) -> None:
    ask(guarded_nats.url, _make_stream_of_others)
    with serving({"keys": fine}) as served:
        _listening(start_trigger, guarded_nats, served)
        again = an_event("again", "events.keypair.activated")
        put(system.provision_manager, subjects.again(subjects.KEY_PAIR_EVENTS), again)
        served.wait(lambda: served.ids("keys") == {"again": 1})
        assert served.events("keys")[0]["subject"] == "events.keypair.activated"
        until(lambda: stored(guarded_nats.url, subjects.ACTIVITY_STREAM) == [])


def test_a_trigger_leaves_the_other_managers_rows_alone(system: System, database_with_roles: str) -> None:
    # One that the Tenant Manager's trigger does not see, one of its own; the other trigger is away.
    system.triggers["provision-manager"].stop()
    admin = Database(database_with_roles)
    with admin.transaction() as tx:
        for subject in (subjects.DEAD_LETTERS, subjects.MANIFESTS):
            tx.rows(
                "INSERT INTO eventing.outbox (subject, events) VALUES (:subject, :events::jsonb)",
                subject=subject,
                events=json.dumps([an_event(subject, subject)]),
            )
    system.triggers["tenant-manager"].wake()
    until(lambda: admin.rows("SELECT subject FROM eventing.outbox") == [[subjects.DEAD_LETTERS]])
    admin.rows("DELETE FROM eventing.outbox")
    admin.close()


@pytest.mark.parametrize("key", ["tenant-manager", "provision-manager"])
def test_a_datagram_brings_no_row_of_which_its_sender_has_no_say(
    system: System, database_with_roles: str, key: str
) -> None:
    """Nothing is delivered of what the Tenant Manager's functions could not have written, whichever key they have."""
    trigger = system.triggers["tenant-manager"]
    forged = OutboxRow(10**9, subjects.RESPONSES, [an_event("forged", subjects.RESPONSES)])
    trigger.wake(wake.sealed(forged, wake.key_of(WAKES[key])))
    put(system.provision_manager, subjects.RESPONSES, an_event("true", subjects.RESPONSES))
    system.functions.wait(lambda: system.functions.events("apply"))
    assert system.functions.ids("apply") == {"true": 1}


# What a stolen identity gets


def _foreign_subjects(identity: Identity) -> list[str]:
    """Everything that somebody else publishes, or that would change what others rely on."""
    known = {
        subject.replace(">", "another") for one in IDENTITIES.values() for subject in (*one.announces, *one.handles)
    }
    foreign = [one for one in known if not any(subjects.covers(mine, one) for mine in identity.announces)]
    for other in IDENTITIES.values():
        if other is identity:
            continue
        foreign += [
            allowed.replace(">", "1.2.3.4.5")
            for allowed in other.publishes()
            if allowed.startswith("$JS.ACK") or ".CONSUMER." in allowed
        ]
    for handled in identity.handles:
        stream = subjects.STREAM if handled in subjects.CONTRACT_SUBJECTS else subjects.ACTIVITY_STREAM
        stream = subjects.EDC_STREAM if subjects.is_foreign(handled) else stream
        durable = subjects.consumer(handled)
        foreign += [
            f"$JS.API.CONSUMER.CREATE.{stream}.{durable}.event.cfm.>",
            f"$JS.API.CONSUMER.CREATE.{stream}.{durable}",
            f"$JS.API.CONSUMER.CREATE.{stream}",
            f"$JS.API.CONSUMER.DURABLE.CREATE.{stream}.{durable}",
            f"$JS.API.CONSUMER.DELETE.{stream}.{durable}",
        ]
    for stream in (*STREAMS, subjects.EDC_STREAM):
        foreign += [
            f"$JS.API.STREAM.{verb}.{stream}"
            for verb in ("UPDATE", "DELETE", "PURGE", "MSG.GET", "MSG.DELETE", "SNAPSHOT", "RESTORE")
        ]
        foreign += [f"$JS.API.DIRECT.GET.{stream}", f"$JS.API.DIRECT.GET.{stream}.event.cfm.result"]
        if not identity.makes_streams or stream == subjects.EDC_STREAM:
            foreign.append(f"$JS.API.STREAM.CREATE.{stream}")
    foreign += [
        "$JS.API.STREAM.CREATE.mine",
        "$JS.API.STREAM.NAMES",
        "$JS.API.INFO",
        "event.acme",
        "$SYS.REQ.SERVER.PING",
    ]
    return sorted(set(foreign))


def _foreign_inboxes(identity: Identity) -> list[str]:
    others = [f"{one.inbox_prefix}.>" for one in IDENTITIES.values() if one is not identity]
    return [">", "event.>", "event.cfm.result", "_INBOX.>", "$JS.>", "$SYS.>", "event.*", *others]


class Intruder:
    """Somebody with the password of an identity, who speaks with the server as they like."""

    def __init__(self, port: int, user: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self._said = self._socket.makefile("rb")
        self._said.readline()
        options = {"user": user, "pass": PASSWORD, "verbose": False, "pedantic": False, "lang": "py", "version": "0"}
        assert self.says(f"CONNECT {json.dumps(options)}") == []

    def says(self, *lines: str) -> list[str]:
        """What the server answers to some lines, all of which it has looked at then; in lower case."""
        self._socket.sendall("".join(f"{line}\r\n" for line in (*lines, "PING")).encode())
        answers = []
        while (answer := self._said.readline().decode().strip()) != "PONG":
            assert answer, "the server has hung up"
            answers.append(answer.lower())
        return answers

    def close(self) -> None:
        self._said.close()
        self._socket.close()


@pytest.fixture
def intruder(guarded_nats: EmbeddedNats) -> Iterator[Callable[[Identity], Intruder]]:
    opened: list[Intruder] = []

    def enter(identity: Identity) -> Intruder:
        opened.append(Intruder(guarded_nats.port, identity.name))
        return opened[-1]

    yield enter
    for one in opened:
        one.close()


def _published(subject: str, identity: Identity) -> str:
    return f"PUB {subject} {identity.inbox_prefix}.mine 2\r\n{{}}"


@pytest.mark.parametrize("identity", IDENTITIES.values(), ids=lambda one: one.name)
def test_an_identity_publishes_to_no_subject_of_others(
    guarded_nats: EmbeddedNats, intruder: Callable[[Identity], Intruder], identity: Identity
) -> None:
    ask(guarded_nats.url, _make_streams)
    before = ask(guarded_nats.url, _state)
    foreign = _foreign_subjects(identity)
    assert len(foreign) > 30
    answers = intruder(identity).says(*(_published(subject, identity) for subject in foreign))
    # In an account without JetStream the API has another name.
    here = [subject if identity.makes_streams else subject.replace("$JS.API", "JS.CFM.API") for subject in foreign]
    assert answers == [f"-err 'permissions violation for publish to \"{subject.lower()}\"'" for subject in here]
    assert ask(guarded_nats.url, _state) == before


@pytest.mark.parametrize("identity", IDENTITIES.values(), ids=lambda one: one.name)
def test_an_identity_listens_to_nothing_of_others(
    guarded_nats: EmbeddedNats, intruder: Callable[[Identity], Intruder], identity: Identity
) -> None:
    foreign = _foreign_inboxes(identity)
    mine = intruder(identity)
    answers = mine.says(*(f"SUB {subject} {number}" for number, subject in enumerate(foreign)))
    assert answers == [f"-err 'permissions violation for subscription to \"{subject.lower()}\"'" for subject in foreign]
    prefixes = [one.inbox_prefix for one in IDENTITIES.values()]
    ask(guarded_nats.url, partial(_tell, [*(f"{prefix}.secret" for prefix in prefixes), "event.cfm.result", "event.x"]))
    assert mine.says() == []


@pytest.mark.parametrize("identity", IDENTITIES.values(), ids=lambda one: one.name)
def test_what_an_identity_is_for_it_may_do(
    guarded_nats: EmbeddedNats, intruder: Callable[[Identity], Intruder], identity: Identity
) -> None:
    lines = [_published(subject.replace(">", "1"), identity) for subject in identity.publishes()]
    assert intruder(identity).says(*lines, f"SUB {identity.inbox_prefix}.mine 1") == []


@pytest.mark.parametrize("name", ["agent-acme=dns", f"listener-{subjects.consumer(subjects.KEY_PAIR_EVENTS)}"])
def test_no_answer_and_no_message_goes_where_its_asker_may_not_publish(guarded_nats: EmbeddedNats, name: str) -> None:
    identity = IDENTITIES[name]
    handled = identity.handles[-1]
    ask(guarded_nats.url, _make_streams)
    misdirect = partial(_misdirected, handled=handled, to=[one for one in _foreign_subjects(identity) if one[0] != "$"])
    ask(guarded_nats.url_for(name, PASSWORD), partial(_take_in, handled=handled), identity.inbox_prefix)
    for body in b"one", b"two":
        publish(guarded_nats.url, handled.replace(">", "added"), body)
    before = ask(guarded_nats.url, _state)
    came = ask(guarded_nats.url_for(name, PASSWORD), misdirect, identity.inbox_prefix)
    assert sorted(came) == [b"one", b"two"]
    assert ask(guarded_nats.url, _state) == before


def test_agents_and_strangers_are_nobody_at_nats(guarded_nats: EmbeddedNats) -> None:
    for user, password in (("", ""), ("dns", PASSWORD), ("agent-acme=dns", "guessed")):
        assert not lets_in(guarded_nats.port, user, password)
    assert lets_in(guarded_nats.port, "agent-acme=dns", PASSWORD)


async def _tell(names: list[str], context: nats.js.JetStreamContext) -> None:
    for subject in names:
        await context._nc.publish(subject, b"{}")
    await context._nc.flush()


def _stream_of(handled: str) -> str:
    return subjects.EDC_STREAM if subjects.is_foreign(handled) else subjects.ACTIVITY_STREAM


async def _take_in(context: nats.js.JetStreamContext, handled: str) -> None:
    name = subjects.consumer(handled)
    config = api.ConsumerConfig(name=name, durable_name=name, ack_policy=api.AckPolicy.EXPLICIT, ack_wait=1)
    config.filter_subject = handled
    await context.add_consumer(_stream_of(handled), config)


async def _misdirected(context: nats.js.JetStreamContext, handled: str, to: list[str]) -> list[bytes]:
    """Has every answer sent to subjects of others; gives the two messages that still come when an inbox is named at last."""
    stream, consumer = _stream_of(handled), subjects.consumer(handled)
    pull = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
    for subject in to:
        await context._nc.publish(f"$JS.API.STREAM.INFO.{stream}", b"", reply=subject)
        await context._nc.publish(f"$JS.API.CONSUMER.INFO.{stream}.{consumer}", b"", reply=subject)
        await context._nc.publish(pull, b'{"batch": 1, "expires": 300000000}', reply=subject)
    inbox = context._nc.new_inbox()
    mine = await context._nc.subscribe(inbox)
    came = []
    for subject in to[0], "":
        await context._nc.publish(pull, b'{"batch": 1, "expires": 20000000000}', reply=inbox)
        # What the server has brought nobody comes again.
        message = await mine.next_msg(timeout=20)
        came.append(message.data)
        await context._nc.publish(message.reply, b"+NXT" if subject else b"+ACK", reply=subject)
    return came


async def _make_stream_of_others(context: nats.js.JetStreamContext) -> None:
    await context.add_stream(
        name=subjects.EDC_STREAM, subjects=list(subjects.EDC_STREAM_SUBJECTS), retention="interest"
    )


async def _make_streams(context: nats.js.JetStreamContext) -> None:
    await context.add_stream(name=subjects.STREAM, subjects=list(subjects.STREAM_SUBJECTS), retention="workqueue")
    await _make_stream_of_others(context)
    await context.add_stream(
        name=subjects.ACTIVITY_STREAM, subjects=list(subjects.ACTIVITY_STREAM_SUBJECTS), retention="workqueue"
    )


async def _state(context: nats.js.JetStreamContext) -> list[tuple[str | None, int, int]]:
    return [(one.config.name, one.state.last_seq, one.state.consumer_count) for one in await context.streams_info()]
