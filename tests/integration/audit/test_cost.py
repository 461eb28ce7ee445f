"""What the trail costs whoever changes something: a row, and no wait."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cfm_core.caller import Caller, acting
from cfm_core.store.database import Database, Driver
from cfm_core.tenancy.tenants.v1alpha1 import NewTenant, TenantPropertiesDiff
from tests.contract.tenancy.world import World, deployed, in_postgres
from tests.support.audit import TABLES

ANN = Caller(actor="ann", issuer="urn:i", request_id="r", address="192.0.2.7")


class Waits:
    """Counts how often an answer of the database is waited for."""

    def __init__(self) -> None:
        self.count = 0

    def of(self, call: Callable[[], object]) -> int:
        before = self.count
        call()
        return self.count - before


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Waits:
    waits, waiting = Waits(), Driver.handle_messages

    def counted(self: Driver, context: Any) -> None:
        waits.count += 1
        waiting(self, context)

    monkeypatch.setattr(Driver, "handle_messages", counted)
    return waits


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    with contextlib.closing(Database(database_url, size=1)) as database:
        yield in_postgres(database)


def rows(database: Database) -> dict[str, int]:
    """How many rows the tables of the trail have, those that have any."""
    counts = {table: database.value(f"SELECT count(*) FROM {table}") for table in TABLES}  # noqa: S608
    return {table: count for table, count in counts.items() if count}


def test_a_change_costs_one_row_and_no_wait(world: World, database: Database, waits: Waits) -> None:
    tenant = world.tenant()
    world.dataspace(world.cell())
    profile = world.deploy(tenant)["id"]
    changes: list[Callable[[], object]] = [
        lambda: world.tenants.create(NewTenant()),
        lambda: world.tenants.change(tenant, TenantPropertiesDiff(properties={"n": 1})),
        lambda: world.deploy(tenant, "did:web:" + str(waits.count)),
        lambda: world.change(tenant, profile, properties={"n": waits.count}),
        lambda: world.cell(),
    ]
    for change in changes:
        # Whatever is prepared once on the connection is prepared by now, the message that tells who calls included.
        change()
        with acting(ANN):
            change()
        alone = waits.of(change)
        before = rows(database)
        with acting(ANN):
            assert waits.of(change) == alone
        assert rows(database) == {"audit.waiting": before["audit.waiting"] + 1}


def test_a_deployment_costs_one_row_until_it_is_active(world: World, database: Database) -> None:
    tenant = world.tenant()
    world.dataspace(world.cell())
    with acting(ANN):
        profile = world.deploy(tenant)
    # What agents bring about nobody has asked for over the API: the orchestration's history has it.
    world.respond(deployed(profile["id"], profile["orchestrationId"]))
    assert world.state(tenant, profile["id"]) == "active"
    assert rows(database) == {"audit.waiting": 1}
