from __future__ import annotations

from collections.abc import Iterator

import pytest

from cfm_core.store.database import Database
from local.servers.postgres import EmbeddedPostgres
from tests.contract.provisioning.world import Driver, MemoryWorld, PostgresWorld, World, empty, shared_database


@pytest.fixture(scope="package")
def emptied(postgres: EmbeddedPostgres, template: str) -> Iterator[Database]:
    with shared_database(postgres, template, "provisioning_contract") as database:
        yield database


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
