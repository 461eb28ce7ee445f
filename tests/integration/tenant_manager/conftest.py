from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from cfm_core import deployment
from cfm_core.assembly import ServiceAssembler
from cfm_core.settings import Settings
from cfm_core.store.database import Database
from tests.integration.tenant_manager.api import Api, Fabric
from tests.support.roles import with_roles

_TABLES = (
    *("tenant_manager.tenants", "tenant_manager.cells", "tenant_manager.dataspace_profiles"),
    *("tenant_manager.dataspace_deployments", "tenant_manager.participant_profiles", "eventing.outbox"),
)


@pytest.fixture
def serve() -> Iterator[Callable[[Settings], None]]:
    """Gives the functions of this process the services of a deployment with the given settings."""
    started: list[ServiceAssembler] = []

    def start(settings: Settings) -> None:
        started.append(ServiceAssembler(deployment.assemblies(settings), settings))
        deployment.use(started[-1])

    yield start
    deployment.use(None)
    for assembler in started:
        assembler.stop()


@pytest.fixture
def api(serve: Callable[[Settings], None], database_url: str) -> Api:
    serve(with_roles(Settings(auth="off"), database_url))
    return Api()


@pytest.fixture
def fabric(api: Api) -> Fabric:
    """One tenant, one active cell, and a dataspace profile deployed to it."""
    return Fabric(api)


@pytest.fixture
def contents(database: Database) -> Callable[[], list[str]]:
    """Everything that is stored, to see whether it changes."""
    return lambda: [
        text
        for table in _TABLES
        for (text,) in database.rows(f"SELECT t::text FROM {table} t ORDER BY 1")  # noqa: S608
    ]
