"""One ground for all runs: each begins by forgetting the one before."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from local.bench.fabric import Fabric
from local.chaos.ground import Ground
from local.chaos.workload import prepare


@pytest.fixture(scope="package")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    home = tmp_path_factory.mktemp("chaos")
    with Ground(home, print) as ground:
        yield ground


@pytest.fixture(scope="package")
def fabric(ground: Ground) -> Fabric:
    return prepare(ground.url)
