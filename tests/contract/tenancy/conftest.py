from __future__ import annotations

import pytest

from cfm_core.store.database import Database
from tests.contract.tenancy.world import World, in_memory, in_postgres


@pytest.fixture(params=["memory", "postgres"])
def world(request: pytest.FixtureRequest) -> World:
    """Every test of this folder runs over each store."""
    return in_memory() if request.param == "memory" else in_postgres(request.getfixturevalue("database"))


@pytest.fixture
def worlds(database: Database) -> tuple[World, World]:
    """One over each store, for tests that compare them."""
    return in_memory(), in_postgres(database)
