from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest

from cfm_core.contracts.orchestration import DEPLOY, DISPOSE
from cfm_core.errors import ConflictError, NotFoundError, RefusedError, ValidationError
from cfm_core.query import Page
from tests.contract.tenancy.world import ABSENT, ALL, World, deploy_failed, deployed, disposed

MEMBERSHIP = {"id": "m", "type": "M", "issuer": "i", "format": "f"}
GOVERNANCE = MEMBERSHIP | {"id": "g", "role": "oem"}


def profiles_of(world: World, tenant: str) -> list[dict[str, Any]]:
    return list(json.loads(world.participant_profiles.select_of(tenant, "true", ALL).json))


def test_a_deployed_profile_is_shown_in_the_order_of_the_contract(world: World) -> None:
    tenant, cell = world.tenant(), world.cell(external_id="west")
    dataspace = world.dataspace(cell)
    before = datetime.now(UTC)
    answer = world.deploy(
        tenant,
        'did:web:"foo"',
        dataspaceProfileIds=[dataspace, dataspace],
        participantRoles={dataspace: ["oem"]},
        vpaProperties={"cfm.connector": {"k": "v"}, "cfm.dataplane": {}, "cfm.other": {"ignored": True}},
        properties={"pp": "v"},
    )
    assert answer.pop("orchestrationId") == world.manifests()[0]["id"]
    vpas = answer["vpas"]
    assert answer == {
        "id": answer["id"],
        "version": 0,
        "identifier": 'did:web:"foo"',
        "tenantId": tenant,
        "participantRoles": {dataspace: ["oem"]},
        "vpas": vpas,
        "properties": {"pp": "v"},
        "error": False,
        "dataspaceProfileIds": [dataspace],
    }
    assert list(answer) == [
        *("id", "version", "identifier", "tenantId", "participantRoles", "vpas", "properties", "error"),
        "dataspaceProfileIds",
    ]
    types = ["cfm.connector", "cfm.credentialservice", "cfm.dataplane", "cfm.issuer"]
    assert [vpa["type"] for vpa in vpas] == types
    assert list(vpas[0]) == ["id", "version", "state", "stateTimestamp", "type", "cellId", "properties"]
    assert [vpa.get("properties") for vpa in vpas] == [{"k": "v"}, None, None, None]
    assert {(vpa["version"], vpa["state"], vpa["cellId"]) for vpa in vpas} == {(0, "pending", cell)}
    assert len({vpa["id"] for vpa in vpas}) == 4
    for vpa in vpas:
        assert abs((datetime.fromisoformat(vpa["stateTimestamp"]) - before).total_seconds()) < 60
    assert world.profile(tenant, answer["id"]) == answer
    assert profiles_of(world, tenant) == [answer]


def test_a_deployment_sends_one_manifest(world: World) -> None:
    tenant, cell = world.tenant(), world.cell(external_id="west")
    dataspace = world.dataspace(cell, credentials=[GOVERNANCE, MEMBERSHIP, GOVERNANCE | {"role": "other"}])
    answer = world.deploy(tenant, participantRoles={dataspace: ["oem"]}, vpaProperties={"cfm.connector": {"k": "v"}})
    (event,) = world.sent()
    assert event["data"] == {
        "id": answer["orchestrationId"],
        "correlationId": answer["id"],
        "orchestrationType": DEPLOY,
        "payload": {
            "cfm.tenant.id": tenant,
            "cfm.participant.id": "did:web:foo",
            "cfm.vpa.data": [
                {"id": vpa["id"], "vpaType": vpa["type"], "cellId": cell, "externalCellId": "west"}
                | ({"properties": vpa["properties"]} if "properties" in vpa else {})
                for vpa in answer["vpas"]
            ],
            "cfm.vpa.credentials": [GOVERNANCE, MEMBERSHIP | {"role": ""}],
        },
    }
    assert event["id"] == answer["orchestrationId"]


def test_a_participant_without_roles_shows_an_empty_map(world: World) -> None:
    tenant, profile, _ = world.participant()
    assert world.profile(tenant, profile)["participantRoles"] == {}
    assert world.manifests()[0]["payload"]["cfm.vpa.credentials"] == []


def test_no_dataspace_profiles_means_all_of_the_system(world: World) -> None:
    tenant, cell = world.tenant(), world.cell()
    dataspaces = sorted([world.dataspace(cell), world.dataspace()])
    profile = world.deploy(tenant)
    for dataspace in dataspaces:
        page = world.participant_profiles.select(f"dataspaceProfileIds = '{dataspace}'", ALL)
        assert [one["id"] for one in json.loads(page.json)] == [profile["id"]]


def test_a_named_cell_is_honoured(world: World) -> None:
    tenant, cells = world.tenant(), [world.cell() for _ in range(3)]
    dataspace = world.dataspace(*cells)
    for number, cell in enumerate(cells):
        profile = world.deploy(tenant, f"did:{number}", cellId=cell, dataspaceProfileIds=[dataspace])
        assert {vpa["cellId"] for vpa in profile["vpas"]} == {cell}


def test_the_cell_serves_every_dataspace_profile_that_is_named(world: World) -> None:
    tenant, cells = world.tenant(), [world.cell() for _ in range(3)]
    one, two = world.dataspace(*cells), world.dataspace(cells[1])
    profile = world.deploy(tenant, dataspaceProfileIds=[one, two])
    assert {vpa["cellId"] for vpa in profile["vpas"]} == {cells[1]}


def refusals(world: World, tenant: str) -> list[tuple[str, dict[str, Any]]]:
    """Deployments that the model refuses, with what is said about them."""
    active, offline, bare = world.cell(), world.cell("offline"), world.cell()
    here, there = world.dataspace(active), world.dataspace(world.cell())
    return [
        (f"there is no dataspace profile '{ABSENT}'", {"dataspaceProfileIds": [here, ABSENT]}),
        ("there is no dataspace profile 'no-uuid'", {"dataspaceProfileIds": ["no-uuid"]}),
        (f"roles are given for '{there}'", {"dataspaceProfileIds": [here], "participantRoles": {there: ["oem"]}}),
        ("roles are given for 'no-uuid'", {"participantRoles": {"no-uuid": []}}),
        (f"cell {offline} is offline, not active", {"cellId": offline}),
        (f"there is no cell '{ABSENT}'", {"cellId": ABSENT}),
        ("there is no cell 'no-uuid'", {"cellId": "no-uuid"}),
        (f"not deployed to cell {bare}: dataspace profile {here}", {"cellId": bare, "dataspaceProfileIds": [here]}),
        (f"not deployed to cell {bare}: dataspace profile", {"cellId": bare}),
        ("no active cell found that all of the dataspace profiles are", {"dataspaceProfileIds": [here, there]}),
    ]


def test_what_the_model_refuses_leaves_nothing_behind(world: World) -> None:
    tenant = world.tenant()
    with pytest.raises(RefusedError, match="no dataspace profiles found"):
        world.deploy(tenant)
    world.dataspace()
    with pytest.raises(RefusedError, match="no active cell found"):
        world.deploy(tenant)
    for detail, fields in refusals(world, tenant):
        with pytest.raises(RefusedError) as caught:
            world.deploy(tenant, **fields)
        assert detail in str(caught.value)
    assert profiles_of(world, tenant) == []
    assert world.sent() == []


@pytest.mark.parametrize("tenant", [ABSENT, "no-uuid", "a\0b"])
def test_a_deployment_for_an_unknown_tenant_is_not_found(world: World, tenant: str) -> None:
    world.dataspace(world.cell())
    with pytest.raises(NotFoundError, match="tenant"):
        world.deploy(tenant)
    assert world.sent() == []
    assert profiles_of(world, tenant) == []


def test_an_identifier_is_free_again_once_its_profile_is_disposed(world: World) -> None:
    tenant, profile, manifest = world.participant()
    with pytest.raises(ConflictError, match="identifier"):
        world.deploy(world.tenant())
    assert len(world.sent()) == 1
    world.respond(deployed(profile, manifest))
    world.participant_profiles.dispose(tenant, profile)
    with pytest.raises(ConflictError, match="identifier"):
        world.deploy(tenant)
    world.respond(disposed(profile, world.manifests()[-1]["id"]))
    assert world.deploy(tenant)["id"] != profile


def test_of_deployments_at_the_same_time_with_one_identifier_one_wins(world: World) -> None:
    tenant = world.tenant()
    world.dataspace(world.cell())

    def attempt(_: int) -> bool:
        try:
            world.deploy(tenant)
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(attempt, range(8))) == 1
    assert len(profiles_of(world, tenant)) == len(world.sent()) == 1


def test_whoever_deletes_at_the_same_time_either_stops_the_deployment_or_is_stopped(world: World) -> None:
    for number in range(10):
        tenant, cell = world.tenant(), world.cell()
        dataspace = world.dataspace(cell)

        def deploy() -> None:
            world.deploy(tenant, f"did:{number}", dataspaceProfileIds=[dataspace])  # noqa: B023

        def delete_dataspace() -> None:
            world.dataspace_profiles.delete(dataspace)  # noqa: B023

        def delete_tenant() -> None:
            world.tenants.delete(tenant)  # noqa: B023

        def done(action: Callable[[], None]) -> bool:
            with contextlib.suppress(NotFoundError, ConflictError, RefusedError, ValidationError):
                action()
                return True
            return False

        with ThreadPoolExecutor(3) as threads:
            was_deployed, dataspace_gone, tenant_gone = threads.map(done, [deploy, delete_dataspace, delete_tenant])
        assert was_deployed != (dataspace_gone or tenant_gone)


def test_the_profile_of_another_tenant_is_not_found(world: World) -> None:
    _, profile, manifest = world.participant()
    world.respond(deployed(profile, manifest))
    other = world.tenant()
    for tenant, profile_id in ((other, profile), (ABSENT, profile), ("no-uuid", profile), (other, "a\0b")):
        with pytest.raises(NotFoundError, match="participant profile"):
            world.participant_profiles.get(tenant, profile_id)
        with pytest.raises(NotFoundError, match="participant profile"):
            world.participant_profiles.dispose(tenant, profile_id)
    assert len(world.sent()) == 1


def test_an_active_profile_is_disposed_with_what_its_deployment_left(world: World) -> None:
    tenant, profile, manifest = world.participant()
    world.respond(deployed(profile, manifest, participantContextId="pc-1"))
    before = world.profile(tenant, profile)
    world.participant_profiles.dispose(tenant, profile)
    after = world.profile(tenant, profile)
    assert {vpa["state"] for vpa in after["vpas"]} == {"disposing"}
    assert after["version"] == before["version"] + 1
    assert {vpa["version"] for vpa in after["vpas"]} == {2}
    deploy, dispose = world.manifests()
    assert dispose == {
        "id": dispose["id"],
        "correlationId": profile,
        "orchestrationType": DISPOSE,
        "payload": {
            "cfm.tenant.id": tenant,
            "cfm.participant.id": "did:web:foo",
            "cfm.vpa.data": deploy["payload"]["cfm.vpa.data"],
            "cfm.vpa.state": {"participantContextId": "pc-1"},
        },
    }
    assert dispose["id"] != manifest


def test_a_profile_in_error_can_be_disposed(world: World) -> None:
    tenant, profile, manifest = world.participant()
    world.respond(deploy_failed(profile, manifest))
    world.participant_profiles.dispose(tenant, profile)
    assert world.manifests()[-1]["payload"]["cfm.vpa.state"] == {}
    assert world.state(tenant, profile) == "disposing"


def test_a_profile_in_any_other_state_cannot_be_disposed(world: World) -> None:
    tenant, profile, manifest = world.participant()

    def refused(state: str, *allowed: str) -> None:
        before = world.profile(tenant, profile), world.sent()
        with pytest.raises(ConflictError, match=state) as caught:
            world.participant_profiles.dispose(tenant, profile)
        assert caught.value.context == {"state": state, "allowedActions": list(allowed)}
        assert (world.profile(tenant, profile), world.sent()) == before

    refused("pending")
    world.respond(deployed(profile, manifest))
    world.participant_profiles.dispose(tenant, profile)
    refused("disposing")
    world.respond(disposed(profile, world.manifests()[-1]["id"]))
    refused("disposed", "deploy", "purge")


def test_of_disposals_at_the_same_time_one_wins(world: World) -> None:
    tenant, profile, manifest = world.participant()
    world.respond(deployed(profile, manifest))

    def attempt(_: int) -> bool:
        try:
            world.participant_profiles.dispose(tenant, profile)
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(attempt, range(8))) == 1
    assert len(world.sent()) == 2


@pytest.mark.parametrize(
    ("predicate", "matches"),
    [
        ("identifier = 'did:web:foo'", True),
        ("identifier = 'did:web:bar'", False),
        ("tenantId = '{tenant}'", True),
        ("tenantid = '{tenant}' AND error = false", True),
        ("error = true", False),
        ("errorDetail = ''", True),
        ("dataspaceProfileIds = '{dataspace}'", True),
        ("dataspaceProfileIds = 'x'", False),
        ("participantRoles.`{dataspace}` = 'oem'", True),
        ("participantRoles.`{dataspace}` = 'other'", False),
        ("vpas.state = 'pending'", True),
        ("vpas.state = 'active'", False),
        ("vpas.type = 'cfm.issuer' AND vpas.externalCellId = 'west'", True),
        ("vpas.properties.k = 'v'", True),
        ("vpas.properties.k = 'w'", False),
        ("vpas.version = 0", True),
        ("properties.a.b = 1", True),
    ],
)
def test_a_predicate_finds_profiles_of_all_tenants(world: World, predicate: str, matches: bool) -> None:
    tenant, cell = world.tenant(), world.cell(external_id="west")
    dataspace = world.dataspace(cell)
    profile = world.deploy(
        tenant,
        participantRoles={dataspace: ["x", "oem"]},
        vpaProperties={"cfm.dataplane": {"k": "v"}},
        properties={"a": {"b": 1}},
    )
    page = world.participant_profiles.select(predicate.format(tenant=tenant, dataspace=dataspace), ALL)
    assert [one["id"] for one in json.loads(page.json)] == ([profile["id"]] if matches else [])
    assert page.total == int(matches)


def test_profiles_are_listed_by_id(world: World) -> None:
    tenant = world.tenant()
    world.dataspace(world.cell())
    ids = sorted(world.deploy(tenant, f"did:{number}")["id"] for number in range(4))
    assert [profile["id"] for profile in profiles_of(world, tenant)] == ids
    page = world.participant_profiles.select("true", Page(1, 2))
    assert ([profile["id"] for profile in json.loads(page.json)], page.total) == (ids[1:3], 4)
