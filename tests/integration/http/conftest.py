from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from cfm_core import deployment
from cfm_core.assembly import ServiceAssembler
from cfm_core.settings import Settings
from tests.integration.http.api import Api, Fabric
from tests.integration.http.api import fabric as make_fabric


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
