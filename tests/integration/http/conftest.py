from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from cfm_core import deployment
from cfm_core.assembly import ServiceAssembler
from cfm_core.settings import Settings
from cfm_core.store.database import Database, connect
from local.servers.postgres import EmbeddedPostgres
from tests.integration.http.api import Api, Fabric
from tests.integration.http.api import fabric as make_fabric
from tests.support.tokens import Issuer


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
    serve(Settings(database_url=database_url, database_pool_size=16, auth="off"))
    return Api()


@pytest.fixture
def fabric(api: Api) -> Fabric:
    return make_fabric(api)


@pytest.fixture(scope="module")
def shared_database(request: pytest.FixtureRequest, postgres: EmbeddedPostgres, template: str) -> Iterator[Database]:
    """A database for all tests of a module."""
    name = request.module.__name__.rpartition(".")[2]
    connection = connect(postgres.url("postgres"))
    connection.run(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
    database = Database(postgres.url(name))
    yield database
    database.close()
    connection.run(f"DROP DATABASE {name} WITH (FORCE)")
    connection.close()


@pytest.fixture(scope="module")
def shared_issuer(tmp_path_factory: pytest.TempPathFactory) -> Issuer:
    """Whose tokens the functions of ``shared_api`` accept."""
    return Issuer(tmp_path_factory.mktemp("issuer"))


@pytest.fixture(scope="module")
def shared_api(
    request: pytest.FixtureRequest, shared_database: Database, postgres: EmbeddedPostgres, shared_issuer: Issuer
) -> Iterator[Api]:
    """A client with all scopes, of functions that work on ``shared_database`` and ask for tokens."""
    url = postgres.url(request.module.__name__.rpartition(".")[2])
    settings = Settings.from_environ({**shared_issuer.environ, "CFM_DATABASE_URL": url, "CFM_COMPLETION_KEY": "k"})
    assembler = ServiceAssembler(deployment.assemblies(settings), settings)
    deployment.use(assembler)
    yield Api({"Authorization": f"Bearer {shared_issuer.token()}"})
    deployment.use(None)
    assembler.stop()


@pytest.fixture(scope="module")
def shared_fabric(shared_api: Api) -> Fabric:
    """One of everything, for tests that leave it there."""
    return make_fabric(shared_api)
