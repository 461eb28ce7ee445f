from __future__ import annotations

import pytest

from cfm_core.assembly import ServiceAssembler
from cfm_core.audit.assembly import audit_assemblies
from cfm_core.errors import FatalError
from cfm_core.provisioning.assembly import DEFINITIONS, ENGINE, ORCHESTRATIONS, provisioning_assemblies
from cfm_core.provisioning.definitions.model import ActivityDefinition
from cfm_core.settings import Settings


def test_the_three_services_share_one_memory() -> None:
    settings = Settings(store="memory")
    registry = ServiceAssembler([*audit_assemblies(settings), *provisioning_assemblies(settings)], settings).ensure(
        [DEFINITIONS, ENGINE, ORCHESTRATIONS]
    )
    registry.resolve(DEFINITIONS).put_activity_definition(ActivityDefinition(type="t"))
    assert registry.resolve(DEFINITIONS).get_activity_definition("t").text == '{"type":"t"}'
    assert registry.resolve(ENGINE).sweep().outbox == []


def test_another_store_is_refused() -> None:
    with pytest.raises(FatalError, match="CFM_STORE"):
        provisioning_assemblies(Settings(store="paper"))
