from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cfm_core.errors import ValidationError
from cfm_core.tenancy.cells.v1alpha1 import CellDiff
from cfm_core.tenancy.dataspace_profiles.v1alpha1 import NewDataspaceProfileDeployment
from cfm_core.tenancy.feed.memory import MemoryFeed
from cfm_core.tenancy.feed.model import Happening, Kind, Place
from cfm_core.tenancy.feed.service import KEPT, MOST, USUAL, Feed
from cfm_core.tenancy.participant_profiles.v1alpha1 import NewParticipantProfileDeployment, ParticipantProfileDiff
from cfm_core.tenancy.roles.v1alpha1 import RoleDiff
from cfm_core.tenancy.tenants.model import Tenant, TenantId
from cfm_core.tenancy.tenants.v1alpha1 import TenantPropertiesDiff
from cfm_core.tenancy.users.v1alpha1 import UserDiff
from tests.contract.tenancy.world import ABSENT, EAGER, World, deployed, disposed


def told(world: World, subject: str) -> list[tuple[str, dict[str, Any]]]:
    return [(event["type"], event["data"]) for event in world.events(subject)]


def test_an_event_is_a_cloud_event(world: World) -> None:
    before = datetime.now(UTC)
    tenant = world.tenant(secret="x")
    (event,) = world.events()
    assert list(event) == [
        *("specversion", "id", "source", "type", "subject", "time", "datacontenttype", "sequence", "data")
    ]
    assert abs(datetime.fromisoformat(event.pop("time")) - before) < timedelta(minutes=1)
    assert event == {
        "specversion": "1.0",
        "id": event["sequence"],
        "source": "cfm.tmanager",
        "type": "cfm.tenant.created",
        "subject": f"tenants/{tenant}",
        "datacontenttype": "application/json",
        "sequence": event["sequence"],
        "data": {"id": tenant, "version": 0},
    }
    assert len(event["sequence"]) == 32


def test_the_life_of_a_tenant_is_told(world: World) -> None:
    tenant = world.tenant()
    world.tenants.change(tenant, TenantPropertiesDiff(properties={"a": 1}))
    world.tenants.change(tenant, TenantPropertiesDiff())
    world.tenants.delete(tenant)
    assert told(world, "tenants") == [
        ("cfm.tenant.created", {"id": tenant, "version": 0}),
        ("cfm.tenant.changed", {"id": tenant, "version": 1}),
        ("cfm.tenant.deleted", {"id": tenant, "version": 1}),
    ]


def test_the_life_of_cells_and_dataspaces_is_told(world: World) -> None:
    cell = world.cell()
    dataspace = world.dataspace(cell)
    world.dataspace_profiles.deploy(dataspace, NewDataspaceProfileDeployment(cell_id=cell))
    world.cells.change(cell, CellDiff.model_validate({"state": "offline"}))
    world.dataspace_profiles.delete(dataspace)
    world.cells.delete(cell)
    assert told(world, "cells") == [
        ("cfm.cell.created", {"id": cell, "version": 0, "state": "active"}),
        ("cfm.cell.changed", {"id": cell, "version": 1, "state": "offline"}),
        ("cfm.cell.deleted", {"id": cell, "version": 1, "state": "offline"}),
    ]
    assert told(world, "dataspace-profiles") == [
        ("cfm.dataspace-profile.created", {"id": dataspace, "version": 0, "cellIds": []}),
        ("cfm.dataspace-profile.changed", {"id": dataspace, "version": 1, "cellIds": [cell]}),
        ("cfm.dataspace-profile.deleted", {"id": dataspace, "version": 1, "cellIds": []}),
    ]


def test_a_deployment_that_goes_is_told_by_what_is_left(world: World) -> None:
    cells = sorted([world.cell(), world.cell()])
    dataspace = world.dataspace(*cells)
    gone, _ = json.loads(world.dataspace_profiles.get(dataspace).text)["deployments"]
    world.dataspace_profiles.undeploy(dataspace, gone["id"])
    assert [data["cellIds"] for _, data in told(world, f"dataspace-profiles/{dataspace}")] == [
        *([], [cells[0]], cells, [cells[1]])
    ]


def test_every_state_of_a_participant_is_told(world: World) -> None:
    tenant, profile, deploy = world.participant()
    world.respond(deployed(profile, deploy), deployed(profile, deploy))
    world.participant_profiles.change(
        tenant, profile, ParticipantProfileDiff.model_validate({"properties": {"secret": 1}})
    )
    dispose, _ = world.participant_profiles.dispose(tenant, profile)
    world.respond(disposed(profile, dispose))
    world.participant_profiles.purge(tenant, profile)
    events = told(world, "participant-profiles")
    assert [(kind.rpartition(".")[2], data["state"], data["manifestId"], data["version"]) for kind, data in events] == [
        ("created", "pending", deploy, 0),
        ("changed", "active", deploy, 1),
        ("changed", "active", deploy, 2),
        ("changed", "disposing", dispose, 3),
        ("changed", "disposed", dispose, 4),
        ("deleted", "disposed", dispose, 4),
    ]
    for kind, data in events:
        assert kind.startswith("cfm.participant-profile.")
        assert list(data) == ["id", "version", "tenantId", "state", "manifestId"]
        assert (data["id"], data["tenantId"]) == (profile, tenant)


def test_a_manifest_that_is_sent_again_is_not_told_and_giving_it_up_is(world: World) -> None:
    tenant = world.tenant()
    world.dataspace(world.cell())
    eager = world.patient(EAGER)
    eager.deploy(tenant, NewParticipantProfileDeployment(identifier="did:web:foo"))
    assert [len(eager.resend()) for _ in range(3)] == [1, 1, 0]
    assert [(kind, data["state"], data["version"]) for kind, data in told(world, "participant-profiles")] == [
        ("cfm.participant-profile.created", "pending", 0),
        ("cfm.participant-profile.changed", "error", 1),
    ]


def test_the_life_of_users_and_roles_is_told(world: World) -> None:
    role = world.role("r", properties={"secret": 1})
    user = world.user("u", roleIds=[role])
    world.roles.change(role, RoleDiff(name="s"))
    world.users.assign(user, role)
    world.users.withdraw(user, role)
    world.users.change(user, UserDiff(subject="v"))
    world.users.delete(user)
    world.roles.delete(role)
    assert [(kind, data["version"]) for kind, data in told(world, f"users/{user}")] == [
        ("cfm.user.created", 0),
        ("cfm.user.changed", 1),
        ("cfm.user.changed", 2),
        ("cfm.user.deleted", 2),
    ]
    assert [(kind, data["version"]) for kind, data in told(world, f"roles/{role}")] == [
        ("cfm.role.created", 0),
        ("cfm.role.changed", 1),
        ("cfm.role.deleted", 1),
    ]


def test_a_subject_is_one_entity_or_a_kind(world: World) -> None:
    first, second, cell = world.tenant(), world.tenant(), world.cell()
    subjects = [f"tenants/{first}", f"tenants/{second}", f"cells/{cell}"]
    for subject, expected in (
        ("", subjects),
        ("tenants", subjects[:2]),
        ("tenants/", subjects[:2]),
        ("cells", subjects[2:]),
        ("users", []),
        (subjects[1], subjects[1:2]),
        (f"cells/{first}", []),
        (f"tenants/{ABSENT}", []),
    ):
        assert [event["subject"] for event in world.events(subject)] == expected


@pytest.mark.parametrize("subject", ["tenant", "TENANTS", "tenants/x", "cells/x/y", "/", "tenants/../cells", "a\0b"])
def test_a_subject_that_nothing_has_is_refused(world: World, subject: str) -> None:
    with pytest.raises(ValidationError, match="Invalid subject") as caught:
        world.feed.read(subject=subject)
    assert [error.pointer for error in caught.value.errors] == ["/subject"]


@pytest.mark.parametrize(
    "after",
    [
        *("0", "x", "0" * 31, "0" * 33, "-" + "0" * 31, "0" * 31 + "A", "0" * 31 + "\n", "8" + "0" * 31),
        *(" " + "0" * 31, "0" * 31 + "\u0663", "7" + "f" * 31, f"{Place(2**40, 0)}"),
    ],
)
def test_a_place_that_the_feed_has_not_come_to_is_refused(world: World, after: str) -> None:
    world.tenant()
    with pytest.raises(ValidationError, match="Invalid after") as caught:
        world.feed.read(after)
    assert [error.pointer for error in caught.value.errors] == ["/after"]


def test_a_reader_goes_on_where_it_was_also_when_nothing_has_happened(world: World) -> None:
    begin = world.feed.read()
    assert (begin.text, begin.last) == ("[]", "0" * 32)
    tenants = [world.tenant() for _ in range(3)]
    world.settle()
    first = world.feed.read(begin.last, limit=2)
    rest = world.feed.read(first.last)
    nothing = world.feed.read(rest.last)
    assert [event["data"]["id"] for batch in (first, rest) for event in json.loads(batch.text)] == tenants
    assert (nothing.text, nothing.last) == ("[]", rest.last)
    assert world.feed.read(rest.last, "cells").last == rest.last


def test_a_batch_has_an_end(world: World) -> None:
    for _ in range(USUAL + 5):
        world.tenant()
    world.settle()
    for limit, size in ((0, USUAL), (1, 1), (USUAL + 1, USUAL + 1), (MOST, USUAL + 5), (10**30, USUAL + 5)):
        assert len(json.loads(world.feed.read(limit=limit).text)) == size
    with pytest.raises(ValidationError, match="Invalid limit"):
        world.feed.read(limit=-1)


def test_what_was_kept_long_enough_is_forgotten_and_the_rest_stays_where_it_was() -> None:
    now = datetime(2026, 11, 23, tzinfo=UTC)
    store = MemoryFeed(lambda: now)
    for _ in range(3):
        store.record(Kind.TENANTS, Happening.CREATED, Tenant(TenantId(ABSENT), {}))
    now += KEPT - timedelta(seconds=1)
    store.record(Kind.TENANTS, Happening.DELETED, Tenant(TenantId(ABSENT), {}))
    feed = Feed(store)
    before = json.loads(feed.read().text)
    feed.forget()
    assert json.loads(feed.read().text) == before
    now += timedelta(seconds=1)
    assert store.forget(KEPT, 2) == 2
    feed.forget()
    assert json.loads(feed.read().text) == before[3:]
    assert json.loads(feed.read(before[0]["sequence"]).text) == before[3:]
