from __future__ import annotations

import json
from typing import Any

import pytest

from cfm_core.contracts.orchestration import DEPLOY, OrchestrationResponse
from cfm_core.errors import ConflictError, NotFoundError, PreconditionFailedError, RefusedError, ValidationError
from cfm_core.tenancy.cells.v1alpha1 import CellDiff
from cfm_core.tenancy.participant_profiles.model import Verdict
from cfm_core.tenancy.participant_profiles.v1alpha1 import ParticipantProfileDiff
from cfm_core.versions import Expected
from tests.contract.tenancy.world import (
    ABSENT,
    EAGER,
    World,
    deploy_failed,
    deployed,
    dispose_failed,
    disposed,
)

APPLIED, IGNORED, EARLY = Verdict.APPLIED, Verdict.IGNORED, Verdict.EARLY


def outcome(world: World, tenant: str, profile: str) -> tuple[str, bool, str]:
    shown = world.profile(tenant, profile)
    return world.state(tenant, profile), shown["error"], shown.get("errorDetail", "")


def failed_participant(world: World) -> tuple[str, str, str]:
    """A profile whose deployment has failed: the ids of its tenant, itself and its deploy manifest."""
    tenant, profile, manifest = world.participant()
    world.respond(deploy_failed(profile, manifest))
    return tenant, profile, manifest


def cells_of(profile: dict[str, Any]) -> list[str]:
    return [vpa["cellId"] for vpa in profile["vpas"]]


# Again ------------------------------------------------------------------------------------------------------------------


def test_a_profile_in_error_is_deployed_again_and_a_success_clears_its_error(world: World) -> None:
    tenant, profile, first = failed_participant(world)
    before = world.profile(tenant, profile)
    answer = world.deploy_again(tenant, profile)
    manifest = answer.pop("orchestrationId")
    assert world.profile(tenant, profile) == answer
    assert outcome(world, tenant, profile) == ("pending", True, "no space")
    assert answer["version"] == before["version"] + 1
    assert [vpa["id"] for vpa in answer["vpas"]] == [vpa["id"] for vpa in before["vpas"]]
    assert all(
        (new["version"], new["stateTimestamp"] > old["stateTimestamp"]) == (old["version"] + 1, True)
        for new, old in zip(answer["vpas"], before["vpas"], strict=True)
    )
    original, sent = world.manifests()
    assert sent == original | {"id": manifest}
    assert manifest != first
    assert world.respond(deployed(profile, manifest)) == [APPLIED]
    assert outcome(world, tenant, profile) == ("active", False, "")


def test_a_deployment_that_was_compensated_begins_anew(world: World) -> None:
    tenant, profile, manifest = failed_participant(world)
    world.respond(disposed(profile, f"{manifest}.compensate"))
    assert world.profile(tenant, profile)["properties"] == {"cfm.vpa.state": {}}
    answer = world.deploy_again(tenant, profile)
    assert "properties" not in answer
    assert "cfm.vpa.state" not in world.manifests()[-1]["payload"]
    world.respond(deploy_failed(profile, answer["orchestrationId"], "again"))
    assert world.respond(disposed(profile, f"{answer['orchestrationId']}.compensate")) == [APPLIED]
    assert outcome(world, tenant, profile) == ("disposed", True, "again")


def test_a_disposed_profile_is_deployed_again_without_what_its_deployment_had_left(world: World) -> None:
    world.dataspace(world.cell())
    tenant, profile = world.live_participant(properties={"kept": 1})
    world.dispose(tenant, profile)
    assert world.profile(tenant, profile)["properties"] == {"kept": 1, "cfm.vpa.state": {"context": "pc-1"}}
    answer = world.deploy_again(tenant, profile)
    assert answer["properties"] == {"kept": 1}
    assert "cfm.vpa.state" not in world.manifests()[-1]["payload"]
    world.respond(deployed(profile, answer["orchestrationId"], context="pc-2"))
    assert world.profile(tenant, profile)["properties"] == {"kept": 1, "cfm.vpa.state": {"context": "pc-2"}}


def test_what_could_not_be_disposed_is_deployed_again_as_live(world: World) -> None:
    world.dataspace(world.cell())
    tenant, profile = world.live_participant()
    manifest, _ = world.participant_profiles.dispose(tenant, profile)
    world.respond(dispose_failed(profile, manifest))
    answer = world.deploy_again(tenant, profile)
    assert world.manifests()[-1]["payload"]["cfm.vpa.state"] == {"context": "pc-1"}
    assert world.respond(dispose_failed(profile, manifest), disposed(profile, manifest)) == [IGNORED, IGNORED]
    world.respond(deployed(profile, answer["orchestrationId"]))
    assert outcome(world, tenant, profile) == ("active", False, "")


def test_a_profile_in_any_other_state_is_not_deployed_again(world: World) -> None:
    tenant, profile, manifest = world.participant()

    def refused(state: str, *allowed: str) -> None:
        before = world.profile(tenant, profile), world.sent()
        with pytest.raises(ConflictError, match=f"is {state}, and cannot be deployed again") as caught:
            world.deploy_again(tenant, profile)
        assert caught.value.context == {"state": state, "allowedActions": list(allowed)}
        assert (world.profile(tenant, profile), world.sent()) == before

    refused("pending")
    world.respond(deployed(profile, manifest))
    refused("active", "change", "dispose")
    world.participant_profiles.dispose(tenant, profile)
    refused("disposing")


def test_a_disposed_profile_whose_identifier_is_taken_is_not_deployed_again(world: World) -> None:
    world.dataspace(world.cell())
    tenant, profile = world.live_participant()
    world.dispose(tenant, profile)
    world.deploy(tenant)
    before = world.profile(tenant, profile), world.sent()
    with pytest.raises(ConflictError, match="identifier"):
        world.deploy_again(tenant, profile)
    assert (world.profile(tenant, profile), world.sent()) == before


def test_vpas_whose_cell_has_gone_go_to_another_and_the_others_stay(world: World) -> None:
    west, east = world.cell(external_id="west"), world.cell(external_id="east")
    world.dataspace(west, east)
    tenant, profile = world.live_participant(
        cellId=west, vpas=[{"type": "cfm.dataplane", "cellId": east}, {"type": "cfm.dataplane", "cellId": west}]
    )
    world.dispose(tenant, profile)
    world.cells.change(west, CellDiff.model_validate({"state": "offline"}))
    with pytest.raises(RefusedError, match="not active") as caught:
        world.deploy(tenant, "did:other", cellId=west)
    assert [error.pointer for error in caught.value.errors] == ["/cellId"]
    answer = world.deploy_again(tenant, profile)
    assert cells_of(answer) == [east] * 5
    assert {vpa["externalCellId"] for vpa in world.manifests()[-1]["payload"]["cfm.vpa.data"]} == {"east"}


def test_vpas_stay_where_they_can_whatever_the_load(world: World) -> None:
    west, east = world.cell(), world.cell()
    world.dataspace(west, east)
    tenant, profile = world.live_participant(cellId=west)
    world.deploy(tenant, "did:other", cellId=west)
    world.dispose(tenant, profile)
    assert set(cells_of(world.deploy_again(tenant, profile))) == {west}


def test_whoever_meant_all_dataspace_profiles_means_all_of_now(world: World) -> None:
    cell = world.cell()
    gone, stays = world.dataspace(cell), world.dataspace(cell)
    tenant, profile = world.live_participant(participantRoles={gone: ["a"], stays: ["b"]})
    world.dispose(tenant, profile)
    world.dataspace_profiles.delete(gone)
    new = world.dataspace(cell, artifacts=["cfm.vpa:acme.edge"])
    answer = world.deploy_again(tenant, profile)
    assert answer["dataspaceProfileIds"] == sorted([stays, new])
    assert answer["participantRoles"] == {stays: ["b"]}
    assert [(vpa["type"], vpa["version"]) for vpa in answer["vpas"]][-2:] == [("cfm.issuer", 4), ("acme.edge", 0)]


def test_whoever_named_dataspace_profiles_needs_those(world: World) -> None:
    cell = world.cell()
    gone, stays = world.dataspace(cell), world.dataspace(cell)
    tenant, profile = world.live_participant(dataspaceProfileIds=[gone, stays])
    world.dispose(tenant, profile)
    world.dataspace_profiles.delete(gone)
    with pytest.raises(RefusedError, match=f"there is no dataspace profile '{gone}'"):
        world.deploy_again(tenant, profile)
    answer = world.deploy_again(tenant, profile, dataspaceProfileIds=[stays], properties={"moved": True})
    assert answer["dataspaceProfileIds"] == [stays]
    assert answer["properties"] == {"moved": True}


def test_a_late_response_to_an_earlier_manifest_changes_nothing(world: World) -> None:
    tenant, profile, first = failed_participant(world)
    second = world.deploy_again(tenant, profile)["orchestrationId"]
    before = world.profile(tenant, profile)
    late = [deployed(profile, first), deploy_failed(profile, first, "late"), disposed(profile, f"{first}.compensate")]
    assert [world.respond(response) for response in late] == [[IGNORED]] * 3
    assert world.respond(disposed(profile, f"{second}.compensate")) == [EARLY]
    assert world.profile(tenant, profile) == before
    world.respond(deploy_failed(profile, second, "second"))
    assert [world.respond(response) for response in late] == [[IGNORED]] * 3
    assert outcome(world, tenant, profile) == ("error", True, "second")
    assert world.respond(disposed(profile, f"{second}.compensate")) == [APPLIED]


def retried(response: OrchestrationResponse) -> OrchestrationResponse:
    return response.model_copy(update={"retries": 1})


def test_a_deployment_that_succeeds_once_an_operator_has_retried_it_is_active(world: World) -> None:
    tenant, profile, manifest = failed_participant(world)
    assert world.respond(deployed(profile, manifest)) == [IGNORED]
    assert world.respond(retried(deployed(profile, manifest, context="pc"))) == [APPLIED]
    assert outcome(world, tenant, profile) == ("active", False, "")
    assert world.profile(tenant, profile)["properties"]["cfm.vpa.state"]["context"] == "pc"
    before = world.profile(tenant, profile)
    for late in (deploy_failed(profile, manifest), disposed(profile, f"{manifest}.compensate")):
        assert world.respond(late, retried(deployed(profile, manifest))) == [IGNORED, IGNORED]
    assert world.profile(tenant, profile) == before


def test_a_disposal_that_succeeds_once_an_operator_has_retried_it_is_disposed(world: World) -> None:
    tenant, profile, _ = failed_participant(world)
    world.participant_profiles.dispose(tenant, profile)
    manifest = world.manifests()[-1]["id"]
    world.respond(dispose_failed(profile, manifest))
    assert world.respond(disposed(profile, manifest)) == [IGNORED]
    assert world.respond(retried(disposed(profile, manifest))) == [APPLIED]
    assert world.state(tenant, profile) == "disposed"


def test_a_retry_that_fails_for_another_reason_tells_that_one(world: World) -> None:
    tenant, profile, manifest = failed_participant(world)
    again = retried(deploy_failed(profile, manifest)).model_copy(update={"error_detail": "activity b (t): worse"})
    assert world.respond(again) == [APPLIED]
    assert outcome(world, tenant, profile) == ("error", True, "activity b (t): worse")
    before = world.profile(tenant, profile)
    assert world.respond(again) == [IGNORED]
    assert world.respond(deploy_failed(profile, manifest)) == [IGNORED]
    assert world.profile(tenant, profile) == before


def test_a_retry_of_what_is_not_awaited_any_more_changes_nothing(world: World) -> None:
    tenant, profile, first = failed_participant(world)
    second = world.deploy_again(tenant, profile)["orchestrationId"]
    assert world.respond(retried(deployed(profile, first))) == [IGNORED]
    world.respond(deploy_failed(profile, second))
    assert world.respond(retried(deployed(profile, first))) == [IGNORED]
    assert world.state(tenant, profile) == "error"


def test_a_compensation_by_another_provision_manager_has_any_id(world: World) -> None:
    tenant, profile, _ = failed_participant(world)
    world.respond(deploy_failed(profile, world.deploy_again(tenant, profile)["orchestrationId"]))
    assert world.respond(disposed(profile, "4d1c0f7e")) == [APPLIED]
    assert world.state(tenant, profile) == "disposed"


def test_a_deployment_that_is_repeated_and_never_answered_ends_in_error_that_says_so(world: World) -> None:
    tenant, profile, _ = failed_participant(world)
    eager = world.patient(EAGER)
    manifest, _ = eager.deploy_again(tenant, profile, ParticipantProfileDiff())
    assert [len(eager.resend()) for _ in range(3)] == [1, 1, 0]
    detail = f"no response to manifest {manifest}, which was sent 3 times"
    assert outcome(world, tenant, profile) == ("error", True, detail)
    assert world.respond(disposed(profile, f"{manifest}.compensate")) == [APPLIED]


# Gone -------------------------------------------------------------------------------------------------------------------


def test_a_disposed_profile_is_purged_and_then_its_tenant_can_go(world: World) -> None:
    cell = world.cell()
    dataspace = world.dataspace(cell)
    tenant, profile = world.live_participant()
    world.dispose(tenant, profile)
    with pytest.raises(ValidationError, match="cannot delete tenant with participants"):
        world.tenants.delete(tenant)
    world.participant_profiles.purge(tenant, profile)
    for act in (world.participant_profiles.get, world.participant_profiles.purge):
        with pytest.raises(NotFoundError, match="participant profile"):
            act(tenant, profile)
    assert world.respond(disposed(profile, world.manifests()[-1]["id"])) == [Verdict.UNKNOWN]
    world.tenants.delete(tenant)
    world.dataspace_profiles.delete(dataspace)
    world.cells.delete(cell)


def test_a_profile_in_any_other_state_is_not_purged(world: World) -> None:
    tenant, profile, manifest = world.participant()

    def refused(state: str, *allowed: str) -> None:
        with pytest.raises(ConflictError, match=f"is {state}, and cannot be purged") as caught:
            world.participant_profiles.purge(tenant, profile)
        assert caught.value.context == {"state": state, "allowedActions": list(allowed)}

    refused("pending")
    world.respond(deploy_failed(profile, manifest))
    refused("error", "deploy", "dispose")
    world.respond(deployed(profile, world.deploy_again(tenant, profile)["orchestrationId"]))
    refused("active", "change", "dispose")
    world.participant_profiles.dispose(tenant, profile)
    refused("disposing")


# Changed ----------------------------------------------------------------------------------------------------------------


def test_other_properties_are_set_and_removed_in_any_state_and_start_nothing(world: World) -> None:
    tenant, profile, manifest = world.participant()
    assert world.change(tenant, profile, properties={"a": 1, "b": {"c": None}})["properties"] == {
        "a": 1,
        "b": {"c": None},
    }
    world.respond(deployed(profile, manifest, context="pc-1"))
    before = world.profile(tenant, profile)
    answer = world.change(tenant, profile, properties={"d": 1, "cfm.vpa.state": "mine"}, removed=["a", "cfm.vpa.state"])
    left = {"b": {"c": None}, "cfm.vpa.state": {"context": "pc-1"}, "d": 1}
    assert answer == before | {"version": before["version"] + 1, "properties": left}
    assert world.profile(tenant, profile) == answer
    assert len(world.manifests()) == 1


def test_a_change_of_nothing_changes_nothing(world: World) -> None:
    cell = world.cell()
    dataspace = world.dataspace(cell)
    tenant, profile = world.live_participant(
        participantRoles={dataspace: ["a"]}, vpaProperties={"cfm.dataplane": {"k": 1}}, properties={"p": 1}
    )
    before = world.profile(tenant, profile)
    for diff in ({}, before, {"vpaProperties": {"cfm.dataplane": {"k": 1}, "acme.none": {"x": 1}}}):
        assert world.change(tenant, profile, **diff) == before
    assert world.profile(tenant, profile) == before
    assert len(world.manifests()) == 1


def test_other_roles_bring_other_credentials(world: World) -> None:
    credential = {"id": "g", "type": "G", "issuer": "i", "format": "f", "role": "oem"}
    dataspace = world.dataspace(world.cell(), credentials=[credential])
    tenant, profile = world.live_participant()
    before = world.profile(tenant, profile)
    answer = world.change(tenant, profile, participantRoles={dataspace: ["oem"]}, properties={"k": 1})
    manifest = answer.pop("orchestrationId")
    assert answer == world.profile(tenant, profile)
    assert answer["participantRoles"] == {dataspace: ["oem"]}
    assert answer["version"] == before["version"] + 1
    assert {(vpa["state"], vpa["version"]) for vpa in answer["vpas"]} == {("pending", 2)}
    first, sent = world.manifests()
    payload = first["payload"] | {"cfm.vpa.credentials": [credential], "cfm.vpa.state": {"context": "pc-1"}}
    assert sent == {"id": manifest, "correlationId": profile, "orchestrationType": DEPLOY, "payload": payload}

    assert world.respond(deployed(profile, manifest, more=1)) == [APPLIED]
    assert outcome(world, tenant, profile) == ("active", False, "")
    assert world.profile(tenant, profile)["properties"] == {
        "cfm.vpa.state": {"context": "pc-1", "more": 1},
        "k": 1,
    }


def test_a_participant_joins_and_leaves_dataspaces(world: World) -> None:
    cell = world.cell()
    one, two = world.dataspace(cell), world.dataspace(cell, artifacts=["cfm.vpa:acme.edge"])
    tenant, profile = world.live_participant(dataspaceProfileIds=[one], participantRoles={one: ["a"]})
    joined = world.change(tenant, profile, dataspaceProfileIds=[two, one], vpaProperties={"acme.edge": {"k": 1}})
    assert joined["dataspaceProfileIds"] == sorted([one, two])
    edge = joined["vpas"][-1]
    assert (edge["type"], edge["cellId"], edge["state"], edge["version"]) == ("acme.edge", cell, "pending", 0)
    assert edge["properties"] == {"k": 1}
    assert world.manifests()[-1]["payload"]["cfm.vpa.data"][-1]["id"] == edge["id"]
    world.respond(deployed(profile, joined["orchestrationId"]))
    left = world.change(tenant, profile, dataspaceProfileIds=[two])
    assert (left["dataspaceProfileIds"], left["participantRoles"]) == ([two], {})
    assert [vpa["type"] for vpa in left["vpas"]] == [vpa["type"] for vpa in joined["vpas"]]
    world.respond(deployed(profile, left["orchestrationId"]))
    world.dataspace_profiles.delete(one)
    assert world.state(tenant, profile) == "active"


def test_no_dataspace_profile_means_all_of_now(world: World) -> None:
    cell = world.cell()
    one = world.dataspace(cell)
    tenant, profile = world.live_participant(dataspaceProfileIds=[one])
    two = world.dataspace()
    assert world.change(tenant, profile, dataspaceProfileIds=[])["dataspaceProfileIds"] == sorted([one, two])


def test_vpas_get_other_properties_by_type(world: World) -> None:
    world.dataspace(world.cell())
    tenant, profile = world.live_participant(vpaProperties={"cfm.connector": {"a": 1}, "cfm.issuer": {"b": 1}})
    answer = world.change(tenant, profile, vpaProperties={"cfm.connector": {"c": 1}, "cfm.dataplane": None})
    assert [vpa.get("properties") for vpa in answer["vpas"]] == [{"c": 1}, None, None, {"b": 1}]


def test_vpas_are_added_to_those_that_are_there(world: World) -> None:
    west, east = world.cell(), world.cell()
    world.dataspace(west, east)
    tenant, profile = world.live_participant(cellId=west)
    shown = world.profile(tenant, profile)["vpas"]
    added = [{"type": "cfm.dataplane", "properties": {"n": 2}}, {"type": "acme.edge", "cellId": east}]
    answer = world.change(tenant, profile, vpas=[*shown, *added])
    assert [vpa["id"] for vpa in answer["vpas"][:4]] == [vpa["id"] for vpa in shown]
    assert [(vpa["type"], vpa["cellId"], vpa.get("properties")) for vpa in answer["vpas"][4:]] == [
        ("cfm.dataplane", west, {"n": 2}),
        ("acme.edge", east, None),
    ]
    assert {vpa["state"] for vpa in answer["vpas"]} == {"pending"}


@pytest.mark.parametrize(
    ("fields", "pointer", "detail"),
    [
        ({"participantRoles": {ABSENT: ["a"]}}, f"/participantRoles/{ABSENT}", "roles are given"),
        ({"dataspaceProfileIds": [ABSENT]}, "/dataspaceProfileIds/0", "there is no dataspace profile"),
        ({"dataspaceProfileIds": ["{elsewhere}"]}, "/vpas/0/cellId", "not deployed to cell"),
        ({"vpas": [{"type": "x", "cellId": "{offline}"}]}, "/vpas/0/cellId", "not active"),
        ({"vpas": [{"type": "x", "cellId": "no-uuid"}]}, "/vpas/0/cellId", "there is no cell"),
        ({"vpas": [{"type": "x", "id": ABSENT}]}, "/vpas/0/id", "has no VPA"),
        ({"vpas": [{"type": "x"}] * 61}, "/vpas", "at most 64 VPAs, and not 65"),
    ],
)
def test_a_change_that_the_model_refuses_changes_nothing(
    world: World, fields: dict[str, Any], pointer: str, detail: str
) -> None:
    cell, offline = world.cell(), world.cell("offline")
    world.dataspace(cell)
    tenant, profile = world.live_participant()
    elsewhere = world.dataspace()
    text = json.dumps(fields).replace("{elsewhere}", elsewhere).replace("{offline}", offline)
    before = world.profile(tenant, profile), world.sent()
    with pytest.raises(RefusedError, match=detail) as caught:
        world.change(tenant, profile, **json.loads(text))
    assert [error.pointer for error in caught.value.errors] == [pointer]
    assert (world.profile(tenant, profile), world.sent()) == before


def test_services_are_changed_while_a_profile_is_active_only(world: World) -> None:
    tenant, profile, manifest = world.participant()

    def refused(state: str, *allowed: str) -> None:
        before = world.profile(tenant, profile), world.sent()
        with pytest.raises(ConflictError, match=f"is {state}, and cannot be changed") as caught:
            world.change(tenant, profile, vpaProperties={"cfm.issuer": {"k": 1}}, properties={"k": 1})
        assert caught.value.context == {"state": state, "allowedActions": list(allowed)}
        assert (world.profile(tenant, profile), world.sent()) == before

    refused("pending")
    world.respond(deploy_failed(profile, manifest))
    refused("error", "deploy", "dispose")
    world.participant_profiles.dispose(tenant, profile)
    refused("disposing")
    world.respond(disposed(profile, world.manifests()[-1]["id"]))
    refused("disposed", "deploy", "purge")


def test_a_change_that_fails_leaves_a_participant_that_can_be_deployed_again_or_disposed(world: World) -> None:
    world.dataspace(world.cell())
    tenant, profile = world.live_participant()
    manifest = world.change(tenant, profile, vpaProperties={"cfm.issuer": {"k": 1}})["orchestrationId"]
    assert world.respond(deploy_failed(profile, manifest, "no")) == [APPLIED]
    assert outcome(world, tenant, profile) == ("error", True, "no")
    assert world.profile(tenant, profile)["properties"] == {"cfm.vpa.state": {"context": "pc-1"}}
    again = world.deploy_again(tenant, profile, vpaProperties={"cfm.issuer": {"k": 2}})
    payload = world.manifests()[-1]["payload"]
    assert payload["cfm.vpa.state"] == {"context": "pc-1"}
    assert payload["cfm.vpa.data"][-1]["properties"] == {"k": 2}
    world.respond(deploy_failed(profile, again["orchestrationId"], "no"))
    world.participant_profiles.dispose(tenant, profile)
    assert world.manifests()[-1]["payload"]["cfm.vpa.state"] == {"context": "pc-1"}
    world.respond(disposed(profile, world.manifests()[-1]["id"]))
    assert world.state(tenant, profile) == "disposed"


def test_a_change_that_another_provision_manager_compensates_has_ended_the_participant(world: World) -> None:
    world.dataspace(world.cell())
    tenant, profile = world.live_participant()
    manifest = world.change(tenant, profile, vpaProperties={"cfm.issuer": {"k": 1}})["orchestrationId"]
    world.respond(deploy_failed(profile, manifest, "no"))
    assert world.respond(disposed(profile, "any id")) == [APPLIED]
    world.deploy_again(tenant, profile)
    assert "cfm.vpa.state" not in world.manifests()[-1]["payload"]


def test_a_change_that_is_never_answered_ends_in_error_that_says_so(world: World) -> None:
    world.dataspace(world.cell())
    tenant, profile = world.live_participant()
    eager = world.patient(EAGER)
    diff = ParticipantProfileDiff.model_validate({"vpaProperties": {"cfm.issuer": {"k": 1}}})
    manifest, _ = eager.change(tenant, profile, diff)
    assert [len(eager.resend()) for _ in range(3)] == [1, 1, 0]
    detail = f"no response to manifest {manifest}, which was sent 3 times"
    assert outcome(world, tenant, profile) == ("error", True, detail)
    world.deploy_again(tenant, profile)
    assert world.manifests()[-1]["payload"]["cfm.vpa.state"] == {"context": "pc-1"}


def test_other_properties_do_not_disturb_what_is_awaited(world: World) -> None:
    tenant, profile, manifest = world.participant()
    (cell, *_) = cells_of(world.profile(tenant, profile))
    world.cells.change(cell, CellDiff.model_validate({"state": "offline"}))
    world.change(tenant, profile, properties={"k": 1})
    assert world.respond(deployed(profile, manifest, a=1)) == [APPLIED]
    assert world.profile(tenant, profile)["properties"] == {"k": 1, "cfm.vpa.state": {"a": 1}}


# Versions ---------------------------------------------------------------------------------------------------------------


def test_an_action_on_another_version_changes_nothing(world: World) -> None:
    world.dataspace(world.cell())
    tenant, profile = world.live_participant()
    before = world.profile(tenant, profile), world.sent()
    stale, fresh = Expected(frozenset({0}), exists=True), Expected(frozenset({1}), exists=True)
    diff = ParticipantProfileDiff.model_validate({"properties": {"k": 1}})
    profiles = world.participant_profiles
    for act in (
        lambda: profiles.change(tenant, profile, diff, stale),
        lambda: profiles.deploy_again(tenant, profile, diff, stale),
        lambda: profiles.dispose(tenant, profile, stale),
        lambda: profiles.purge(tenant, profile, stale),
    ):
        with pytest.raises(PreconditionFailedError, match="version 1"):
            act()
    assert (world.profile(tenant, profile), world.sent()) == before
    profiles.change(tenant, profile, diff, fresh)
    assert world.profile(tenant, profile)["version"] == 2


def test_the_profile_of_another_tenant_is_not_found_by_any_action(world: World) -> None:
    world.dataspace(world.cell())
    tenant, profile = world.live_participant()
    other = world.tenant()
    before = world.profile(tenant, profile), world.sent()
    for tenant_id, profile_id in ((other, profile), (ABSENT, profile), ("no-uuid", profile), (other, "a\0b")):
        for act in (world.change, world.deploy_again, world.participant_profiles.purge):
            with pytest.raises(NotFoundError, match="participant profile"):
                act(tenant_id, profile_id)
    assert (world.profile(tenant, profile), world.sent()) == before
