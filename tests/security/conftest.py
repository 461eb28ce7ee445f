from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.security.ground import Ground


@pytest.fixture(scope="session")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """One stack for all attacks: none of them may change it."""
    with Ground(tmp_path_factory.mktemp("ground")) as ground:
        yield ground
