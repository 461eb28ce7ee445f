"""The virtualization model: who takes part where, with which identity, agents and cells.

Source: system architecture, "Service Virtualization Model".
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from cfm_core.errors import ConflictError, NotFoundError, PreconditionFailedError, RefusedError
from cfm_core.tenancy.cells.model import CellOption
from cfm_core.tenancy.cells.v1alpha1 import CellDiff, NewCell
from cfm_core.tenancy.dataspace_profiles.v1alpha1 import NewDataspaceProfile, NewDataspaceProfileDeployment
from cfm_core.tenancy.ids import is_id
from cfm_core.tenancy.participant_profiles.v1alpha1 import NewParticipantProfileDeployment
from cfm_core.versions import Expected
from tests.contract.tenancy.world import ABSENT, ALL, World, deployed

CHOSEN = "11111111-2222-4333-8444-555555555555"


def dataspace_document(**fields: Any) -> NewDataspaceProfile:
    return NewDataspaceProfile.model_validate(fields)


def deployments_of(world: World, dataspace: str, predicate: str = "true") -> list[dict[str, Any]]:
    return list(json.loads(world.dataspace_profiles.deployments(dataspace, predicate, ALL).json))


# Identities -------------------------------------------------------------------------------------------------------------


def test_with_one_identity_for_each_dataspace_an_organization_has_a_profile_for_each(world: World) -> None:
    acme, cell = world.tenant(name="Acme Industries"), world.cell()
    dataspaces = [world.dataspace(cell), world.dataspace(cell)]
    dids = ["did:web:acme.example:one", "did:web:acme.example:two"]
    profiles = [
        world.deploy(acme, did, dataspaceProfileIds=[dataspace])
        for did, dataspace in zip(dids, dataspaces, strict=True)
    ]
    assert [profile["tenantId"] for profile in profiles] == [acme, acme]
    assert [profile["identifier"] for profile in profiles] == dids
    assert [profile["dataspaceProfileIds"] for profile in profiles] == [[dataspace] for dataspace in dataspaces]
    assert len({vpa["id"] for profile in profiles for vpa in profile["vpas"]}) == 8
    listed = json.loads(world.participant_profiles.select_of(acme, "true", ALL).json)
    assert {profile["id"] for profile in listed} == {profile["id"] for profile in profiles}


def test_with_one_identity_for_several_dataspaces_an_organization_has_one_profile(world: World) -> None:
    acme, cell = world.tenant(name="Acme Industries"), world.cell()
    credentials = [{"id": name, "type": "M", "issuer": "i", "format": "f"} for name in ("one", "two")]
    dataspaces = [world.dataspace(cell, credentials=[credential]) for credential in credentials]
    profile = world.deploy(acme, "did:web:acme.example", dataspaceProfileIds=dataspaces)
    assert profile["dataspaceProfileIds"] == sorted(dataspaces)
    assert len(profile["vpas"]) == 4
    (manifest,) = world.manifests()
    assert {spec["id"] for spec in manifest["payload"]["cfm.vpa.credentials"]} == {"one", "two"}
    with pytest.raises(ConflictError, match="identifier"):
        world.deploy(acme, "did:web:acme.example", dataspaceProfileIds=dataspaces[:1])


# Agents -----------------------------------------------------------------------------------------------------------------


def test_a_participant_can_have_two_data_planes(world: World) -> None:
    tenant, cloud, edge = world.tenant(), world.cell(external_id="cloud"), world.cell(external_id="edge")
    world.dataspace(cloud, edge)
    profile = world.deploy(
        tenant,
        cellId=cloud,
        vpas=[
            {"type": "cfm.dataplane", "properties": {"shares": "api"}},
            {"type": "cfm.dataplane", "cellId": edge, "properties": {"shares": "stream"}},
        ],
        vpaProperties={"cfm.dataplane": {"shares": "nothing", "tls": True}},
    )
    assert [(vpa["type"], vpa["cellId"], vpa.get("properties")) for vpa in profile["vpas"]] == [
        ("cfm.connector", cloud, None),
        ("cfm.credentialservice", cloud, None),
        ("cfm.dataplane", cloud, {"shares": "api", "tls": True}),
        ("cfm.dataplane", edge, {"shares": "stream", "tls": True}),
        ("cfm.issuer", cloud, None),
    ]
    (manifest,) = world.manifests()
    assert [vpa["externalCellId"] for vpa in manifest["payload"]["cfm.vpa.data"]] == [
        *("cloud", "cloud", "cloud", "edge", "cloud"),
    ]
    assert world.profile(tenant, profile["id"])["vpas"] == profile["vpas"]


def test_properties_by_type_go_to_every_vpa_of_the_type(world: World) -> None:
    tenant = world.tenant()
    world.dataspace(world.cell())
    profile = world.deploy(tenant, vpas=[{"type": "x"}, {"type": "x"}], vpaProperties={"x": {"k": 1}, "y": {"k": 1}})
    assert [vpa["properties"] for vpa in profile["vpas"] if vpa["type"] == "x"] == [{"k": 1}, {"k": 1}]
    assert len(profile["vpas"]) == 6


def test_dataspaces_say_by_their_artifacts_which_agents_they_need(world: World) -> None:
    tenant, cell = world.tenant(), world.cell()
    data, edge = world.dataspace(cell, artifacts=["cfm.dataplane"]), world.dataspace(cell, artifacts=['cfm.vpa:a"b'])
    silent = world.dataspace(cell, artifacts=["a.json"])

    def types(identifier: str, *dataspaces: str, **fields: Any) -> list[str]:
        profile = world.deploy(tenant, identifier, dataspaceProfileIds=list(dataspaces), **fields)
        return [vpa["type"] for vpa in world.profile(tenant, profile["id"])["vpas"]]

    assert types("did:1", data) == ["cfm.dataplane"]
    assert types("did:2", data, edge, silent) == ["cfm.dataplane", 'a"b']
    assert types("did:3", silent) == ["cfm.connector", "cfm.credentialservice", "cfm.dataplane", "cfm.issuer"]
    assert types("did:4", data, vpas=[{"type": "cfm.issuer"}]) == ["cfm.dataplane", "cfm.issuer"]


@pytest.mark.parametrize(
    ("vpas", "pointer", "detail"),
    [
        ([{"type": "x"}, {"type": "y", "cellId": ABSENT}], "/vpas/1/cellId", "there is no cell"),
        ([{"type": "x", "cellId": "{offline}"}], "/vpas/0/cellId", "is offline, not active"),
        ([{"type": "x", "cellId": "{bare}"}], "/vpas/0/cellId", "not deployed to cell"),
        ([{"type": "x"}] * 61, "/vpas", "at most 64 VPAs, and not 65"),
    ],
)
def test_a_vpa_that_the_model_refuses_is_pointed_at(world: World, vpas: Any, pointer: str, detail: str) -> None:
    cells = {"{offline}": world.cell("offline"), "{bare}": world.cell()}
    world.dataspace(world.cell())
    named = [vpa | {"cellId": cells.get(vpa.get("cellId"), vpa.get("cellId", ""))} for vpa in vpas]
    with pytest.raises(RefusedError, match=detail) as caught:
        world.deploy(world.tenant(), vpas=named)
    assert [error.pointer for error in caught.value.errors] == [pointer]
    assert world.sent() == []


# Cells ------------------------------------------------------------------------------------------------------------------


def test_participants_are_spread_over_the_cells_by_their_load(world: World) -> None:
    tenant, cells = world.tenant(), sorted(world.cell() for _ in range(3))
    dataspace = world.dataspace(*cells)

    def placed(number: int, **fields: Any) -> str:
        profile = world.deploy(tenant, f"did:{number}", dataspaceProfileIds=[dataspace], **fields)
        (cell,) = {vpa["cellId"] for vpa in profile["vpas"]}
        world.respond(deployed(profile["id"], profile["orchestrationId"]))
        profiles[number] = profile["id"]
        return str(cell)

    profiles: dict[int, str] = {}
    assert [placed(number) for number in range(6)] == [*cells, *cells]
    world.dispose(tenant, profiles[4])
    assert [placed(number) for number in range(6, 8)] == [cells[1], cells[0]]
    assert placed(8, cellId=cells[0]) == cells[0]
    world.deploy_again(tenant, profiles[4])
    assert [placed(number) for number in range(9, 11)] == [cells[2], cells[1]]


def test_another_selection_may_choose_the_cells(world: World) -> None:
    tenant, cells = world.tenant(), sorted(world.cell() for _ in range(3))
    world.dataspace(*cells)
    profiles = world.selecting(lambda fit: fit[-1])
    for number in range(2):
        _, answer = profiles.deploy(tenant, NewParticipantProfileDeployment(identifier=f"did:{number}"))
        assert {vpa["cellId"] for vpa in json.loads(answer.text)["vpas"]} == {cells[-1]}


def test_what_has_changed_since_it_was_looked_at_is_looked_at_again(world: World) -> None:
    tenant, cells = world.tenant(), sorted(world.cell() for _ in range(2))
    world.dataspace(*cells)

    def goes_offline(fit: Sequence[CellOption]) -> CellOption:
        """Takes a cell just as it is being moved offline, as long as there are several."""
        if len(fit) > 1:
            world.cells.change(fit[0].id, CellDiff.model_validate({"state": "offline"}))
        return fit[0]

    profiles = world.selecting(goes_offline)
    _, answer = profiles.deploy(tenant, NewParticipantProfileDeployment(identifier="did:1"))
    assert {vpa["cellId"] for vpa in json.loads(answer.text)["vpas"]} == {cells[1]}
    assert len(world.manifests()) == 1


def test_what_does_not_hold_any_more_is_told_exactly(world: World) -> None:
    tenant, cell = world.tenant(), world.cell()
    dataspace = world.dataspace(cell)

    def ends(fit: Sequence[CellOption]) -> CellOption:
        world.dataspace_profiles.delete(dataspace)
        return fit[0]

    wanted = NewParticipantProfileDeployment(identifier="did:1", dataspace_profile_ids=[dataspace])
    with pytest.raises(RefusedError, match="there is no dataspace profile") as caught:
        world.selecting(ends).deploy(tenant, wanted)
    assert [error.pointer for error in caught.value.errors] == ["/dataspaceProfileIds/0"]
    assert world.sent() == []


def test_the_load_of_a_cell_counts_participants_and_not_their_agents(world: World) -> None:
    tenant, cells = world.tenant(), sorted(world.cell() for _ in range(2))
    dataspace = world.dataspace(*cells)
    world.deploy(tenant, "did:1", dataspaceProfileIds=[dataspace], cellId=cells[0], vpas=[{"type": "x"}] * 9)
    basis = world.participant_profile_store.basis(tenant, [])  # type: ignore[arg-type]
    assert {cell.id: cell.load for cell in basis.cells} == {cells[0]: 1, cells[1]: 0}
    world.deploy(tenant, "did:2", cellId=cells[0], vpas=[{"type": "x", "cellId": cells[1]}])
    basis = world.participant_profile_store.basis(tenant, [])  # type: ignore[arg-type]
    assert {cell.id: cell.load for cell in basis.cells} == {cells[0]: 2, cells[1]: 1}


def test_a_cell_that_goes_offline_keeps_its_participants_and_takes_no_others(world: World) -> None:
    west, east = world.cell(), world.cell()
    world.dataspace(west, east)
    tenant, profile = world.live_participant(cellId=west)
    world.cells.change(west, CellDiff.model_validate({"state": "offline"}))
    assert world.state(tenant, profile) == "active"
    cells = Counter(vpa["cellId"] for n in range(3) for vpa in world.deploy(tenant, f"did:{n}")["vpas"])
    assert cells == {east: 12}
    world.dispose(tenant, profile)
    assert {vpa["cellId"] for vpa in world.deploy_again(tenant, profile)["vpas"]} == {east}


def test_the_external_id_of_a_cell_stays_while_participants_know_it(world: World) -> None:
    cell = world.cell(external_id="west")
    world.dataspace(cell)
    tenant, profile = world.live_participant()
    other = NewCell.model_validate({"state": "active", "externalId": "east"})
    with pytest.raises(ConflictError, match="external id") as caught:
        world.cells.put(cell, other)
    assert caught.value.context == {"usedBy": [{"kind": "participantProfile", "id": profile}]}
    world.dispose(tenant, profile)
    world.cells.put(cell, other)
    world.deploy_again(tenant, profile)
    assert {vpa["externalCellId"] for vpa in world.manifests()[-1]["payload"]["cfm.vpa.data"]} == {"east"}


# Dataspace profiles -----------------------------------------------------------------------------------------------------


def test_a_dataspace_profile_is_put_under_an_id_that_the_caller_chooses(world: World) -> None:
    is_new, created = world.dataspace_profiles.put(CHOSEN, dataspace_document(artifacts=["a"], properties={"k": 1}))
    shown = {"id": CHOSEN, "version": 0, "dataspaceSpec": {}, "artifacts": ["a"], "properties": {"k": 1}}
    assert (is_new, json.loads(created.text)) == (True, shown)
    assert world.dataspace_profiles.get(CHOSEN) == created


def test_a_dataspace_profile_is_replaced_while_participants_use_it_and_keeps_its_deployments(world: World) -> None:
    dataspace = world.dataspace(world.cell(), credentials=[{"id": "old"}])
    tenant, profile = world.live_participant()
    before = json.loads(world.dataspace_profiles.get(dataspace).text)
    wanted = dataspace_document(dataspaceSpec={"credentialSpecs": [{"id": "new"}]})
    is_new, replaced = world.dataspace_profiles.put(dataspace, wanted)
    assert (is_new, replaced.version) == (False, before["version"] + 1)
    assert json.loads(replaced.text)["deployments"] == before["deployments"]
    assert world.dataspace_profiles.get(dataspace) == replaced
    assert len(world.manifests()) == 1
    world.change(tenant, profile, participantRoles={dataspace: ["any"]})
    assert [spec["id"] for spec in world.manifests()[-1]["payload"]["cfm.vpa.credentials"]] == ["new"]


def test_the_deployments_of_a_dataspace_profile_are_listed_by_id(world: World) -> None:
    cells = [world.cell(external_id=name) for name in ("a", "b", "c")]
    dataspace, _ = world.dataspace(*cells), world.dataspace(cells[0])
    shown = json.loads(world.dataspace_profiles.get(dataspace).text)["deployments"]
    assert deployments_of(world, dataspace) == sorted(shown, key=lambda one: str(one["id"]))
    assert [one["externalCellId"] for one in deployments_of(world, dataspace, f"cellId = '{cells[1]}'")] == ["b"]
    for unknown in (ABSENT, "no-uuid"):
        with pytest.raises(NotFoundError, match="dataspace profile"):
            deployments_of(world, unknown)


def test_a_dataspace_profile_is_taken_from_a_cell_that_nobody_uses_it_on(world: World) -> None:
    west, east = world.cell(), world.cell()
    dataspace, other = world.dataspace(west, east), world.dataspace(west)
    tenant, profile = world.live_participant(cellId=west, dataspaceProfileIds=[dataspace])
    by_cell = {one["cellId"]: one["id"] for one in deployments_of(world, dataspace)}
    with pytest.raises(ConflictError, match=f"dataspace profile {dataspace} on cell {west}") as caught:
        world.dataspace_profiles.undeploy(dataspace, by_cell[west])
    assert caught.value.context == {"usedBy": [{"kind": "participantProfile", "id": profile}]}
    before = world.dataspace_profiles.get(dataspace).version
    world.dataspace_profiles.undeploy(dataspace, by_cell[east])
    assert [one["cellId"] for one in deployments_of(world, dataspace)] == [west]
    assert world.dataspace_profiles.get(dataspace).version == before + 1
    for profile_id, deployment in ((dataspace, by_cell[east]), (other, by_cell[west]), (dataspace, "no-uuid")):
        with pytest.raises(NotFoundError, match="deployment"):
            world.dataspace_profiles.undeploy(profile_id, deployment)
    world.dispose(tenant, profile)
    world.dataspace_profiles.undeploy(dataspace, by_cell[west])
    assert deployments_of(world, dataspace) == []
    world.dataspace_profiles.deploy(dataspace, NewDataspaceProfileDeployment(cell_id=west))
    (again,) = deployments_of(world, dataspace)
    assert is_id(again["id"])
    assert again["id"] != by_cell[west]


def test_whoever_means_all_dataspaces_uses_those_on_its_cell(world: World) -> None:
    cell = world.cell()
    dataspace = world.dataspace(cell)
    world.live_participant()
    (deployment,) = deployments_of(world, dataspace)
    with pytest.raises(ConflictError):
        world.dataspace_profiles.undeploy(dataspace, deployment["id"])


def test_a_dataspace_profile_in_another_version_stays_as_it_is(world: World) -> None:
    cell, other = world.cell(), world.cell()
    dataspace = world.dataspace(cell)
    (deployment,) = deployments_of(world, dataspace)
    before = world.dataspace_profiles.get(dataspace)
    stale, absent = Expected(frozenset({0}), exists=True), Expected(exists=False)
    profiles = world.dataspace_profiles
    for act in (
        lambda: profiles.put(dataspace, dataspace_document(), stale),
        lambda: profiles.put(dataspace, dataspace_document(), absent),
        lambda: profiles.delete(dataspace, stale),
        lambda: profiles.deploy(dataspace, NewDataspaceProfileDeployment(cell_id=other), stale),
        lambda: profiles.undeploy(dataspace, deployment["id"], stale),
    ):
        with pytest.raises(PreconditionFailedError):
            act()
    assert world.dataspace_profiles.get(dataspace) == before
    with pytest.raises(PreconditionFailedError):
        profiles.put(CHOSEN, dataspace_document(), Expected(exists=True))
    fresh = Expected(frozenset({before.version}), exists=True)
    profiles.undeploy(dataspace, deployment["id"], fresh)
