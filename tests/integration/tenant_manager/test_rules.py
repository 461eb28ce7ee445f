"""The rules of the virtualization model hold in the database, whoever writes to it and whatever happens at the same time."""

from __future__ import annotations

import contextlib
import functools
import json
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from cfm_core.errors import (
    CfmError,
    ConflictError,
    FatalError,
    NotFoundError,
    RecoverableError,
    RefusedError,
    ValidationError,
)
from cfm_core.store.database import Database, Transaction
from cfm_core.tenancy.cells.v1alpha1 import CellDiff
from cfm_core.tenancy.dataspace_profiles.v1alpha1 import NewDataspaceProfileDeployment
from cfm_core.tenancy.participant_profiles.changes import planned
from cfm_core.tenancy.participant_profiles.manifests import deploy_manifest
from cfm_core.tenancy.participant_profiles.selection import spread_by_load
from cfm_core.tenancy.participant_profiles.v1alpha1 import NewParticipantProfileDeployment, ParticipantProfileDiff
from cfm_core.tenancy.tenants.model import TenantId
from tests.contract.tenancy.world import ABSENT, ALL, World, deployed, disposed, in_postgres


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    database = Database(database_url, size=12)
    yield in_postgres(database)
    database.close()


INSERT = """
INSERT INTO tenant_manager.participant_profiles
       (id, identifier, tenant_id, dataspace_profile_ids, names_dataspaces, participant_roles, vpas, properties,
        manifest_id, sent_manifest_ids, manifest, due_at)
SELECT gen_random_uuid(), 'did:direct', :tenant::uuid, :dataspaces::jsonb, :names, :roles::jsonb,
       tenant_manager.vpas_in(:vpas::jsonb, 'pending', now()), '{}', 'm', '{m}', '{}', now()
"""


def vpa(cell: str, external_id: str = "") -> dict[str, str]:
    return {"id": ABSENT, "type": "x", "cellId": cell, "externalCellId": external_id}


def insert(database: Database | Transaction, tenant: str, **changes: Any) -> None:
    """Write a profile as the Tenant Manager does, without any of its checks."""
    row = {"dataspaces": [], "names": True, "roles": {}, "vpas": []} | changes
    encoded = {key: value if isinstance(value, bool) else json.dumps(value) for key, value in row.items()}
    database.rows(INSERT, tenant=tenant, **encoded)


# What is remembered of a basis -------------------------------------------------------------------------------------------


def test_a_deployment_rests_on_what_is_and_not_on_what_was_remembered(world: World) -> None:
    tenant, cell = world.tenant(), world.cell()
    first = world.dataspace(cell)
    world.deploy(tenant, "did:1", cellId=cell)
    membership = {"id": "m", "type": "M", "issuer": "i", "format": "f", "role": ""}
    second = world.dataspace(cell, credentials=[membership])
    answer = world.deploy(tenant, "did:2", cellId=cell)
    assert sorted(answer["dataspaceProfileIds"]) == sorted([first, second])
    assert world.manifests()[-1]["payload"]["cfm.vpa.credentials"] == [membership]
    other = world.cell()
    with pytest.raises(RefusedError, match="not deployed to cell"):
        world.deploy(tenant, "did:3", cellId=other)
    world.dataspace_profiles.deploy(first, NewDataspaceProfileDeployment(cell_id=other))
    world.deploy(tenant, "did:3", cellId=other)
    world.cells.change(cell, CellDiff.model_validate({"state": "offline"}))
    with pytest.raises(RefusedError, match=f"cell {cell} is offline"):
        world.deploy(tenant, "did:4", cellId=cell)
    with pytest.raises(NotFoundError):
        world.deploy(ABSENT, "did:5", cellId=other)
    world.deploy(tenant, "did:6")


def test_what_has_not_changed_is_not_read_again(world: World, database: Database) -> None:
    tenant, cell = world.tenant(), world.cell()
    world.dataspace(cell)
    world.deploy(tenant, "did:1", cellId=cell)
    with database.transaction() as other:
        # Whoever reads the dataspace profiles now waits for this transaction.
        other.simple("SET LOCAL lock_timeout = '5s'; LOCK TABLE tenant_manager.cell_loads IN ACCESS EXCLUSIVE MODE")
        with ThreadPoolExecutor(1) as thread:
            reading = thread.submit(world.participant_profile_store.basis, tenant, [], remembered=True)  # type: ignore[arg-type]
            assert reading.result(timeout=5).tenant_exists


@pytest.mark.parametrize("happens", ["a cell", "a dataspace profile", "a deployment", "an end of a deployment"])
def test_a_profile_is_not_kept_on_a_basis_that_has_changed(world: World, database: Database, happens: str) -> None:
    tenant, cell, other = world.tenant(), world.cell(), world.cell()
    dataspace = world.dataspace(cell, other)
    deployments = json.loads(world.dataspace_profiles.deployments(dataspace, "true", ALL).json)
    (unused,) = (one for one in deployments if one["cellId"] == other)
    empty = world.dataspace()
    before = database.value("SELECT sum(changes) FROM tenant_manager.basis_changes")
    match happens:
        case "a cell":
            world.cells.change(other, CellDiff.model_validate({"state": "offline"}))
        case "a dataspace profile":
            world.dataspace_profiles.delete(empty)
        case "a deployment":
            world.dataspace_profiles.deploy(empty, NewDataspaceProfileDeployment(cell_id=cell))
        case "an end of a deployment":
            world.dataspace_profiles.undeploy(dataspace, unused["id"])
    basis = world.participant_profile_store.basis(tenant, [])  # type: ignore[arg-type]
    assert basis.changes > before
    profile, credentials = planned(
        TenantId(tenant),
        NewParticipantProfileDeployment(identifier="did:1", cell_id=cell),
        [],
        basis,
        spread_by_load,
    )
    manifest = deploy_manifest(profile, "m", credentials)
    old = replace(basis, changes=before)
    insert = functools.partial(world.participant_profile_store.insert, profile, manifest)
    assert insert(old, timedelta(1), remembered=True) is None
    assert world.sent() == []
    # What was just read may change before it is kept, however often: that delays nobody.
    assert insert(old, timedelta(1)) is not None


def test_what_was_remembered_holds_as_long_as_nothing_changes(world: World) -> None:
    tenant, cell = world.tenant(), world.cell()
    world.dataspace(cell)
    basis = world.participant_profile_store.basis(tenant, [])  # type: ignore[arg-type]
    new = NewParticipantProfileDeployment(identifier="did:1", cell_id=cell)
    profile, credentials = planned(TenantId(tenant), new, [], basis, spread_by_load)
    manifest = deploy_manifest(profile, "m", credentials)
    assert world.participant_profile_store.insert(profile, manifest, basis, timedelta(1), remembered=True) is not None


def test_each_of_two_changes_at_the_same_time_counts_for_who_reads_in_between(world: World, database: Database) -> None:
    tenant = world.tenant()
    offline = "UPDATE tenant_manager.cells SET state = 'offline' WHERE id = :id::uuid"
    cells = [world.cell(), world.cell()]

    def seen() -> tuple[int, list[str]]:
        basis = world.participant_profile_store.basis(tenant, [])  # type: ignore[arg-type]
        return basis.changes, sorted(cell.state for cell in basis.cells)

    with contextlib.ExitStack() as transactions:
        begun = [transactions.enter_context(database.transaction()) for _ in cells]
        looks = [seen()]
        for transaction, cell in zip(begun, cells, strict=True):
            transaction.rows(offline, id=cell)
            looks.append(seen())
    looks.append(seen())
    assert [states for _, states in looks] == [["active", "active"]] * 3 + [["offline", "offline"]]
    assert [changes - looks[0][0] for changes, _ in looks] == [0, 0, 0, 2]


# Each rule --------------------------------------------------------------------------------------------------------------


def test_a_profile_that_follows_the_rules_is_taken(world: World, database: Database) -> None:
    tenant, cell = world.tenant(), world.cell(external_id="west")
    served, other = world.dataspace(cell), world.dataspace()
    insert(database, tenant, dataspaces=[served], roles={served: ["a"]}, vpas=[vpa(cell, "west")])
    database.rows("UPDATE tenant_manager.participant_profiles SET identifier = 'did:other'")
    insert(database, tenant, dataspaces=[served, other], names=False, vpas=[vpa(cell, "west")])


@pytest.mark.parametrize(
    ("changes", "pointer", "detail"),
    [
        ({"dataspaces": []}, "/dataspaceProfileIds", "at least one dataspace"),
        ({"dataspaces": ["{served}", ABSENT]}, "/dataspaceProfileIds/1", f"there is no dataspace profile '{ABSENT}'"),
        ({"roles": {ABSENT: []}}, f"/participantRoles/{ABSENT}", f"roles are given for '{ABSENT}'"),
        ({"vpas": [vpa("{cell}"), vpa(ABSENT)]}, "/vpas/1/cellId", f"there is no cell '{ABSENT}'"),
        ({"vpas": [vpa("{offline}")]}, "/vpas/0/cellId", "is offline, not active"),
        ({"vpas": [vpa("{cell}", "east")]}, "/vpas/0/cellId", "has another external id"),
        ({"vpas": [vpa("{cell}"), vpa("{bare}")]}, "/vpas/1/cellId", "not deployed to cell {bare}: dataspace profile"),
        ({"names": False, "vpas": [vpa("{bare}")]}, "/vpas/0/cellId", "not deployed to cell {bare}: dataspace profile"),
        ({"dataspaces": ["{served}", "{other}"]}, "/vpas/0/cellId", "not deployed to cell {cell}: dataspace profile"),
    ],
)
def test_a_profile_that_breaks_a_rule_is_refused(
    world: World, database: Database, changes: dict[str, Any], pointer: str, detail: str
) -> None:
    ids = {"cell": world.cell(), "offline": world.cell("offline"), "bare": world.cell()}
    ids |= {"served": world.dataspace(ids["cell"]), "other": world.dataspace()}
    tenant = world.tenant()
    text = json.dumps({"dataspaces": ["{served}"], "vpas": [vpa("{cell}")]} | changes)
    for name, id_ in ids.items():
        text, detail = text.replace(f"{{{name}}}", id_), detail.replace(f"{{{name}}}", id_)
    with pytest.raises(RefusedError) as caught:
        insert(database, tenant, **json.loads(text))
    assert detail in str(caught.value)
    assert [error.pointer for error in caught.value.errors] == [pointer]
    assert database.value("SELECT count(*) FROM tenant_manager.participant_profiles") == 0


def test_a_profile_has_a_tenant_an_identifier_and_agents(world: World, database: Database) -> None:
    cell = world.cell()
    good = {"dataspaces": [world.dataspace(cell)], "vpas": [vpa(cell)]}
    with pytest.raises(ValidationError):
        insert(database, ABSENT, **good)
    tenant = world.tenant()
    with pytest.raises(FatalError):
        insert(database, tenant, **good | {"vpas": []})
    with pytest.raises(FatalError):
        insert(database, tenant, **good | {"vpas": [vpa(cell)] * 65})
    insert(database, tenant, **good)
    with pytest.raises(ConflictError, match="identifier"):
        insert(database, tenant, **good)
    with pytest.raises(FatalError):
        database.rows("UPDATE tenant_manager.participant_profiles SET identifier = ''")


@pytest.mark.parametrize(
    "change",
    [
        "dataspace_profile_ids = '[]'",
        f"dataspace_profile_ids = '[\"{ABSENT}\"]'",
        f"participant_roles = '{{\"{ABSENT}\": []}}'",
        f"vpas = jsonb_set(vpas, '{{2,cellId}}', '\"{ABSENT}\"')",
    ],
)
def test_a_profile_cannot_come_to_break_a_rule_while_it_is_not_disposed(
    world: World, database: Database, change: str
) -> None:
    world.dataspace(world.cell())
    tenant, profile = world.live_participant()
    update = f"UPDATE tenant_manager.participant_profiles SET {change}"  # noqa: S608
    with pytest.raises(RefusedError):
        database.rows(update)
    world.dispose(tenant, profile)
    database.rows(update)
    with pytest.raises(RefusedError):
        database.rows(
            "UPDATE tenant_manager.participant_profiles SET state = 'pending', manifest = '{}', due_at = now()"
        )


def test_what_is_in_use_is_not_deleted(world: World, database: Database) -> None:
    cell = world.cell()
    dataspace = world.dataspace(cell)
    tenant, profile = world.live_participant()
    used_by = [{"kind": "participantProfile", "id": profile}]
    for table, expected in (
        ("dataspace_deployments", used_by),
        ("dataspace_profiles", used_by),
        ("cells", [{"kind": "dataspaceProfile", "id": dataspace}, *used_by]),
    ):
        with pytest.raises(ConflictError) as caught:
            database.rows(f"DELETE FROM tenant_manager.{table}")  # noqa: S608
        assert caught.value.context == {"usedBy": expected}
    with pytest.raises(ConflictError):
        database.rows("UPDATE tenant_manager.cells SET external_id = 'other'")
    with pytest.raises(ValidationError, match="participants"):
        database.rows("DELETE FROM tenant_manager.tenants")
    with pytest.raises(FatalError):
        database.rows("DELETE FROM tenant_manager.participant_profiles")
    world.dispose(tenant, profile)
    for table in ("participant_profiles", "dataspace_deployments", "dataspace_profiles", "cells", "tenants"):
        database.rows(f"DELETE FROM tenant_manager.{table}")  # noqa: S608


def test_at_most_ten_users_of_a_kind_are_named(world: World) -> None:
    cell, tenant = world.cell(), world.tenant()
    dataspaces = [world.dataspace(cell) for _ in range(12)]
    for number in range(12):
        world.deploy(tenant, f"did:{number}", dataspaceProfileIds=[dataspaces[0]])
    with pytest.raises(ConflictError) as caught:
        world.cells.delete(cell)
    users = caught.value.context["usedBy"]
    assert isinstance(users, list)
    assert [user["kind"] for user in users] == ["dataspaceProfile"] * 10 + ["participantProfile"] * 10


def test_profiles_are_counted_where_they_are_however_they_are_written(world: World, database: Database) -> None:
    cells, tenant = [world.cell(), world.cell()], world.tenant()
    dataspace = world.dataspace(*cells)
    insert(database, tenant, dataspaces=[dataspace], vpas=[vpa(cells[0]), vpa(cells[1]), vpa(cells[0])])
    assert broken_rules(database) == []
    others = (
        "vpas = jsonb_build_array(vpas->1)",
        "state = 'disposed', manifest = NULL, due_at = NULL",
        f"vpas = jsonb_set(vpas, '{{0,cellId}}', '\"{cells[0]}\"')",
        "state = 'active'",
    )
    for change in others:
        database.rows(f"UPDATE tenant_manager.participant_profiles SET {change}")  # noqa: S608
        assert broken_rules(database) == []
    assert (
        database.value("SELECT sum(profiles) FROM tenant_manager.cell_loads WHERE cell_id = :id::uuid", id=cells[0])
        == 1
    )


# At the same time -------------------------------------------------------------------------------------------------------


def while_deploying(world: World, database: Database, statement: str) -> bool:
    """Whether ``statement`` can be done while a deployment has not been committed yet."""
    cell, tenant = world.cell(), world.tenant()
    dataspace, unserved = world.dataspace(cell), world.dataspace()
    with database.transaction() as deployment:
        insert(deployment, tenant, dataspaces=[dataspace, unserved], names=False, vpas=[vpa(cell)])
        try:
            with database.transaction() as other:
                other.simple("SET LOCAL lock_timeout = '100ms'")
                other.rows(statement.format(cell=cell, dataspace=dataspace, unserved=unserved, tenant=tenant))
        except RecoverableError:
            return False
        return True


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE tenant_manager.cells SET state = 'offline' WHERE id = '{cell}'",
        "DELETE FROM tenant_manager.cells WHERE id = '{cell}'",
        "DELETE FROM tenant_manager.dataspace_deployments WHERE cell_id = '{cell}'",
        "DELETE FROM tenant_manager.dataspace_profiles WHERE id = '{dataspace}'",
        "DELETE FROM tenant_manager.dataspace_profiles WHERE id = '{unserved}'",
        "DELETE FROM tenant_manager.tenants WHERE id = '{tenant}'",
    ],
)
def test_what_a_deployment_rests_on_is_held_until_its_commit(world: World, database: Database, statement: str) -> None:
    assert not while_deploying(world, database, statement)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE tenant_manager.dataspace_profiles SET artifacts = '[]' WHERE id = '{dataspace}'",
        "UPDATE tenant_manager.tenants SET properties = '{{}}' WHERE id = '{tenant}'",
        "SELECT FROM tenant_manager.cells WHERE id = '{cell}' FOR SHARE",
        "SELECT tenant_manager.count_participants('{cell}', 1)",
    ],
)
def test_a_deployment_holds_up_nothing_else(world: World, database: Database, statement: str) -> None:
    assert while_deploying(world, database, statement)


_REFUSALS = (NotFoundError, ConflictError, RefusedError, ValidationError)


def together(*actions: Callable[[], object]) -> list[bool]:
    """Whether each action took effect; all begin at the same moment. Anything but a refusal fails the test."""
    gate = threading.Barrier(len(actions))

    def run(action: Callable[[], object]) -> bool:
        gate.wait(10)
        with contextlib.suppress(*_REFUSALS):
            action()
            return True
        return False

    with ThreadPoolExecutor(len(actions)) as threads:
        return list(threads.map(run, actions))


def broken_rules(database: Database) -> list[str]:
    """What contradicts the model in the database as it is."""
    return [
        str(text)
        for (text,) in database.rows("""
WITH used AS (
  SELECT p.id, p.tenant_id, p.names_dataspaces, d.id::uuid AS dataspace, (v->>'cellId')::uuid AS cell
    FROM tenant_manager.participant_profiles p
   CROSS JOIN LATERAL jsonb_array_elements_text(p.dataspace_profile_ids) AS d (id)
   CROSS JOIN LATERAL jsonb_array_elements(p.vpas) AS a (v)
   WHERE p.state <> 'disposed')
SELECT 'no tenant: ' || id FROM used WHERE tenant_id NOT IN (SELECT id FROM tenant_manager.tenants)
UNION ALL
SELECT 'no dataspace profile: ' || id FROM used WHERE dataspace NOT IN (SELECT id FROM tenant_manager.dataspace_profiles)
UNION ALL
SELECT 'no cell: ' || id FROM used WHERE cell NOT IN (SELECT id FROM tenant_manager.cells)
UNION ALL
SELECT 'not served: ' || id FROM used u
 WHERE NOT EXISTS (SELECT FROM tenant_manager.dataspace_deployments d
                    WHERE d.cell_id = u.cell AND (d.dataspace_profile_id = u.dataspace OR NOT u.names_dataspaces))
UNION ALL
SELECT 'load of ' || c.id FROM tenant_manager.cells c
 WHERE coalesce((SELECT sum(profiles) FROM tenant_manager.cell_loads l WHERE l.cell_id = c.id), 0)
       <> (SELECT count(DISTINCT id) FROM used WHERE cell = c.id)
""")
    ]


def test_of_a_deployment_and_what_takes_its_ground_away_one_wins(world: World, database: Database) -> None:
    for number in range(25):
        tenant, cell = world.tenant(), world.cell()
        dataspace = world.dataspace(cell)
        ((deployment, *_),) = database.rows(
            "SELECT id::text FROM tenant_manager.dataspace_deployments WHERE dataspace_profile_id = :id::uuid",
            id=dataspace,
        )
        took_away = [
            lambda: world.dataspace_profiles.undeploy(dataspace, deployment),  # noqa: B023
            lambda: world.dataspace_profiles.delete(dataspace),  # noqa: B023
            lambda: world.tenants.delete(tenant),  # noqa: B023
            lambda: world.cells.change(cell, CellDiff.model_validate({"state": "offline"})),  # noqa: B023
        ]
        mean = took_away[number % len(took_away)]
        won, gone = together(
            lambda: world.deploy(tenant, f"did:{number}", dataspaceProfileIds=[dataspace]),  # noqa: B023
            mean,
        )
        assert broken_rules(database) == []
        if number % len(took_away) < 3:
            assert won != gone


def test_a_cell_goes_with_nothing_on_it(world: World, database: Database) -> None:
    for number in range(15):
        tenant, cell, other = world.tenant(), world.cell(), world.cell()
        dataspace = world.dataspace(other)
        won, served, gone = together(
            lambda: world.deploy(tenant, f"did:{number}", dataspaceProfileIds=[dataspace], cellId=cell),  # noqa: B023
            lambda: world.dataspace_profiles.deploy(dataspace, NewDataspaceProfileDeployment(cell_id=cell)),  # noqa: B023
            lambda: world.cells.delete(cell),  # noqa: B023
        )
        assert broken_rules(database) == []
        assert served or not won
        assert served != gone


def test_of_a_purge_and_a_deployment_again_one_wins(world: World, database: Database) -> None:
    world.dataspace(world.cell())
    for _ in range(10):
        tenant, profile = world.live_participant()
        world.dispose(tenant, profile)
        again, gone = together(
            lambda: world.deploy_again(tenant, profile),  # noqa: B023
            lambda: world.participant_profiles.purge(tenant, profile),  # noqa: B023
        )
        assert again != gone
        if again:
            world.respond(deployed(profile, world.manifests()[-1]["id"]))
            world.dispose(tenant, profile)
        assert broken_rules(database) == []


def test_changes_at_the_same_time_all_survive(world: World) -> None:
    world.dataspace(world.cell())
    tenant, profile = world.live_participant()

    def change(number: int) -> Callable[[], object]:
        diff = ParticipantProfileDiff(properties={f"k{number}": number})
        return lambda: world.participant_profiles.change(tenant, profile, diff)

    assert all(together(*(change(number) for number in range(12))))
    properties = world.profile(tenant, profile)["properties"]
    assert {key: properties[key] for key in properties if key != "cfm.vpa.state"} == {f"k{n}": n for n in range(12)}
    assert world.profile(tenant, profile)["version"] == 13


def test_many_at_once_leave_a_model_without_contradictions(world: World, database: Database) -> None:
    cells = [world.cell() for _ in range(3)]
    dataspaces = [world.dataspace(*cells) for _ in range(3)]
    tenants = [world.tenant() for _ in range(3)]
    refused: list[BaseException] = []

    def storm(seed: int) -> None:
        dice = random.Random(seed)
        for turn in range(25):
            try:
                step(dice, f"did:{seed}:{turn}")
            except _REFUSALS as error:
                refused.append(error)

    def step(dice: random.Random, identifier: str) -> None:
        tenant, cell, dataspace = dice.choice(tenants), dice.choice(cells), dice.choice(dataspaces)
        profiles = json.loads(world.participant_profiles.select_of(tenant, "true", ALL).json)
        profile = dice.choice(profiles)["id"] if profiles else ABSENT
        match dice.randrange(9):
            case 0 | 1 | 2:
                named = dice.sample(dataspaces, dice.randint(0, 2))
                answer = world.deploy(tenant, identifier, dataspaceProfileIds=named)
                if dice.random() < 0.8:
                    world.respond(deployed(answer["id"], answer["orchestrationId"]))
            case 3 | 4:
                manifest, _ = world.participant_profiles.dispose(tenant, profile)
                world.respond(disposed(profile, manifest))
            case 5:
                answer = world.deploy_again(tenant, profile)
                world.respond(deployed(profile, answer["orchestrationId"]))
            case 6:
                for one in json.loads(world.dataspace_profiles.deployments(dataspace, "true", ALL).json):
                    world.dataspace_profiles.undeploy(dataspace, one["id"])
            case 7:
                world.dataspace_profiles.deploy(dataspace, NewDataspaceProfileDeployment(cell_id=cell))
            case 8:
                state = dice.choice(["offline", "active", "active"])
                world.cells.change(cell, CellDiff.model_validate({"state": state}))

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(storm, range(6)))
    assert broken_rules(database) == []
    assert refused
    assert all(isinstance(error, CfmError) for error in refused)
