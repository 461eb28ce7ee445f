from __future__ import annotations

from collections.abc import Iterator

import pytest

from cfm_core.store.database import Database, connect
from local.servers.postgres import EmbeddedPostgres
from tests.contract.provisioning.world import Driver, MemoryWorld, PostgresWorld, World, empty


@pytest.fixture(scope="package")
def emptied(postgres: EmbeddedPostgres, template: str) -> Iterator[Database]:
    """One database for all these tests; each of them begins by emptying it, which is faster than a copy."""
    connection = connect(postgres.url("postgres"))
    connection.run(f"CREATE DATABASE provisioning_contract TEMPLATE {template}")
    database = Database(postgres.url("provisioning_contract"))
    yield database
    database.close()
    connection.run("DROP DATABASE provisioning_contract WITH (FORCE)")
    connection.close()


@pytest.fixture(params=["memory", "postgres"])
def world(request: pytest.FixtureRequest) -> World:
    if request.param == "memory":
        return MemoryWorld()
    database: Database = request.getfixturevalue("emptied")
    empty(database)
    return PostgresWorld(database)


@pytest.fixture
def driver(world: World) -> Driver:
    return Driver(world)
