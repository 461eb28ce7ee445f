"""A NATS of its own for each test, since streams and consumers have fixed names; triggers that are stopped at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cfm_core.assembly.database import Waker
from cfm_core.contracts import wake
from cfm_core.store.database import Database, connect
from cfm_core.store.migrations import known, migrate
from local.servers.nats import EmbeddedNats
from local.servers.postgres import EmbeddedPostgres
from tests.integration.eventing.harness import WAKE_KEY, TriggerProcess

StartTrigger = Callable[..., TriggerProcess]


@pytest.fixture(scope="session")
def template(postgres: EmbeddedPostgres) -> str:
    """A database with the outbox alone, which is all that the trigger may rely on."""
    name = "template_eventing"
    connection = connect(postgres.url("postgres"))
    connection.run(f"CREATE DATABASE {name}")
    connection.close()
    migrate(postgres.url(name), known()[:1])
    return name


@pytest.fixture
def own_nats(tmp_path: Path) -> Iterator[EmbeddedNats]:
    server = EmbeddedNats(tmp_path / "nats", tmp_path / "nats.log")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def start_trigger(tmp_path: Path, database_url: str, own_nats: EmbeddedNats) -> Iterator[StartTrigger]:
    """Starts a trigger for targets against this test's servers; keyword arguments are those of ``TriggerProcess``."""
    started: list[TriggerProcess] = []

    def start(targets: object, **options: object) -> TriggerProcess:
        home = tmp_path / f"trigger-{len(started)}"
        home.mkdir()
        chosen = {"database_url": database_url, "nats_url": own_nats.url, **options}
        trigger = TriggerProcess(home, targets, **chosen)  # type: ignore[arg-type]  # as the caller gave them
        started.append(trigger)
        return trigger

    yield start
    for trigger in started:
        trigger.kill()


@pytest.fixture
def waking_database(database_url: str) -> Iterator[Callable[[TriggerProcess], Database]]:
    """A database whose commits wake a given trigger."""
    opened: list[Database | Waker] = []

    def make(trigger: TriggerProcess) -> Database:
        waker = Waker(trigger.wake_address, wake.key_of(WAKE_KEY))
        database = Database(database_url, announce=waker, hands_over=True)
        opened.extend((database, waker))
        return database

    yield make
    for one in opened:
        one.close()
