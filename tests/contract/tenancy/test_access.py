"""What somebody sees and changes whose rights have bounds; whatever is not theirs is as if it were not there."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from cfm_core.access.model import Action, Resource, Right
from cfm_core.access.service import Who
from cfm_core.access.store import PostgresRights
from cfm_core.errors import (
    CfmError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    PreconditionFailedError,
    RefusedError,
)
from cfm_core.query import Page
from cfm_core.store.database import Database
from cfm_core.tenancy.cells.v1alpha1 import CellDiff, NewCell
from cfm_core.tenancy.dataspace_profiles.v1alpha1 import NewDataspaceProfile, NewDataspaceProfileDeployment
from cfm_core.tenancy.roles.v1alpha1 import NewRole, RoleDiff
from cfm_core.tenancy.tenants.v1alpha1 import NewTenant, TenantPropertiesDiff
from cfm_core.tenancy.users.v1alpha1 import NewUser, UserDiff
from cfm_core.versions import Expected
from tests.contract.tenancy.world import ABSENT, ALL, World, deploy_failed, deployed, in_postgres

STALE = Expected(frozenset({99}))


def ids(page: Any) -> list[str]:
    return [entry["id"] for entry in json.loads(page.json)]


def administrator_of(tenant: str) -> Right:
    return Right(Action.ANY, Resource.ANY, tenant_id=tenant)


# ---- tenants


def test_a_tenants_administrator_sees_and_changes_that_tenant_alone(world: World) -> None:
    mine, other = world.tenant(n=1), world.tenant(n=1)
    me = world.seen_by(administrator_of(mine))
    assert json.loads(me.tenants.get(mine).text)["id"] == mine
    assert ids(me.tenants.select("true", ALL)) == [mine]
    assert ids(me.tenants.select(f"id = '{other}' OR properties.n = 1", ALL)) == [mine]
    assert me.tenants.select("true", ALL).total == 1
    me.tenants.change(mine, TenantPropertiesDiff(properties={"n": 2}))
    with pytest.raises(NotFoundError):
        me.tenants.get(other)
    for diff in (TenantPropertiesDiff(properties={"n": 2}), TenantPropertiesDiff()):
        with pytest.raises(NotFoundError):
            me.tenants.change(other, diff)
        with pytest.raises(NotFoundError):
            me.tenants.change(other, diff, STALE)
    with pytest.raises(NotFoundError):
        me.tenants.delete(other)
    with pytest.raises(ForbiddenError):
        me.tenants.create(NewTenant())
    assert json.loads(world.tenants.get(other).text)["properties"] == {"n": 1}
    me.tenants.delete(mine)
    assert ids(world.tenants.select("true", ALL)) == [other]


def test_pages_and_cursors_know_nothing_of_what_is_not_theirs(world: World) -> None:
    tenants = sorted(world.tenant() for _ in range(9))
    mine = tenants[1::3]
    me = world.seen_by(*(Right(Action.READ, Resource.TENANT, tenant_id=one) for one in mine))
    first = me.tenants.select("true", Page(limit=2))
    assert (ids(first), first.total, first.more, first.last) == (mine[:2], 3, True, mine[1])
    second = me.tenants.select("true", Page(limit=2, after=first.last))
    assert (ids(second), second.total, second.more) == (mine[2:], 3, False)
    assert ids(me.tenants.select("true", Page(limit=2, offset=2))) == mine[2:]
    behind_another = me.tenants.select("NOT properties.n = 1", Page(limit=1, after=tenants[3]))
    assert (ids(behind_another), behind_another.total) == (mine[1:2], 3)


def test_what_may_be_seen_and_not_changed_is_refused(world: World) -> None:
    mine, other = world.tenant(), world.tenant()
    me = world.seen_by(Right(Action.READ, Resource.TENANT), Right(Action.UPDATE, Resource.TENANT, tenant_id=mine))
    me.tenants.change(mine, TenantPropertiesDiff(properties={"n": 1}))
    with pytest.raises(ForbiddenError):
        me.tenants.change(other, TenantPropertiesDiff(properties={"n": 1}))
    with pytest.raises(NotFoundError):
        me.tenants.change(ABSENT, TenantPropertiesDiff(properties={"n": 1}))
    with pytest.raises(ForbiddenError):
        me.tenants.delete(mine)


def test_who_has_no_right_is_refused_whatever_there_is(world: World) -> None:
    tenant, profile, _ = world.participant()
    nobody = world.seen_by()
    for call in reading(nobody, tenant, profile):
        with pytest.raises(ForbiddenError):
            call()


def reading(world: World, tenant: str, profile: str) -> list[Callable[[], object]]:
    return [
        lambda: world.tenants.get(tenant),
        lambda: world.tenants.select("true", ALL),
        lambda: world.cells.get(ABSENT),
        lambda: world.cells.select("true", ALL),
        lambda: world.dataspace_profiles.get(ABSENT),
        lambda: world.dataspace_profiles.select("true", ALL),
        lambda: world.dataspace_profiles.deployments(ABSENT, "true", ALL),
        lambda: world.participant_profiles.get(tenant, profile),
        lambda: world.participant_profiles.select("true", ALL),
        lambda: world.participant_profiles.select_of(tenant, "true", ALL),
        lambda: world.roles.get(ABSENT),
        lambda: world.roles.select("true", ALL),
        lambda: world.users.get(ABSENT),
        lambda: world.users.select("true", ALL),
        lambda: world.feed.read(),
    ]


# ---- participant profiles


@pytest.fixture
def two(world: World) -> list[tuple[str, str]]:
    """A participant profile each of two tenants, both failed: tenant and profile."""
    world.dataspace(world.cell())
    found = []
    for number in range(2):
        tenant = world.tenant()
        profile = world.deploy(tenant, f"did:web:{number}")
        world.respond(deploy_failed(profile["id"], profile["orchestrationId"]))
        found.append((tenant, profile["id"]))
    return found


@pytest.mark.parametrize("bound", ["tenant", "profile", "both"])
def test_a_profile_belongs_to_its_tenant_and_to_itself(world: World, two: list[tuple[str, str]], bound: str) -> None:
    (tenant, profile), (other_tenant, other) = two
    bounds = {
        "tenant": {"tenant_id": tenant},
        "profile": {"participant_profile_id": profile},
        "both": {"tenant_id": tenant, "participant_profile_id": profile},
    }[bound]
    me = world.seen_by(Right(Action.ANY, Resource.PARTICIPANT_PROFILE, **bounds))
    assert me.profile(tenant, profile)["id"] == profile
    assert ids(me.participant_profiles.select("true", ALL)) == [profile]
    assert me.participant_profiles.select("error = true", ALL).total == 1
    assert ids(me.participant_profiles.select_of(tenant, "true", ALL)) == [profile]
    assert ids(me.participant_profiles.select_of(other_tenant, "true", ALL)) == []
    before = world.profile(other_tenant, other)
    for call in acting(me, other_tenant, other):
        with pytest.raises(NotFoundError):
            call()
    assert world.profile(other_tenant, other) == before
    assert me.change(tenant, profile, properties={"n": 1})["properties"]["n"] == 1
    me.deploy_again(tenant, profile)
    assert world.state(tenant, profile) == "pending"


def acting(world: World, tenant: str, profile: str) -> list[Callable[[], object]]:
    profiles = world.participant_profiles
    return [
        lambda: world.profile(tenant, profile),
        lambda: world.change(tenant, profile, properties={"n": 1}),
        lambda: world.change(tenant, profile),
        lambda: world.deploy_again(tenant, profile),
        lambda: profiles.dispose(tenant, profile),
        lambda: profiles.dispose(tenant, profile, STALE),
        lambda: profiles.purge(tenant, profile),
        lambda: profiles.purge(tenant, profile, STALE),
    ]


def test_a_profile_is_created_for_a_tenant_within_the_bounds(world: World) -> None:
    world.dataspace(world.cell())
    mine, other = world.tenant(), world.tenant()
    me = world.seen_by(administrator_of(mine))
    me.deploy(mine, "did:web:mine")
    for tenant in (other, ABSENT):
        with pytest.raises(NotFoundError, match="no tenant"):
            me.deploy(tenant, "did:web:other")
    seeing = world.seen_by(administrator_of(mine), Right(Action.READ, Resource.TENANT))
    for tenant in (other, ABSENT):
        with pytest.raises(ForbiddenError):
            seeing.deploy(tenant, "did:web:other")
    assert world.participant_profiles.select("true", ALL).total == 1


def test_each_action_takes_its_own_right(world: World, two: list[tuple[str, str]]) -> None:
    (tenant, profile), _ = two
    calls = dict(
        zip(
            (Action.READ, Action.UPDATE, Action.DEPLOY, Action.DISPOSE, Action.DELETE),
            (
                lambda me: me.profile(tenant, profile),
                lambda me: me.change(tenant, profile, properties={"n": 1}),
                lambda me: me.deploy_again(tenant, profile),
                lambda me: me.participant_profiles.dispose(tenant, profile),
                lambda me: me.participant_profiles.purge(tenant, profile),
            ),
            strict=True,
        )
    )
    for action, call in calls.items():
        others = [one for one in Action if one not in {action, Action.ANY}]
        with pytest.raises(ForbiddenError, match=f"no right to {action} participantProfile"):
            call(world.seen_by(*(Right(one, Resource.PARTICIPANT_PROFILE) for one in others)))
        with contextlib.suppress(ConflictError):
            call(world.seen_by(Right(action, Resource.PARTICIPANT_PROFILE, tenant_id=tenant)))


def test_a_profile_belongs_to_cells_with_all_of_its_vpas(world: World) -> None:
    first, second = world.cell(), world.cell()
    world.dataspace(first, second)
    tenant = world.tenant()
    on_first = world.deploy(tenant, "did:web:1", cellId=first)["id"]
    vpas = [{"type": "cfm.connector", "cellId": second}]
    on_both = world.deploy(tenant, "did:web:2", cellId=first, vpas=vpas)["id"]

    def seen(*cells: str) -> list[str]:
        me = world.seen_by(*(Right(Action.READ, Resource.PARTICIPANT_PROFILE, cell_id=cell) for cell in cells))
        assert me.participant_profiles.select("true", ALL).total == len(
            ids(me.participant_profiles.select("true", ALL))
        )
        return ids(me.participant_profiles.select("true", ALL))

    assert seen(first) == [on_first]
    assert seen(second) == []
    assert seen(first, second) == sorted([on_first, on_both])
    assert seen(ABSENT) == []


def test_rights_on_vpas_are_rights_on_a_profile_where_they_cover_all_of_them(world: World) -> None:
    world.dataspace(world.cell())
    tenant = world.tenant()
    profile = world.deploy(tenant)
    vpas = [vpa["id"] for vpa in profile["vpas"]]
    rights = [Right(Action.ANY, Resource.VPA, vpa_id=vpa) for vpa in vpas]
    world.respond(deploy_failed(profile["id"], profile["orchestrationId"]))
    some, all_of_them = world.seen_by(*rights[1:]), world.seen_by(*rights)
    calls: list[Callable[[World], object]] = [
        lambda me: me.profile(tenant, profile["id"]),
        lambda me: me.deploy_again(tenant, profile["id"]),
        lambda me: me.participant_profiles.dispose(tenant, profile["id"]),
    ]
    for call in calls:
        with pytest.raises(NotFoundError):
            call(some)
    assert all_of_them.profile(tenant, profile["id"])["id"] == profile["id"]
    with pytest.raises(ForbiddenError):
        all_of_them.change(tenant, profile["id"], properties={"n": 1})
    all_of_them.deploy_again(tenant, profile["id"])
    whole = world.seen_by(Right(Action.READ, Resource.VPA, tenant_id=tenant))
    assert ids(whole.participant_profiles.select("true", ALL)) == [profile["id"]]


def test_new_vpas_come_to_cells_within_the_bounds_only(world: World) -> None:
    mine, other = world.cell(), world.cell()
    world.dataspace(mine, other)
    tenant = world.tenant()
    rights = [
        Right(action, Resource.PARTICIPANT_PROFILE, tenant_id=tenant, cell_id=mine)
        for action in (Action.CREATE, Action.UPDATE, Action.DEPLOY)
    ]
    me = world.seen_by(*rights)
    for cell in (other, ABSENT):
        with pytest.raises(RefusedError, match="it cannot be deployed"):
            me.deploy(tenant, cellId=cell)
    created = [me.deploy(tenant, f"did:web:{number}") for number in range(3)]
    assert {vpa["cellId"] for one in created for vpa in one["vpas"]} == {mine}
    profile = created[0]
    world.respond(deployed(profile["id"], profile["orchestrationId"]))
    with pytest.raises(RefusedError, match="it cannot be deployed"):
        me.change(tenant, profile["id"], vpas=[{"type": "acme.edge", "cellId": other}])
    added = me.change(tenant, profile["id"], vpas=[{"type": "acme.edge"}])
    assert {vpa["cellId"] for vpa in added["vpas"]} == {mine}


def test_who_may_not_read_cells_and_dataspaces_is_not_told_which_there_are(world: World) -> None:
    cell, offline, unserved = world.cell(), world.cell(), world.cell()
    dataspace, elsewhere = world.dataspace(cell, offline), world.dataspace(unserved)
    world.cells.change(offline, CellDiff.model_validate({"state": "offline"}))
    tenant = world.tenant()
    wanted: list[dict[str, Any]] = [
        {"cellId": ABSENT},
        {"cellId": offline},
        {"cellId": unserved, "dataspaceProfileIds": [dataspace]},
        {"dataspaceProfileIds": [ABSENT]},
        {"dataspaceProfileIds": [elsewhere], "cellId": cell},
        {"vpas": [{"type": "x", "cellId": ABSENT}]},
    ]

    def told(who: World) -> list[tuple[str, int]]:
        found = []
        for fields in wanted:
            with pytest.raises(RefusedError) as caught:
                who.deploy(tenant, **fields)
            found.append((str(caught.value), len(caught.value.errors)))
        return found

    create = Right(Action.CREATE, Resource.PARTICIPANT_PROFILE, tenant_id=tenant)
    reads = [Right(Action.READ, kind) for kind in (Resource.CELL, Resource.DATASPACE_PROFILE)]
    assert set(told(world.seen_by(create))) == {("it cannot be deployed to these dataspace profiles and cells", 0)}
    assert len(set(told(world.seen_by(create, reads[0])))) == 1
    assert len(set(told(world.seen_by(create, *reads)))) == len(wanted) - 1
    assert world.seen_by(create).deploy(tenant, cellId=cell)["vpas"]


def test_a_vpa_that_is_not_covered_cannot_be_added(world: World) -> None:
    world.dataspace(world.cell())
    tenant = world.tenant()
    profile = world.deploy(tenant)
    world.respond(deploy_failed(profile["id"], profile["orchestrationId"]))
    me = world.seen_by(*(Right(Action.DEPLOY, Resource.VPA, vpa_id=vpa["id"]) for vpa in profile["vpas"]))
    with pytest.raises(ForbiddenError):
        me.deploy_again(tenant, profile["id"], vpas=[{"type": "acme.edge"}])
    assert world.state(tenant, profile["id"]) == "error"
    me.deploy_again(tenant, profile["id"])


# ---- cells and dataspace profiles


def test_a_cells_administrator_sees_and_changes_that_cell_alone(world: World) -> None:
    mine, other = world.cell(), world.cell()
    me = world.seen_by(Right(Action.ANY, Resource.CELL, cell_id=mine))
    assert ids(me.cells.select("true", ALL)) == [mine]
    me.cells.change(mine, CellDiff.model_validate({"state": "offline"}))
    me.cells.put(mine, NewCell.model_validate({"state": "active"}))
    for call in (
        lambda: me.cells.get(other),
        lambda: me.cells.change(other, CellDiff.model_validate({"state": "offline"})),
        lambda: me.cells.put(other, NewCell.model_validate({"state": "offline"})),
        lambda: me.cells.delete(other),
        lambda: me.cells.delete(other, STALE),
    ):
        with pytest.raises(NotFoundError):
            call()
    with pytest.raises(ForbiddenError):
        me.cells.create(NewCell.model_validate({"state": "active"}))
    assert json.loads(world.cells.get(other).text)["state"] == "active"


def test_a_cell_that_may_be_created_is_not_replaced_without_the_right_to(world: World) -> None:
    taken = world.cell()
    me = world.seen_by(Right(Action.CREATE, Resource.CELL), Right(Action.UPDATE, Resource.CELL, cell_id=ABSENT))
    with pytest.raises(ForbiddenError):
        me.cells.put(taken, NewCell.model_validate({"state": "offline"}))
    assert me.cells.put(ABSENT, NewCell.model_validate({"state": "active"}))[0]
    assert not me.cells.put(ABSENT, NewCell.model_validate({"state": "offline"}))[0]


def test_who_uses_a_cell_is_not_told_to_who_may_not_see_them(world: World) -> None:
    cell = world.cell()
    dataspace = world.dataspace(cell)
    tenant = world.tenant()
    profile = world.deploy(tenant)["id"]
    me = world.seen_by(Right(Action.ANY, Resource.ANY, cell_id=cell))
    calls: list[Callable[[], object]] = [
        lambda: me.cells.delete(cell),
        lambda: me.dataspace_profiles.delete(dataspace),
    ]
    for call in calls:
        with pytest.raises(ConflictError) as refused:
            call()
        assert profile not in str(refused.value)
        assert refused.value.context == {}
    with pytest.raises(ConflictError, match=profile):
        world.cells.delete(cell)


def test_a_dataspace_profile_belongs_to_cells_with_all_of_its_deployments(world: World) -> None:
    first, second = world.cell(), world.cell()
    on_first, on_both, nowhere = world.dataspace(first), world.dataspace(first, second), world.dataspace()
    me = world.seen_by(Right(Action.ANY, Resource.DATASPACE_PROFILE, cell_id=first))
    assert ids(me.dataspace_profiles.select("true", ALL)) == [on_first]
    assert len(json.loads(me.dataspace_profiles.deployments(on_first, "true", ALL).json)) == 1
    new = NewDataspaceProfile.model_validate({"dataspaceSpec": {"protocolStack": ["dsp"], "credentialSpecs": []}})
    me.dataspace_profiles.put(on_first, new)
    for profile in (on_both, nowhere, ABSENT):
        for call in (
            lambda profile=profile: me.dataspace_profiles.get(profile),
            lambda profile=profile: me.dataspace_profiles.deployments(profile, "true", ALL),
            lambda profile=profile: me.dataspace_profiles.put(profile, new),
            lambda profile=profile: me.dataspace_profiles.delete(profile),
            lambda profile=profile: me.dataspace_profiles.deploy(profile, NewDataspaceProfileDeployment()),
        ):
            with pytest.raises(NotFoundError):
                call()
    with pytest.raises(ForbiddenError):
        me.dataspace_profiles.create(new)
    me.dataspace_profiles.delete(on_first)
    assert ids(world.dataspace_profiles.select("true", ALL)) == sorted([on_both, nowhere])


def test_to_their_own_cell_they_deploy_what_they_see(world: World) -> None:
    mine, other = world.cell(), world.cell()
    dataspace = world.dataspace(other)
    rights = [Right(action, Resource.DATASPACE_PROFILE, cell_id=mine) for action in (Action.DEPLOY, Action.DISPOSE)]
    me = world.seen_by(Right(Action.READ, Resource.DATASPACE_PROFILE), *rights)
    with pytest.raises(NotFoundError, match="no cell"):
        me.dataspace_profiles.deploy(dataspace, NewDataspaceProfileDeployment(cell_id=other))
    # Where none is named, all that are theirs.
    me.dataspace_profiles.deploy(dataspace, NewDataspaceProfileDeployment())
    deployments = {
        one["cellId"]: one["id"] for one in json.loads(world.dataspace_profiles.get(dataspace).text)["deployments"]
    }
    assert set(deployments) == {mine, other}
    with pytest.raises(NotFoundError):
        me.dataspace_profiles.undeploy(dataspace, deployments[other])
    with pytest.raises(PreconditionFailedError):
        me.dataspace_profiles.undeploy(dataspace, deployments[mine], STALE)
    me.dataspace_profiles.undeploy(dataspace, deployments[mine])
    blind = world.seen_by(*rights)
    calls: list[Callable[[], object]] = [
        lambda: blind.dataspace_profiles.deploy(dataspace, NewDataspaceProfileDeployment(cell_id=mine)),
        lambda: blind.dataspace_profiles.undeploy(dataspace, deployments[other], STALE),
    ]
    for call in calls:
        with pytest.raises(NotFoundError):
            call()


# ---- users and roles


def test_users_and_roles_are_for_those_who_may_administer_them(world: World) -> None:
    role = world.role("r")
    user = world.user("alice", roleIds=[role])
    everything_but_these = [
        Right(Action.ANY, kind) for kind in Resource if kind not in {Resource.USER, Resource.ROLE, Resource.ANY}
    ]
    me = world.seen_by(*everything_but_these)
    for call in (
        lambda: me.users.get(user),
        lambda: me.users.select("true", ALL),
        lambda: me.users.create(NewUser(subject="bob")),
        lambda: me.users.put(user, NewUser(subject="bob")),
        lambda: me.users.put(ABSENT, NewUser(subject="bob")),
        lambda: me.users.change(user, UserDiff(name="x")),
        lambda: me.users.assign(user, role),
        lambda: me.users.withdraw(user, role),
        lambda: me.users.delete(user),
        lambda: me.roles.get(role),
        lambda: me.roles.select("true", ALL),
        lambda: me.roles.create(NewRole(name="s")),
        lambda: me.roles.put(role, NewRole(name="s")),
        lambda: me.roles.put(ABSENT, NewRole(name="s")),
        lambda: me.roles.change(role, RoleDiff(name="s")),
        lambda: me.roles.delete(role),
    ):
        with pytest.raises(ForbiddenError):
            call()
    assert (world.users.select("true", ALL).total, world.roles.select("true", ALL).total) == (1, 1)


KEEPER = [Right(Action.ANY, Resource.USER), Right(Action.ANY, Resource.ROLE)]
"""Of somebody who administers users and roles, and nothing else."""
MORE = {"action": "read", "resource": "tenant"}
LESS = {"action": "read", "resource": "user"}


def test_nobody_gives_more_than_they_have(world: World) -> None:
    powerful = world.role("powerful", rights=[MORE])
    plain = world.role("plain", rights=[LESS])
    user = world.user("alice", roleIds=[powerful], rights=[LESS])
    me = world.seen_by(*KEEPER)
    for call in (
        lambda: me.user("bob", rights=[MORE]),
        lambda: me.user("bob", roleIds=[powerful]),
        lambda: me.users.put(ABSENT, NewUser.model_validate({"subject": "bob", "rights": [MORE]})),
        lambda: me.users.put(user, NewUser.model_validate({"subject": "alice", "rights": [MORE]})),
        lambda: me.users.change(user, UserDiff.model_validate({"rights": [LESS, MORE]})),
        # Whoever becomes a user with many rights has them.
        lambda: me.users.change(user, UserDiff(subject="mallory")),
        lambda: me.users.change(user, UserDiff(issuer="mallory's")),
        lambda: me.users.put(
            user, NewUser.model_validate({"subject": "mallory", "roleIds": [powerful], "rights": [LESS]})
        ),
        lambda: me.role("new", rights=[MORE]),
        lambda: me.roles.put(ABSENT, NewRole.model_validate({"name": "new", "rights": [MORE]})),
        lambda: me.roles.put(plain, NewRole.model_validate({"name": "plain", "rights": [MORE]})),
        lambda: me.roles.change(plain, RoleDiff.model_validate({"rights": [LESS, MORE]})),
        # Tokens may carry the new name.
        lambda: me.roles.change(powerful, RoleDiff(name="other")),
        lambda: me.roles.put(powerful, NewRole.model_validate({"name": "other", "rights": [MORE]})),
    ):
        before = (world.users.select("true", ALL).json, world.roles.select("true", ALL).json)
        with pytest.raises(ForbiddenError, match="nobody can give a right that they do not have"):
            call()
        assert (world.users.select("true", ALL).json, world.roles.select("true", ALL).json) == before


def test_a_role_with_more_rights_is_not_assigned(world: World) -> None:
    powerful = world.role("powerful", rights=[MORE])
    user = world.user("alice")
    me = world.seen_by(*KEEPER)
    with pytest.raises(ForbiddenError):
        me.users.assign(user, powerful)
    assert json.loads(world.users.get(user).text)["roleIds"] == []


def test_what_is_there_already_is_kept_and_less_is_given(world: World) -> None:
    powerful, plain = world.role("powerful", rights=[MORE]), world.role("plain", rights=[LESS])
    user = world.user("alice", roleIds=[powerful], rights=[MORE])
    me = world.seen_by(*KEEPER)
    me.users.change(user, UserDiff.model_validate({"name": "Alice", "rights": [MORE, LESS]}))
    me.users.assign(user, plain)
    me.users.put(user, NewUser.model_validate({"subject": "alice", "roleIds": [powerful, plain], "rights": [MORE]}))
    me.roles.change(powerful, RoleDiff.model_validate({"description": "x", "rights": [MORE, LESS]}))
    me.users.withdraw(user, powerful)
    me.users.change(user, UserDiff.model_validate({"rights": []}))
    me.users.change(user, UserDiff.model_validate({"subject": "bob"}))
    me.roles.delete(powerful)


def test_who_does_not_see_roles_gives_none_and_learns_nothing_of_them(world: World) -> None:
    plain = world.role("plain")
    user = world.user("alice")
    me = world.seen_by(Right(Action.ANY, Resource.USER))
    for role in (plain, ABSENT):
        for call in (
            lambda role=role: me.users.assign(user, role),
            lambda role=role: me.user("bob", roleIds=[role]),
            lambda role=role: me.users.change(user, UserDiff(role_ids=[role])),
            lambda role=role: me.users.put(ABSENT, NewUser.model_validate({"subject": "bob", "roleIds": [role]})),
        ):
            with pytest.raises(ForbiddenError, match="no right to read role"):
                call()


def test_who_has_a_role_is_not_told_to_who_may_not_see_users(world: World) -> None:
    role = world.role("r")
    user = world.user("alice", roleIds=[role])
    with pytest.raises(ConflictError) as refused:
        world.seen_by(Right(Action.ANY, Resource.ROLE)).roles.delete(role)
    assert user not in str(refused.value)
    assert refused.value.context == {}


# ---- what is stored of somebody


def found(world: World, subject: str, issuer: str = "i", roles: tuple[str, ...] = ()) -> tuple[Who, set[Right]]:
    one = world.rights.find(issuer, subject, roles)
    return one.who, set(one.rights)


def test_a_user_has_their_own_rights_and_those_of_their_roles(world: World) -> None:
    tenant = world.tenant()
    role = world.role("r", rights=[MORE, {"action": "update", "resource": "tenant", "tenantId": tenant}])
    world.user("alice", roleIds=[role], rights=[LESS, MORE])
    assert found(world, "alice") == (
        Who.USER,
        {
            Right(Action.READ, Resource.TENANT),
            Right(Action.READ, Resource.USER),
            Right(Action.UPDATE, Resource.TENANT, tenant_id=tenant),
        },
    )
    assert found(world, "bob") == (Who.NOBODY, set())
    assert found(world, "Alice") == (Who.NOBODY, set())


def test_roles_are_found_by_their_names(world: World) -> None:
    world.role("a", rights=[MORE])
    world.role("b", rights=[LESS])
    world.role("c", rights=[{"action": "*", "resource": "*"}])
    assert found(world, "robot", roles=("a", "b", "unknown", "a\0")) == (
        Who.NOBODY,
        {Right(Action.READ, Resource.TENANT), Right(Action.READ, Resource.USER)},
    )


def test_a_user_of_an_issuer_is_nobody_for_another(world: World) -> None:
    world.user("alice", issuer="i", rights=[MORE])
    assert found(world, "alice")[0] is Who.USER
    assert found(world, "alice", "j")[0] is Who.NOBODY
    world.user("alice", issuer="j", rights=[LESS])
    assert found(world, "alice", "j") == (Who.USER, {Right(Action.READ, Resource.USER)})


def test_a_user_of_any_issuer_is_no_other_user_for_one(world: World) -> None:
    world.user("alice")
    world.user("bob", issuer="i")
    for subject, issuer in (("alice", "i"), ("bob", ""), ("bob", "i"), ("alice", "")):
        with pytest.raises(ConflictError):
            world.user(subject, issuer=issuer)
    world.user("bob", issuer="j")


@pytest.mark.parametrize("issuer", ["", "i"])
def test_who_was_a_user_has_nothing_until_they_are_one_again(world: World, issuer: str) -> None:
    user = world.user("alice", issuer=issuer, rights=[MORE])
    world.users.delete(user)
    assert found(world, "alice")[0] is Who.FORMER
    assert found(world, "alice", "j")[0] is (Who.FORMER if issuer == "" else Who.NOBODY)
    again = world.user("alice", issuer=issuer)
    assert found(world, "alice")[0] is Who.USER
    world.users.change(again, UserDiff(subject="bob"))
    assert found(world, "alice")[0] is Who.FORMER
    assert found(world, "bob")[0] is Who.USER


def test_every_change_has_a_version_and_nothing_else(world: World) -> None:
    def version() -> int:
        return world.rights.find("i", "alice", ()).version

    seen = [version()]

    def changed() -> bool:
        seen.append(version())
        return seen[-1] > seen[-2]

    role = world.role("r")
    assert changed()
    user = world.user("alice")
    assert changed()
    world.users.assign(user, role)
    assert changed()
    world.roles.change(role, RoleDiff.model_validate({"rights": [MORE]}))
    assert changed()
    world.tenant()
    world.users.get(user)
    with pytest.raises(ConflictError):
        world.roles.delete(role)
    assert not changed()
    world.users.delete(user)
    assert changed()
    world.roles.delete(role)
    assert changed()


# ---- the feed


def test_the_feed_tells_what_somebody_may_see(world: World, two: list[tuple[str, str]]) -> None:
    (tenant, profile), (other, _) = two
    cell = world.cell()
    dataspace = world.dataspace(cell)
    role = world.role("r")
    user = world.user("alice")

    def told(*rights: Right) -> set[str]:
        return {event["subject"] for event in world.seen_by(*rights).events()}

    assert told(administrator_of(tenant)) == {f"tenants/{tenant}", f"participant-profiles/{profile}"}
    assert told(Right(Action.READ, Resource.PARTICIPANT_PROFILE, participant_profile_id=profile)) == {
        f"participant-profiles/{profile}"
    }
    assert told(Right(Action.READ, Resource.TENANT)) == {f"tenants/{tenant}", f"tenants/{other}"}
    assert told(Right(Action.READ, Resource.ANY, cell_id=cell)) == {
        f"cells/{cell}",
        f"dataspace-profiles/{dataspace}",
    }
    assert told(Right(Action.READ, Resource.ROLE)) == {f"roles/{role}"}
    assert told(Right(Action.READ, Resource.USER)) == {f"users/{user}"}
    assert told(Right(Action.READ, Resource.DEAD_LETTER)) == set()
    others = world.seen_by(administrator_of(other))
    assert others.events(f"tenants/{tenant}") == []
    assert others.events("participant-profiles") != []
    with pytest.raises(ForbiddenError):
        told(Right(Action.UPDATE, Resource.TENANT))


def test_the_feed_tells_of_profiles_that_are_wholly_on_a_cell(world: World) -> None:
    first, second = world.cell(), world.cell()
    world.dataspace(first, second)
    tenant = world.tenant()
    there = world.deploy(tenant, "did:web:1", cellId=first)["id"]
    world.deploy(tenant, "did:web:2", cellId=second)
    me = world.seen_by(Right(Action.READ, Resource.PARTICIPANT_PROFILE, tenant_id=tenant, cell_id=first))
    assert {event["subject"] for event in me.events()} == {f"participant-profiles/{there}"}


def test_an_end_is_told_to_whose_it_was(world: World) -> None:
    mine, other = world.tenant(), world.tenant()
    world.tenants.delete(mine)
    world.tenants.delete(other)
    told = world.seen_by(administrator_of(mine)).events()
    assert [(event["type"], event["subject"]) for event in told] == [
        ("cfm.tenant.created", f"tenants/{mine}"),
        ("cfm.tenant.deleted", f"tenants/{mine}"),
    ]


# ---- what the database is asked


class _Counted:
    """A connection that counts round trips."""

    def __init__(self, connection: Any, counted: Counting) -> None:
        self._connection = connection
        self._counted = counted

    def run(self, sql: str, params: dict[str, Any]) -> Any:
        # Which indexes are ready is looked up now and then, whoever asks.
        self._counted.trips += "query_indexes" not in sql
        return self._connection.run(sql, params)

    def simple(self, sql: str) -> None:
        self._counted.trips += 1
        self._connection.simple(sql)

    def close(self) -> None:
        self._connection.close()

    @property
    def is_closed(self) -> bool:
        return bool(self._connection.is_closed)


class Counting(Database):
    """Counts statements, and the ends of transactions."""

    trips = 0

    @contextlib.contextmanager
    def _connection(self, begin: str) -> Iterator[Any]:
        with super()._connection(begin) as connection:
            yield _Counted(connection, self)


@pytest.fixture
def counting(database_url: str) -> Iterator[Counting]:
    database = Counting(database_url)
    yield database
    database.close()


def outcome(database: Counting, call: Callable[[Any], object], key: Any) -> tuple[str, int]:
    """What ``call`` comes to for ``key``, without naming it, and how many round trips that took."""
    before = database.trips
    try:
        call(key)
        told = "done"
    except CfmError as error:
        told = f"{type(error).__name__}: {error}".replace(str(key), "<id>")
    return told, database.trips - before


def test_what_is_not_theirs_is_answered_as_what_is_not_there_in_as_many_round_trips(counting: Counting) -> None:
    world = in_postgres(counting)
    cell = world.cell()
    dataspace = world.dataspace(cell)
    mine, other = world.tenant(), world.tenant()
    profile = world.deploy(other)["id"]
    me = world.seen_by(administrator_of(mine), Right(Action.ANY, Resource.ANY, cell_id=ABSENT))
    unknown_tenant, unknown, diff = str(uuid.uuid4()), str(uuid.uuid4()), TenantPropertiesDiff(properties={"n": 1})
    new_cell = NewCell.model_validate({"state": "active"})
    calls: list[tuple[Callable[[str], object], str, str]] = [
        (me.tenants.get, other, unknown_tenant),
        (lambda key: me.tenants.change(key, diff), other, unknown_tenant),
        (lambda key: me.tenants.change(key, diff, STALE), other, unknown_tenant),
        (me.tenants.delete, other, unknown_tenant),
        (lambda key: me.participant_profiles.select_of(key, "true", ALL), other, unknown_tenant),
        (lambda key: me.deploy(key, "did:web:x"), other, unknown_tenant),
        *((lambda key, n=n: acting(me, other, key)[n](), profile, unknown) for n in range(8)),
        *((lambda key, n=n: acting(me, mine, key)[n](), profile, unknown) for n in range(8)),
        (me.cells.get, cell, unknown),
        (lambda key: me.cells.change(key, CellDiff()), cell, unknown),
        (lambda key: me.cells.put(key, new_cell), cell, unknown),
        (me.cells.delete, cell, unknown),
        (me.dataspace_profiles.get, dataspace, unknown),
        (me.dataspace_profiles.delete, dataspace, unknown),
        (lambda key: me.dataspace_profiles.deployments(key, "true", ALL), dataspace, unknown),
        (lambda key: me.dataspace_profiles.deploy(key, NewDataspaceProfileDeployment()), dataspace, unknown),
        (lambda key: me.dataspace_profiles.undeploy(key, unknown_tenant, STALE), dataspace, unknown),
    ]
    for number, (call, there, not_there) in enumerate(calls):
        one = outcome(counting, call, there)
        assert one == outcome(counting, call, not_there), f"call {number}"
        assert one[0] == "done" or one[0].startswith(("NotFoundError", "ForbiddenError")), one


def test_clients_without_bounds_cost_no_round_trip_more(counting: Counting) -> None:
    world = in_postgres(counting)
    cell = world.cell()
    world.dataspace(cell)
    tenant = world.tenant()
    profile = world.deploy(tenant)["id"]
    bounded = world.seen_by(administrator_of(tenant))
    for call in (
        lambda one: one.tenants.get(tenant),
        lambda one: one.tenants.change(tenant, TenantPropertiesDiff(properties={"n": 1})),
        lambda one: one.participant_profiles.get(tenant, profile),
        lambda one: one.change(tenant, profile, properties={"n": 1}),
        lambda one: one.participant_profiles.select("true", ALL),
    ):
        assert outcome(counting, call, world) == outcome(counting, call, bounded)


def test_the_first_administrator_is_made_once(database: Database) -> None:
    rights = PostgresRights(database)
    world = in_postgres(database)
    rights.make_first_administrator("i", "alice")
    assert found(world, "alice") == (Who.USER, {Right(Action.ANY, Resource.ANY)})
    for subject in ("alice", "bob"):
        with pytest.raises(ConflictError, match="there is a user already who may do everything"):
            rights.make_first_administrator("i", subject)
    assert found(world, "bob")[0] is Who.NOBODY


def test_a_user_who_is_there_may_become_the_first_administrator(database: Database) -> None:
    world = in_postgres(database)
    user = world.user("alice", rights=[LESS])
    assert PostgresRights(database).make_first_administrator("", "alice") == user
    assert found(world, "alice")[1] == {Right(Action.ANY, Resource.ANY), Right(Action.READ, Resource.USER)}


def test_somebody_who_has_every_right_by_a_role_is_an_administrator(database: Database) -> None:
    world = in_postgres(database)
    world.user("alice", roleIds=[world.role("all", rights=[{"action": "*", "resource": "*"}])])
    with pytest.raises(ConflictError):
        PostgresRights(database).make_first_administrator("", "bob")


def test_of_several_first_administrators_at_once_one_is_made(database: Database) -> None:
    rights = PostgresRights(database)

    def made(subject: str) -> bool:
        with contextlib.suppress(ConflictError):
            return bool(rights.make_first_administrator("", subject))
        return False

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(made, "abcd")) == 1
    assert in_postgres(database).users.select("true", ALL).total == 1


def test_of_users_of_any_issuer_and_of_one_at_once_there_is_one(world: World) -> None:
    def made(issuer: str) -> bool:
        with contextlib.suppress(ConflictError):
            return bool(world.user("alice", issuer=issuer))
        return False

    with ThreadPoolExecutor(4) as pool:
        created = sum(pool.map(made, ["", "i", "", "i"]))
    assert created == 1
    assert world.users.select("true", ALL).total == 1
