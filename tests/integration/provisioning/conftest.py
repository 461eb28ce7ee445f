from __future__ import annotations

from collections.abc import Iterator

import pytest

from cfm_core import deployment
from cfm_core.assembly import ServiceAssembler
from cfm_core.settings import Settings
from cfm_core.store.database import Database
from local.servers.postgres import EmbeddedPostgres
from tests.contract.provisioning.world import KEY, Driver, PostgresWorld, empty, shared_database
from tests.support.roles import with_roles

NAME = "provisioning_integration"


@pytest.fixture(scope="package")
def shared(postgres: EmbeddedPostgres, template: str) -> Iterator[Database]:
    with shared_database(postgres, template, NAME) as database:
        yield database


@pytest.fixture
def emptied(shared: Database) -> Database:
    empty(shared)
    return shared


@pytest.fixture
def emptied_url(emptied: Database, postgres: EmbeddedPostgres) -> str:
    return postgres.url(NAME)


@pytest.fixture
def world(emptied: Database) -> PostgresWorld:
    return PostgresWorld(emptied)


@pytest.fixture
def driver(world: PostgresWorld) -> Driver:
    return Driver(world)


@pytest.fixture
def served(emptied_url: str) -> Iterator[None]:
    """The functions of this process work on the test's database, for anybody."""
    settings = with_roles(Settings(auth="off", completion_key=KEY.key), emptied_url)
    assembler = ServiceAssembler(deployment.assemblies(settings), settings)
    deployment.use(assembler)
    yield
    deployment.use(None)
    assembler.stop()
