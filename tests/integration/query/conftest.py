from __future__ import annotations

from collections.abc import Iterator

import pytest

from cfm_core.store.database import Database, connect
from local.servers.postgres import EmbeddedPostgres

NAME = "query_integration"


@pytest.fixture(scope="package")
def shared(postgres: EmbeddedPostgres, template: str) -> Iterator[Database]:
    """One database for all tests of the language, which keep to tables of their own."""
    admin = connect(postgres.url("postgres"))
    admin.run(f"CREATE DATABASE {NAME} TEMPLATE {template} STRATEGY file_copy")
    database = Database(postgres.url(NAME), size=1)
    yield database
    database.close()
    admin.run(f"DROP DATABASE {NAME} WITH (FORCE)")
    admin.close()
