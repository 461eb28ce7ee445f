from __future__ import annotations

from collections.abc import Iterator

import pytest

from cfm_core import deployment
from cfm_core.assembly import ServiceAssembler
from cfm_core.settings import Settings
from cfm_core.store.database import Database
from tests.contract.provisioning.world import Driver, PostgresWorld


@pytest.fixture
def world(database: Database) -> PostgresWorld:
    return PostgresWorld(database)


@pytest.fixture
def driver(world: PostgresWorld) -> Driver:
    return Driver(world)


@pytest.fixture
def served(database_url: str) -> Iterator[None]:
    """The functions of this process work on the test's database, for anybody."""
    settings = Settings(database_url=database_url, auth="off", store="postgres", event_token="t")
    assembler = ServiceAssembler(deployment.assemblies(settings), settings)
    deployment.use(assembler)
    yield
    deployment.use(None)
    assembler.stop()
