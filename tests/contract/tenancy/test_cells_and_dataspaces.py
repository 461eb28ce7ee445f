from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from cfm_core.errors import ConflictError, NotFoundError, RefusedError, ValidationError
from cfm_core.tenancy.cells.v1alpha1 import NewCell
from cfm_core.tenancy.dataspace_profiles.v1alpha1 import NewDataspaceProfile, NewDataspaceProfileDeployment
from tests.contract.tenancy.world import ABSENT, ALL, World, deployed, disposed


def to(cell: str, profile: str = "") -> NewDataspaceProfileDeployment:
    return NewDataspaceProfileDeployment(cell_id=cell, profile_id=profile)


def test_a_new_cell_is_shown_in_the_order_of_the_contract(world: World) -> None:
    document = {
        "externalId": 'a "cell"',
        "state": "OFFLINE",
        "stateTimestamp": "2026-11-23T08:07:23.019245916+01:00",
        "properties": {"k": [1]},
    }
    cell_id, text = world.cells.create(NewCell.model_validate(document))
    assert list(json.loads(text.text).items()) == [
        ("id", cell_id),
        ("version", 0),
        ("externalId", 'a "cell"'),
        ("state", "offline"),
        ("stateTimestamp", "2026-11-23T07:07:23.019245Z"),
        ("properties", {"k": [1]}),
    ]
    assert world.cells.get(cell_id) == text


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("2026-11-23T07:07:23Z", "2026-11-23T07:07:23Z"),
        ("2026-11-23T07:07:23.500Z", "2026-11-23T07:07:23.5Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ("9999-12-31T23:59:59.999999999Z", "9999-12-31T23:59:59.999999Z"),
        (None, "0001-01-01T00:00:00Z"),
    ],
)
def test_the_timestamp_of_a_cell_is_kept(world: World, given: str | None, shown: str) -> None:
    document = {"state": "active"} | ({"stateTimestamp": given} if given else {})
    _, text = world.cells.create(NewCell.model_validate(document))
    assert json.loads(text.text)["stateTimestamp"] == shown


def test_cells_are_listed_by_id(world: World) -> None:
    assert world.cells.select("true", ALL).json == b"[]"
    ids = sorted(world.cell() for _ in range(3))
    assert [cell["id"] for cell in json.loads(world.cells.select("true", ALL).json)] == ids


def test_an_external_id_is_unique_unless_empty(world: World) -> None:
    world.cell(external_id="west")
    world.cell()
    world.cell()
    with pytest.raises(ConflictError, match="externalId"):
        world.cell(external_id="west")
    assert len(json.loads(world.cells.select("true", ALL).json)) == 3


def test_an_unused_cell_can_be_deleted(world: World) -> None:
    cell = world.cell()
    world.cells.delete(cell)
    with pytest.raises(NotFoundError):
        world.cells.get(cell)
    with pytest.raises(NotFoundError):
        world.cells.delete(cell)


def test_a_cell_with_a_dataspace_profile_cannot_be_deleted(world: World) -> None:
    cell = world.cell()
    dataspace = world.dataspace(cell)
    with pytest.raises(ConflictError, match=dataspace) as caught:
        world.cells.delete(cell)
    assert caught.value.context == {"usedBy": [{"kind": "dataspaceProfile", "id": dataspace}]}
    assert json.loads(world.cells.get(cell).text)["id"] == cell


def test_a_new_dataspace_profile_is_shown_in_the_order_of_the_contract(world: World) -> None:
    document = {
        "dataspaceSpec": {
            "protocolStack": ["dsp"],
            "credentialSpecs": [
                {"role": "oem", "id": "g", "type": "G", "issuer": "i", "format": "f"},
                {"id": "m", "role": ""},
            ],
        },
        "artifacts": ["a.json"],
        "properties": {"k": 1},
        "deployments": [{"cellId": ABSENT}],
    }
    profile_id, text = world.dataspace_profiles.create(NewDataspaceProfile.model_validate(document))
    shown = json.loads(text.text)
    assert shown == {
        "id": profile_id,
        "version": 0,
        "dataspaceSpec": {
            "protocolStack": ["dsp"],
            "credentialSpecs": [
                {"id": "g", "type": "G", "issuer": "i", "format": "f", "role": "oem"},
                {"id": "m", "type": "", "issuer": "", "format": ""},
            ],
        },
        "artifacts": ["a.json"],
        "properties": {"k": 1},
    }
    assert list(shown) == ["id", "version", "dataspaceSpec", "artifacts", "properties"]
    assert list(shown["dataspaceSpec"]) == ["protocolStack", "credentialSpecs"]
    assert list(shown["dataspaceSpec"]["credentialSpecs"][0]) == ["id", "type", "issuer", "format", "role"]
    assert world.dataspace_profiles.get(profile_id) == text


def test_an_empty_dataspace_profile_shows_an_empty_spec(world: World) -> None:
    profile_id, text = world.dataspace_profiles.create(NewDataspaceProfile())
    assert json.loads(text.text) == {"id": profile_id, "version": 0, "dataspaceSpec": {}}


def test_dataspace_profiles_are_listed_by_id(world: World) -> None:
    assert world.dataspace_profiles.select("true", ALL).json == b"[]"
    ids = sorted(world.dataspace() for _ in range(3))
    assert [profile["id"] for profile in json.loads(world.dataspace_profiles.select("true", ALL).json)] == ids


def test_a_deployment_is_shown_with_the_time_at_which_it_was_made(world: World) -> None:
    cell = world.cell(external_id="west")
    profile = world.dataspace()
    before = datetime.now(UTC)
    world.dataspace_profiles.deploy(profile, to(cell, profile))
    shown = json.loads(world.dataspace_profiles.get(profile).text)
    (deployment,) = shown["deployments"]
    assert list(deployment) == ["id", "version", "state", "stateTimestamp", "cellId", "externalCellId"]
    assert deployment["version"] == 0
    assert (deployment["state"], deployment["cellId"], deployment["externalCellId"]) == ("active", cell, "west")
    assert abs((datetime.fromisoformat(deployment["stateTimestamp"]) - before).total_seconds()) < 60
    assert shown["version"] == 1


def test_a_second_deployment_to_the_same_cell_changes_nothing(world: World) -> None:
    cell = world.cell()
    profile = world.dataspace(cell)
    first = world.dataspace_profiles.get(profile)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: world.dataspace_profiles.deploy(profile, to(cell)), range(4)))
    assert world.dataspace_profiles.get(profile) == first


def test_without_a_cell_every_active_one_is_taken(world: World) -> None:
    world.cell("offline")
    known, new = world.cell(), world.cell()
    profile = world.dataspace(known)
    (before,) = json.loads(world.dataspace_profiles.get(profile).text)["deployments"]
    world.dataspace_profiles.deploy(profile, NewDataspaceProfileDeployment())
    deployments = json.loads(world.dataspace_profiles.get(profile).text)["deployments"]
    assert {one["cellId"] for one in deployments} == {known, new}
    assert before in deployments
    assert world.dataspace_profiles.get(profile).version == 2
    world.dataspace_profiles.deploy(profile, NewDataspaceProfileDeployment())
    assert world.dataspace_profiles.get(profile).version == 2


def test_a_deployment_that_cannot_be_changes_nothing(world: World) -> None:
    profile = world.dataspace()
    with pytest.raises(RefusedError, match="there is no active cell"):
        world.dataspace_profiles.deploy(profile, to(""))
    offline = world.cell("offline")
    with pytest.raises(RefusedError, match=f"cell {offline} is offline, not active"):
        world.dataspace_profiles.deploy(profile, to(offline))
    active = world.cell()
    for unknown in (ABSENT, "no-uuid"):
        with pytest.raises(NotFoundError, match="cell"):
            world.dataspace_profiles.deploy(profile, to(unknown))
        with pytest.raises(NotFoundError, match="dataspace profile"):
            world.dataspace_profiles.deploy(unknown, to(active))
    with pytest.raises(ValidationError, match="profileId"):
        world.dataspace_profiles.deploy(profile, to(active, ABSENT))
    assert json.loads(world.dataspace_profiles.get(profile).text)["version"] == 0


def test_a_dataspace_profile_goes_with_its_deployments(world: World) -> None:
    cell = world.cell()
    profile = world.dataspace(cell)
    world.dataspace_profiles.delete(profile)
    with pytest.raises(NotFoundError):
        world.dataspace_profiles.get(profile)
    with pytest.raises(NotFoundError):
        world.dataspace_profiles.delete(profile)
    world.cells.delete(cell)


def test_what_a_participant_uses_cannot_be_deleted_until_it_is_disposed(world: World) -> None:
    tenant, cell = world.tenant(), world.cell()
    dataspace = world.dataspace(cell)
    profile = world.deploy(tenant)
    world.respond(deployed(profile["id"], profile["orchestrationId"]))
    with pytest.raises(ConflictError) as caught:
        world.dataspace_profiles.delete(dataspace)
    assert caught.value.context == {"usedBy": [{"kind": "participantProfile", "id": profile["id"]}]}
    with pytest.raises(ConflictError) as caught:
        world.cells.delete(cell)
    assert {"kind": "participantProfile", "id": profile["id"]} in caught.value.context["usedBy"]  # type: ignore[operator]

    world.participant_profiles.dispose(tenant, profile["id"])
    world.respond(disposed(profile["id"], world.manifests()[-1]["id"]))
    world.dataspace_profiles.delete(dataspace)
    world.cells.delete(cell)
    assert world.state(tenant, profile["id"]) == "disposed"
