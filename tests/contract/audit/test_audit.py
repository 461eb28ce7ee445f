"""The audit trail of both managers over each store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cfm_core.access.model import Access, Action, Resource, Right
from cfm_core.audit.memory import MemoryAudit
from cfm_core.audit.model import Kind, Manager, Subject, subject_of
from cfm_core.audit.service import Audit, Erasure
from cfm_core.caller import Caller, acting
from cfm_core.contracts.orchestration import OrchestrationManifest
from cfm_core.errors import ForbiddenError, PreconditionFailedError, ValidationError
from cfm_core.provisioning.definitions.model import Activity, ActivityDefinition, OrchestrationTemplate
from cfm_core.provisioning.operations.model import Order
from cfm_core.provisioning.schedules.v1alpha1 import NewSchedule, ScheduleDiff
from cfm_core.query import Page
from cfm_core.store.database import Database
from cfm_core.tenancy.cells.v1alpha1 import CellDiff
from cfm_core.tenancy.dataspace_profiles.v1alpha1 import NewDataspaceProfileDeployment
from cfm_core.tenancy.query_indexes.v1alpha1 import NewQueryIndex
from cfm_core.tenancy.roles.v1alpha1 import RoleDiff
from cfm_core.tenancy.tenants.v1alpha1 import NewTenant, TenantPropertiesDiff
from cfm_core.tenancy.users.v1alpha1 import UserDiff
from cfm_core.versions import Expected
from tests.contract.provisioning import world as provisioning
from tests.contract.tenancy import world as tenancy

ANN = Caller(actor="ann", issuer="urn:i", request_id="r1", address="192.0.2.7", reason="because")
ORDER = Order(actor="ann", reason="because", request_id="r1")
ERASURE = Erasure(actor="eve", reason="asked for", request_id="r9")


@dataclass(frozen=True)
class World:
    tenancy: tenancy.World
    provisioning: provisioning.World
    audit: Audit

    def told(self, predicate: str = "true", **page: Any) -> list[dict[str, Any]]:
        return list(json.loads(self.audit.select(predicate, Page(**page)).json))

    def words(self, kind: str) -> list[tuple[str, str, str, str]]:
        """Entity, action, before and after of everything about a kind."""
        return [(one["entityId"], one["action"], one["before"], one["after"]) for one in self.told(f"kind = '{kind}'")]


@pytest.fixture(params=["memory", "postgres"])
def world(request: pytest.FixtureRequest) -> World:
    if request.param == "memory":
        trail = MemoryAudit()
        return World(tenancy.in_memory(trail), provisioning.MemoryWorld(trail), Audit(trail))
    database: Database = request.getfixturevalue("database")
    of_tenancy = tenancy.in_postgres(database)
    return World(of_tenancy, provisioning.PostgresWorld(database), of_tenancy.audit)


@pytest.fixture
def ann() -> Iterator[None]:
    """Everything in the test is asked for by her."""
    with acting(ANN):
        yield


def test_an_entry_tells_who_when_what_why_and_from_where(world: World) -> None:
    began = datetime.now(UTC)
    with acting(ANN):
        tenant = world.tenancy.tenant(name="ACME")
    world.tenancy.tenants.change(tenant, TenantPropertiesDiff(properties={"name": "Ajax"}))
    bob = Caller(actor="bob", request_id="r2")
    with acting(bob):
        world.tenancy.tenants.change(tenant, TenantPropertiesDiff(properties={"size": 3}))
    created, changed = world.told()
    assert created["id"] < changed["id"]
    for one in (created, changed):
        assert abs(datetime.fromisoformat(one.pop("at")) - began) < timedelta(minutes=5)
        del one["id"]
    assert created == {
        "manager": "tenant-manager",
        "actor": "ann",
        "issuer": "urn:i",
        "address": "192.0.2.7",
        "action": "create",
        "kind": "tenants",
        "entityId": tenant,
        "reason": "because",
        "before": "absent",
        "after": "version 0",
        "documentAfter": {"id": tenant, "version": 0, "properties": {"name": "ACME"}},
        "requestId": "r1",
    }
    # What nobody has asked for over the API is not told.
    assert changed == {
        "manager": "tenant-manager",
        "actor": "bob",
        "action": "change",
        "kind": "tenants",
        "entityId": tenant,
        "before": "version 1",
        "after": "version 2",
        "documentBefore": {"id": tenant, "version": 1, "properties": {"name": "Ajax"}},
        "documentAfter": {"id": tenant, "version": 2, "properties": {"name": "Ajax", "size": 3}},
        "requestId": "r2",
    }


@pytest.mark.usefixtures("ann")
def test_what_changes_nothing_is_not_told(world: World) -> None:
    tenant = world.tenancy.tenant()
    world.tenancy.tenants.change(tenant, TenantPropertiesDiff())
    with pytest.raises(PreconditionFailedError):
        world.tenancy.tenants.delete(tenant, Expected(frozenset({7})))
    world.tenancy.tenants.get(tenant)
    assert [one["action"] for one in world.told()] == ["create"]


@pytest.mark.usefixtures("ann")
def test_all_that_the_tenant_manager_keeps_is_told_of(world: World) -> None:
    of = world.tenancy
    cell = of.cell()
    of.cells.change(cell, CellDiff.model_validate({"state": "offline"}))
    of.cells.change(cell, CellDiff.model_validate({"state": "active"}))
    dataspace = of.dataspace()
    of.dataspace_profiles.deploy(dataspace, NewDataspaceProfileDeployment(cell_id=cell))
    of.dataspace_profiles.delete(dataspace)
    of.cells.delete(cell)
    role = of.role("reader")
    of.roles.change(role, RoleDiff.model_validate({"description": "reads"}))
    user = of.user("bob")
    of.users.change(user, UserDiff.model_validate({"name": "Bob"}))
    of.users.assign(user, role)
    of.users.delete(user)
    of.roles.delete(role)
    index, _ = of.query_indexes.declare(
        NewQueryIndex.model_validate({"entity": "tenants", "path": "properties.size", "kind": "number"})
    )
    assert world.words("cells") == [
        (cell, "create", "absent", "version 0"),
        (cell, "change", "version 0", "version 1"),
        (cell, "change", "version 1", "version 2"),
        (cell, "delete", "version 2", "deleted"),
    ]
    assert world.words("dataspace-profiles") == [
        (dataspace, "create", "absent", "version 0"),
        (dataspace, "deploy", "absent", "active"),
        (dataspace, "change", "version 0", "version 1"),
        (dataspace, "delete", "version 1", "deleted"),
        (dataspace, "undeploy", "active", "deleted"),
    ]
    (deployed,) = world.told("action = 'deploy'")
    assert (deployed["part"], deployed["documentAfter"]["cellId"]) == (deployed["documentAfter"]["id"], cell)
    assert world.words("roles") == [
        (role, "create", "absent", "version 0"),
        (role, "change", "version 0", "version 1"),
        (role, "delete", "version 1", "deleted"),
    ]
    assert world.words("users") == [
        (user, "create", "absent", "version 0"),
        (user, "change", "version 0", "version 1"),
        (user, "change", "version 1", "version 2"),
        (user, "delete", "version 2", "deleted"),
    ]
    (assigned,) = world.told("kind = 'users' and after = 'version 2'")
    assert (assigned["documentBefore"]["roleIds"], assigned["documentAfter"]["roleIds"]) == ([], [role])
    assert [one[:2] for one in world.words("query-indexes")][:1] == [(index, "create")]


def test_of_a_participant_profile_only_what_somebody_asks_for_is_told(world: World) -> None:
    of = world.tenancy
    with acting(ANN):
        tenant = of.tenant()
        of.dataspace(of.cell())
        profile = of.deploy(tenant, properties={"a": 1})
    of.respond(tenancy.deployed(profile["id"], profile["orchestrationId"], context="pc-1"))
    with acting(ANN):
        manifest, _ = of.participant_profiles.dispose(tenant, profile["id"])
    of.respond(tenancy.disposed(profile["id"], manifest))
    with acting(ANN):
        of.participant_profiles.purge(tenant, profile["id"])
    told = world.told("kind = 'participant-profiles'")
    assert [one["action"] for one in told] == ["create", "change", "delete"]
    assert {vpa["state"] for vpa in told[0]["documentAfter"]["vpas"]} == {"pending"}
    assert {vpa["state"] for vpa in told[1]["documentBefore"]["vpas"]} == {"active"}
    assert {vpa["state"] for vpa in told[1]["documentAfter"]["vpas"]} == {"disposing"}


@pytest.mark.usefixtures("ann")
def test_all_that_the_provision_manager_keeps_is_told_of(world: World) -> None:
    of = world.provisioning
    of.definitions.put_activity_definition(ActivityDefinition(type="t", description="old"))
    of.definitions.put_activity_definition(ActivityDefinition(type="t", description="new"))
    of.definitions.put_activity_definition(ActivityDefinition(type="u"))
    of.definitions.delete_activity_definition("u")
    template = OrchestrationTemplate(id="p", activities={"one": [Activity("a", "t")]})
    of.definitions.put_template(template)
    of.definitions.put_template(template)
    of.definitions.set_active("p", False)
    of.definitions.set_active("p", True)
    of.orchestrations.start(provisioning.manifest("o", "one"))
    of.orchestrations.start(provisioning.manifest("o", "one"))
    of.orchestrations.start(provisioning.manifest("l", "one"), datetime.now(UTC) + timedelta(hours=1))
    of.operations.cancel("o", ORDER)
    new = NewSchedule.model_validate({"id": "s", "cron": "0 3 * * *", "orchestrationType": "one"})
    of.schedules.create(new, ORDER)
    of.schedules.change("s", ScheduleDiff.model_validate({"paused": True}), ORDER)
    of.activity_types.pause("t", ORDER)
    assert world.words("activity-definitions") == [
        ("t", "create", "absent", "version 0"),
        ("t", "change", "version 0", "version 1"),
        ("u", "create", "absent", "version 0"),
        ("u", "delete", "version 0", "deleted"),
    ]
    changed = world.told("kind = 'activity-definitions'")[1]
    assert [changed[name]["description"] for name in ("documentBefore", "documentAfter")] == ["old", "new"]
    assert world.words("orchestration-definitions") == [
        ("one", "create", "absent", "active"),
        ("one", "retire", "active", "retired"),
        ("one", "create", "absent", "active"),
        ("one", "pause", "active", "inactive"),
        ("one", "resume", "inactive", "active"),
    ]
    parts = [one["part"] for one in world.told("kind = 'orchestration-definitions'")]
    assert parts == ["p/1", "p/1", "p/2", "p/2", "p/2"]
    assert world.words("orchestrations") == [
        ("o", "start", "absent", "running"),
        ("l", "start", "absent", "scheduled"),
        ("o", "cancel", "running", "cancelling"),
    ]
    assert world.words("schedules") == [
        ("s", "create", "absent", "active"),
        ("s", "pause", "active", "paused"),
    ]
    paused = world.told("scheduleId = 's'")[1]
    assert [paused[name]["paused"] for name in ("documentBefore", "documentAfter")] == [False, True]
    assert world.words("activity-types") == [("t", "pause", "running", "paused")]
    assert {one["address"] for one in world.told()} == {"192.0.2.7"}


def test_what_the_engine_does_by_itself_is_not_told(world: World) -> None:
    provisioning.define(world.provisioning, one=[Activity("a", "t")])
    driver = provisioning.Driver(world.provisioning)
    driver.start(provisioning.manifest("o", "one"))
    driver.complete("o", "a")
    assert world.provisioning.state("o") == "COMPLETED"
    assert world.told() == []


@pytest.mark.usefixtures("ann")
def test_no_secret_gets_into_the_trail(world: World) -> None:
    canary, reference = "canary-4711", "vault:secret/a#b"
    secrets: dict[str, Any] = {
        "clientSecret": canary,
        "password": [canary],
        "api-key": {"deep": canary},
        "a": [{"db.token": canary, "token": reference, "tokenizer": "kept", "secret": None, "pwd": ""}],
    }
    tenant = world.tenancy.tenant(**secrets)
    world.tenancy.tenants.change(tenant, TenantPropertiesDiff(properties={"note": "the token=canary-4712 has leaked"}))
    world.provisioning.definitions.put_activity_definition(ActivityDefinition(type="t"))
    world.provisioning.activity_types.pause("t", Order(actor="ann", reason="password: canary-4713", request_id="r"))
    told = world.told()
    assert "canary" not in json.dumps(told)
    assert told[0]["documentAfter"]["properties"] == {
        "clientSecret": "***",
        "password": "***",
        "api-key": "***",
        "a": [{"db.token": "***", "token": reference, "tokenizer": "kept", "secret": None, "pwd": ""}],
    }
    assert told[-1]["reason"] == "password: ***"


@pytest.mark.usefixtures("ann")
def test_entries_are_asked_for_like_anything_else(world: World) -> None:
    one, two = world.tenancy.tenant(size=1), world.tenancy.tenant(size=2)
    cell = world.tenancy.cell()
    with acting(Caller(actor="bob", request_id="r2")):
        world.tenancy.tenants.delete(one)

    def found(predicate: str) -> list[tuple[str, str]]:
        return [(entry["entityId"], entry["action"]) for entry in world.told(predicate)]

    assert found("actor = 'bob'") == [(one, "delete")]
    assert found(f"kind = 'tenants' and entityId = '{two}'") == [(two, "create")]
    assert found("documentAfter.properties.size > 1") == [(two, "create")]
    assert found("documentBefore.properties.size = 1") == [(one, "delete")]
    assert found("kind = 'cells' or reason = ''") == [(cell, "create"), (one, "delete")]
    assert found("address like '192.%' and requestId = 'r1' and issuer = 'urn:i' and action = 'create'") == [
        (one, "create"),
        (two, "create"),
        (cell, "create"),
    ]
    assert found("orchestrationId = 'o' or at > '2100-01-01T00:00:00Z'") == []
    first = world.audit.select("true", Page(limit=3))
    assert (first.size, first.total, first.more) == (3, 4, True)
    assert [one["action"] for one in world.told(after=first.last)] == ["delete"]
    for bad in ("x", "-1", "9" * 19):
        with pytest.raises(ValidationError, match="after"):
            world.told(after=bad)
    with pytest.raises(ValidationError):
        world.told("nobody = 'knows'")


@pytest.mark.usefixtures("ann")
def test_whoever_may_read_one_manager_is_told_nothing_of_the_other(world: World) -> None:
    world.tenancy.tenant()
    world.provisioning.definitions.put_activity_definition(ActivityDefinition(type="t"))
    for manager in Manager:
        page = world.audit.select("true", Page(), {manager})
        assert (page.total, [one["manager"] for one in json.loads(page.json)]) == (1, [manager])
    assert world.audit.select("true", Page(), set()).total == 0


def told_within(world: World, *rights: Right) -> list[str]:
    page = world.audit.within(Access(rights)).select("true", Page())
    found = [f"{one['kind']} {one['action']}" for one in json.loads(page.json)]
    assert page.total == len(found)
    return found


@pytest.mark.usefixtures("ann")
def test_whoever_has_a_right_with_bounds_is_told_what_belongs_to_them(world: World) -> None:
    of, definitions = world.tenancy, world.provisioning.definitions
    of.dataspace(of.cell())
    tenant, other = of.tenant(), of.tenant()
    profile = of.deploy(tenant)["id"]
    of.deploy(other, "did:web:other")
    definitions.put_activity_definition(ActivityDefinition(type="t"))
    provisioning.define(world.provisioning, one=[Activity("a", "t")])
    for id_, owner, correlation in (("o", tenant, profile), ("p", tenant, "else"), ("q", other, "x")):
        manifest = OrchestrationManifest(
            id=id_, correlation_id=correlation, orchestration_type="one", payload={"cfm.tenant.id": owner}
        )
        world.provisioning.orchestrations.start(manifest)
        later = manifest.model_copy(update={"id": f"{id_}-later"})
        world.provisioning.orchestrations.start(later, datetime.now(UTC) + timedelta(hours=1))
    world.provisioning.operations.pause("o", ORDER)
    world.provisioning.operations.resume("o", ORDER)
    assert world.audit.erase_content(Subject(Kind.PARTICIPANT_PROFILES, profile), ERASURE) == 1
    assert world.audit.erase_actor("nobody", ERASURE) == 0
    of.tenants.change(other, TenantPropertiesDiff(properties={"size": 3}))

    def reads(**bounds: str) -> Right:
        return Right(Action.READ, Resource.AUDIT, **bounds)

    of_profile = ["participant-profiles create", *["orchestrations start"] * 2, "orchestrations pause"]
    of_profile += ["orchestrations resume", "participant-profiles erase"]
    of_tenant = ["tenants create", *of_profile[:1], *["orchestrations start"] * 4, *of_profile[3:]]
    of_other = ["tenants create", "participant-profiles create", *["orchestrations start"] * 2, "tenants change"]
    assert told_within(world, reads(tenant_id=tenant)) == of_tenant
    assert told_within(world, reads(participant_profile_id=profile)) == of_profile
    assert told_within(world, reads(tenant_id=tenant, participant_profile_id=profile)) == of_profile
    assert told_within(world, reads(tenant_id=other, participant_profile_id=profile)) == []
    assert told_within(world, reads(tenant_id=other)) == of_other
    both = told_within(world, reads(tenant_id=other), reads(participant_profile_id=profile))
    assert sorted(both) == sorted([*of_other, *of_profile])
    assert told_within(world, reads()) == [f"{one['kind']} {one['action']}" for one in world.told()]
    assert told_within(world, Right(Action.ANY, Resource.ANY, tenant_id=tenant)) == of_tenant


@pytest.mark.usefixtures("ann")
def test_pages_within_bounds_know_nothing_of_the_rest(world: World) -> None:
    tenant, other = world.tenancy.tenant(), world.tenancy.tenant()
    for number in range(3):
        for one in (other, tenant):
            world.tenancy.tenants.change(one, TenantPropertiesDiff(properties={"n": number}))
    mine = world.audit.within(Access([Right(Action.READ, Resource.AUDIT, tenant_id=tenant)]))
    seen, after = [], ""
    while True:
        page = mine.select("true", Page(limit=1, after=after))
        seen += [(one["entityId"], one["action"]) for one in json.loads(page.json)]
        assert page.total == 4
        if not page.more:
            break
        after = page.last
    assert seen == [(tenant, "create"), *[(tenant, "change")] * 3]
    assert mine.select(f"entityId = '{other}' or id > 0", Page()).total == 4


@pytest.mark.usefixtures("ann")
def test_only_who_may_delete_all_of_the_trail_erases_something_of_it(world: World) -> None:
    tenant = world.tenancy.tenant()
    subject = Subject(Kind.TENANTS, tenant)
    for rights in (
        [Right(Action.READ, Resource.AUDIT)],
        [Right(Action.ANY, Resource.AUDIT, tenant_id=tenant), Right(Action.DELETE, Resource.TENANT)],
    ):
        audit = world.audit.within(Access(rights))
        with pytest.raises(ForbiddenError, match="delete audit"):
            audit.erase_content(subject, ERASURE)
        with pytest.raises(ForbiddenError, match="delete audit"):
            audit.erase_actor("ann", ERASURE)
    eraser = world.audit.within(Access([Right(Action.DELETE, Resource.AUDIT)]))
    with pytest.raises(ForbiddenError, match="read audit"):
        eraser.select("true", Page())
    assert [one["action"] for one in world.told()] == ["create"]
    assert eraser.erase_content(subject, ERASURE) == 1


@pytest.mark.usefixtures("ann")
def test_what_an_entity_held_can_be_forgotten(world: World) -> None:
    tenant = world.tenancy.tenant(name="Jane Doe")
    other = world.tenancy.tenant(name="other")
    subject = Subject(Kind.TENANTS, tenant)
    world.tenancy.tenants.delete(tenant)
    assert world.audit.erase_content(subject, ERASURE) == 2
    assert world.audit.erase_content(subject, ERASURE) == 0
    created, kept, deleted, erased = world.told()
    for one in (created, deleted):
        assert (one["contentErasedBy"], one["actor"]) == (erased["id"], "ann")
        assert not {"reason", "documentBefore", "documentAfter"} & set(one)
    assert kept["documentAfter"]["id"] == other
    del erased["id"], erased["at"]
    assert erased == {
        "manager": "tenant-manager",
        "actor": "eve",
        "issuer": "urn:i",
        "address": "192.0.2.7",
        "action": "erase",
        "kind": "tenants",
        "entityId": tenant,
        "reason": "asked for",
        "before": "kept",
        "after": "erased 2",
        "requestId": "r9",
    }


def test_who_somebody_is_can_be_forgotten(world: World) -> None:
    for actor in ("ann", "bob", "ann"):
        with acting(Caller(actor=actor, request_id="r", address="192.0.2.7")):
            world.tenancy.tenants.create(NewTenant(properties={"kept": True}))
    assert world.audit.erase_actor("ann", ERASURE) == 2
    assert world.audit.erase_actor("ann", ERASURE) == 0
    assert [one.get("actor") for one in world.told()] == [None, "bob", None, "eve"]
    first, second, _, erased = world.told()
    assert (first["actorErasedBy"], first["documentAfter"]["properties"]) == (erased["id"], {"kept": True})
    assert not {"address", "actor", "issuer"} & set(first)
    assert "actorErasedBy" not in second
    assert (erased["kind"], erased["after"]) == ("actors", "erased 2")
    assert world.told("actor = 'ann'") == []


def test_of_two_whom_different_issuers_call_alike_one_can_be_forgotten(world: World) -> None:
    for issuer in ("urn:i", "urn:j", ""):
        with acting(Caller(actor="ann", issuer=issuer, request_id="r")):
            world.tenancy.tenant()
    assert world.audit.erase_actor("ann", ERASURE, "urn:k") == 0
    assert world.audit.erase_actor("ann", ERASURE, "urn:j") == 1
    assert [one.get("issuer") for one in world.told("actor = 'ann'")] == ["urn:i", None]
    assert world.audit.erase_actor("ann", ERASURE) == 2


@pytest.mark.parametrize("bad", ["", "tenants", "tenants/", "/x", "nobody/x", "actors/x"])
def test_what_is_no_subject_is_refused(bad: str) -> None:
    with pytest.raises(ValidationError, match="Invalid subject"):
        subject_of(bad)


def test_a_subject_may_have_any_id() -> None:
    assert subject_of("orchestrations/a/b") == Subject(Kind.ORCHESTRATIONS, "a/b")
