"""As whom a process asks what callers may do."""

from __future__ import annotations

import pytest

from cfm_core.access.assembly import access_assemblies
from cfm_core.assembly import ServiceType
from cfm_core.assembly.database import PROVISION_MANAGER_DATABASE, TENANT_MANAGER_DATABASE
from cfm_core.settings import Settings

ONE, OTHER = "postgresql://one@host/cfm", "postgresql://other@host/cfm"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (Settings(database_url=ONE), TENANT_MANAGER_DATABASE),
        (Settings(tenant_manager_database_url=ONE), TENANT_MANAGER_DATABASE),
        (Settings(tenant_manager_database_url=ONE, provision_manager_database_url=OTHER), TENANT_MANAGER_DATABASE),
        (Settings(provision_manager_database_url=OTHER), PROVISION_MANAGER_DATABASE),
        (Settings(database_url=ONE, provision_manager_database_url=OTHER), PROVISION_MANAGER_DATABASE),
    ],
)
def test_a_process_asks_as_a_manager_that_it_has_a_url_of(settings: Settings, expected: ServiceType[object]) -> None:
    (assembly,) = access_assemblies(settings)
    assert assembly.requires == (expected,)


def test_in_memory_the_tenant_manager_knows() -> None:
    assert access_assemblies(Settings(store="memory")) == ()
