from __future__ import annotations

import itertools
import json
import random
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

from cfm_core.contracts.orchestration import OrchestrationResponse
from cfm_core.errors import ConflictError
from cfm_core.tenancy.participant_profiles.model import Verdict
from cfm_core.tenancy.participant_profiles.service import Patience
from cfm_core.tenancy.participant_profiles.v1alpha1 import NewParticipantProfileDeployment
from tests.contract.tenancy.world import (
    ABSENT,
    EAGER,
    World,
    deploy_failed,
    deployed,
    dispose_failed,
    disposed,
)

APPLIED, IGNORED, EARLY, UNKNOWN = Verdict.APPLIED, Verdict.IGNORED, Verdict.EARLY, Verdict.UNKNOWN


def outcome(world: World, tenant: str, profile: str) -> tuple[str, bool, str]:
    shown = world.profile(tenant, profile)
    return world.state(tenant, profile), shown["error"], shown.get("errorDetail", "")


def being_disposed(world: World) -> tuple[str, str, str]:
    """A profile whose disposal was asked for: the ids of its tenant, itself and its dispose manifest."""
    tenant, profile, manifest = world.participant()
    world.respond(deployed(profile, manifest, a=1))
    world.participant_profiles.dispose(tenant, profile)
    return tenant, profile, world.manifests()[-1]["id"]


def test_success_makes_the_vpas_active_and_keeps_the_outputs(world: World) -> None:
    tenant, profile, manifest = world.participant()
    before = world.profile(tenant, profile)
    assert world.respond(deployed(profile, manifest, participantContextId="pc-1")) == [APPLIED]
    after = world.profile(tenant, profile)
    assert outcome(world, tenant, profile) == ("active", False, "")
    assert after["properties"] == {"cfm.vpa.state": {"participantContextId": "pc-1"}}
    assert after["version"] == before["version"] + 1
    assert all(
        new["stateTimestamp"] > old["stateTimestamp"] for new, old in zip(after["vpas"], before["vpas"], strict=True)
    )


def test_success_without_outputs_leaves_a_profile_that_can_be_disposed(world: World) -> None:
    tenant, profile, manifest = world.participant()
    world.respond(deployed(profile, manifest))
    assert world.profile(tenant, profile)["properties"] == {"cfm.vpa.state": {}}
    world.participant_profiles.dispose(tenant, profile)


def test_failure_puts_the_vpas_in_error_with_its_detail(world: World) -> None:
    tenant, profile, manifest = world.participant()
    assert world.respond(deploy_failed(profile, manifest, 'no "space"')) == [APPLIED]
    assert outcome(world, tenant, profile) == ("error", True, 'no "space"')


def test_a_disposal_ends_disposed(world: World) -> None:
    tenant, profile, manifest = being_disposed(world)
    assert world.respond(disposed(profile, manifest)) == [APPLIED]
    assert outcome(world, tenant, profile) == ("disposed", False, "")
    assert world.profile(tenant, profile)["properties"] == {"cfm.vpa.state": {"a": 1}}


def test_a_failed_disposal_is_in_error_and_can_be_tried_again(world: World) -> None:
    tenant, profile, manifest = being_disposed(world)
    assert world.respond(dispose_failed(profile, manifest)) == [APPLIED]
    assert outcome(world, tenant, profile) == ("error", True, "stuck")
    world.participant_profiles.dispose(tenant, profile)
    assert world.manifests()[-1]["payload"]["cfm.vpa.state"] == {"a": 1}
    assert world.respond(disposed(profile, manifest)) == [IGNORED]
    assert world.respond(disposed(profile, world.manifests()[-1]["id"])) == [APPLIED]
    assert world.state(tenant, profile) == "disposed"


def test_a_compensation_disposes_what_a_failed_deployment_left(world: World) -> None:
    tenant, profile, manifest = world.participant()
    assert world.respond(deploy_failed(profile, manifest)) == [APPLIED]
    assert world.respond(disposed(profile, "any id")) == [APPLIED]
    assert outcome(world, tenant, profile) == ("disposed", True, "no space")


def test_a_failed_compensation_adds_to_the_detail_once(world: World) -> None:
    tenant, profile, manifest = world.participant()
    world.respond(deploy_failed(profile, manifest))
    before = world.profile(tenant, profile)
    assert world.respond(dispose_failed(profile, "x")) == [APPLIED]
    assert outcome(world, tenant, profile) == ("error", True, "no space; compensation failed: stuck")
    assert world.respond(dispose_failed(profile, "x")) == [IGNORED]
    after = world.profile(tenant, profile)
    assert (after["vpas"], after["version"]) == (before["vpas"], before["version"] + 1)
    assert world.respond(disposed(profile, "x")) == [APPLIED]
    assert outcome(world, tenant, profile) == ("disposed", True, "no space; compensation failed: stuck")


def test_a_failed_compensation_of_a_failure_without_detail(world: World) -> None:
    tenant, profile, manifest = world.participant()
    world.respond(deploy_failed(profile, manifest, ""))
    world.respond(dispose_failed(profile, "x", ""))
    assert outcome(world, tenant, profile) == ("error", True, "compensation failed: ")
    assert world.respond(dispose_failed(profile, "x", "")) == [IGNORED]


def test_a_compensation_before_its_deployment_has_failed_comes_early(world: World) -> None:
    tenant, profile, manifest = world.participant()
    compensated = disposed(profile, f"{manifest}.compensate")
    assert world.respond(compensated) == [EARLY]
    assert world.state(tenant, profile) == "pending"
    assert world.respond(disposed(profile, "unrelated")) == [IGNORED]
    world.respond(deploy_failed(profile, manifest))
    assert world.respond(compensated) == [APPLIED]


def test_in_one_batch_a_compensation_follows_its_deployment_whatever_their_order(world: World) -> None:
    tenant, profile, manifest = world.participant()
    compensated = disposed(profile, f"{manifest}.compensate")
    assert world.respond(compensated, deploy_failed(profile, manifest), compensated) == [APPLIED, APPLIED, APPLIED]
    assert outcome(world, tenant, profile) == ("disposed", True, "no space")


def test_a_compensation_does_not_touch_a_disposal_that_was_asked_for(world: World) -> None:
    tenant, profile, manifest = world.participant()
    world.respond(deploy_failed(profile, manifest))
    world.participant_profiles.dispose(tenant, profile)
    assert world.respond(disposed(profile, f"{manifest}.compensate")) == [IGNORED]
    assert world.state(tenant, profile) == "disposing"
    assert world.respond(disposed(profile, world.manifests()[-1]["id"])) == [APPLIED]


def test_a_dispose_response_that_nobody_asked_for_does_not_touch_a_good_profile(world: World) -> None:
    tenant, profile, manifest = world.participant()
    world.respond(deployed(profile, manifest))
    before = world.profile(tenant, profile)
    responses = [disposed(profile, "x"), dispose_failed(profile, f"{manifest}.compensate"), disposed(profile, manifest)]
    assert [world.respond(response) for response in responses] == [[IGNORED]] * 3
    assert world.profile(tenant, profile) == before


def test_a_repeated_response_changes_nothing(world: World) -> None:
    tenant, profile, manifest = world.participant()
    world.respond(deployed(profile, manifest, a=1))
    before = world.profile(tenant, profile)
    assert world.respond(deployed(profile, manifest, a=2)) == [IGNORED]
    assert world.respond(deploy_failed(profile, manifest)) == [IGNORED]
    assert world.profile(tenant, profile) == before


def test_a_response_twice_in_one_batch_counts_once(world: World) -> None:
    tenant, profile, manifest = world.participant()
    world.respond(*[deployed(profile, manifest)] * 3)
    assert world.profile(tenant, profile)["version"] == 1


def test_a_late_deploy_response_does_not_revive_a_disposed_profile(world: World) -> None:
    tenant, profile, manifest = being_disposed(world)
    deploy = world.manifests()[0]["id"]
    assert world.respond(deployed(profile, deploy)) == [IGNORED]
    world.respond(disposed(profile, manifest))
    before = world.profile(tenant, profile)
    assert world.respond(deployed(profile, deploy), deploy_failed(profile, deploy)) == [IGNORED, IGNORED]
    assert world.respond(dispose_failed(profile, manifest), disposed(profile, "x")) == [IGNORED, IGNORED]
    assert world.profile(tenant, profile) == before


def test_a_response_to_another_manifest_changes_nothing(world: World) -> None:
    tenant, profile, manifest = world.participant()
    before = world.profile(tenant, profile)
    assert world.respond(deployed(profile, "other"), deploy_failed(profile, f"{manifest}x")) == [IGNORED, IGNORED]
    assert world.profile(tenant, profile) == before


def test_a_response_for_nobody_is_ignored(world: World) -> None:
    tenant, profile, manifest = world.participant()
    strange = deployed(profile, manifest).model_copy(update={"orchestration_type": "acme.other"})
    assert world.respond(deployed(ABSENT, "x"), deployed("no-uuid", "x"), strange) == [UNKNOWN, UNKNOWN, UNKNOWN]
    assert world.state(tenant, profile) == "pending"
    assert world.respond() == []


def test_a_batch_brings_many_profiles_up_to_date(world: World) -> None:
    tenant = world.tenant()
    world.dataspace(world.cell())
    profiles = [world.deploy(tenant, f"did:{number}") for number in range(20)]
    responses = [
        (deployed if number % 2 else deploy_failed)(profile["id"], profile["orchestrationId"])
        for number, profile in enumerate(profiles)
    ]
    assert world.respond(*responses) == [APPLIED] * 20
    assert [world.state(tenant, profile["id"]) for profile in profiles] == ["error", "active"] * 10


def test_batches_at_the_same_time_apply_each_response_once(world: World) -> None:
    tenant = world.tenant()
    world.dataspace(world.cell())
    profiles = [world.deploy(tenant, f"did:{number}") for number in range(20)]
    responses = [deployed(profile["id"], profile["orchestrationId"]) for profile in profiles]
    with ThreadPoolExecutor(4) as threads:
        batches = [responses, responses[::-1], responses[10:] + responses[:10], responses]
        verdicts = list(threads.map(lambda batch: world.respond(*batch), batches))
    assert sum(verdict is APPLIED for batch in verdicts for verdict in batch) == 20
    assert {world.profile(tenant, profile["id"])["version"] for profile in profiles} == {1}


def test_an_overdue_manifest_is_sent_again_as_it_was(world: World) -> None:
    tenant, profile, manifest = overdue_profile(world)
    before = world.profile(tenant, profile)
    (row,) = world.patient(EAGER).resend()
    first, second = world.sent()
    assert row.subject == "event.cfm-orchestration"
    assert row.events == [second]
    assert second == first | {"id": f"{manifest}/2"}
    assert world.profile(tenant, profile) == before


def test_a_manifest_whose_response_is_not_overdue_is_not_sent_again(world: World) -> None:
    world.participant()
    assert world.participant_profiles.resend() == []
    assert len(world.sent()) == 1


def overdue_profile(world: World) -> tuple[str, str, str]:
    tenant = world.tenant()
    world.dataspace(world.cell())
    _, text = world.patient(EAGER).deploy(tenant, NewParticipantProfileDeployment(identifier="did:web:foo"))
    profile = json.loads(text.text)
    return tenant, profile["id"], profile["orchestrationId"]


def test_a_manifest_that_was_sent_too_often_ends_in_error(world: World) -> None:
    tenant, profile, manifest = overdue_profile(world)
    eager = world.patient(EAGER)
    assert [len(eager.resend()) for _ in range(5)] == [1, 1, 0, 0, 0]
    detail = f"no response to manifest {manifest}, which was sent 3 times"
    assert outcome(world, tenant, profile) == ("error", True, detail)
    assert world.respond(deployed(profile, manifest)) == [IGNORED]
    assert world.respond(disposed(profile, f"{manifest}.compensate")) == [APPLIED]


def test_a_disposal_that_is_not_answered_ends_in_error_and_can_be_tried_again(world: World) -> None:
    tenant, profile, manifest = overdue_profile(world)
    eager = world.patient(EAGER)
    world.respond(deployed(profile, manifest))
    assert eager.resend() == []
    eager.dispose(tenant, profile)
    assert [len(eager.resend()) for _ in range(3)] == [1, 1, 0]
    assert world.state(tenant, profile) == "error"
    assert world.respond(disposed(profile, "x")) == [IGNORED]
    world.participant_profiles.dispose(tenant, profile)


def test_a_manifest_is_sent_again_after_growing_delays(world: World) -> None:
    tenant, profile, _ = overdue_profile(world)
    slow = world.patient(Patience(first=timedelta(hours=1), longest=timedelta(hours=4)))
    assert len(slow.resend()) == 1
    assert slow.resend() == []
    assert world.state(tenant, profile) == "pending"


def test_at_most_a_batch_is_sent_again_at_once(world: World) -> None:
    tenant = world.tenant()
    world.dataspace(world.cell())
    for number in range(3):
        world.patient(EAGER).deploy(tenant, NewParticipantProfileDeployment(identifier=f"did:{number}"))
    slow = world.patient(Patience(first=timedelta(hours=1), batch=2))
    assert [sum(len(row.events) for row in slow.resend()) for _ in range(3)] == [2, 1, 0]


def test_of_looks_at_the_same_time_one_sends_again(world: World) -> None:
    overdue_profile(world)
    slow = world.patient(Patience(first=timedelta(hours=1)))
    with ThreadPoolExecutor(4) as threads:
        assert sum(len(rows) for rows in threads.map(lambda _: slow.resend(), range(8))) == 1


def sequences() -> list[list[OrchestrationResponse | str]]:
    """Random stories of one profile: responses of all kinds, in batches of one, and actions asked for."""
    dice = random.Random(7)
    manifests = ["<deploy>", "<deploy>.compensate", "<last>", "<last>", "<last>.compensate", "elsewhere"]
    makers = [deployed, deploy_failed, disposed, dispose_failed]
    choices: list[OrchestrationResponse | str] = ["dispose", "deploy", "change", "touch", "purge"] * 2
    choices += [make("<profile>", manifest) for make, manifest in itertools.product(makers, manifests)]
    choices += [deployed("<profile>", "<last>", a=1), deploy_failed("<profile>", "<last>")] * 2
    return [dice.choices(choices, k=dice.randint(3, 14)) for _ in range(80)]


def act(world: World, tenant: str, profile: str, action: str, number: int) -> None:
    match action:
        case "dispose":
            world.participant_profiles.dispose(tenant, profile)
        case "deploy":
            world.deploy_again(tenant, profile)
        case "change":
            world.change(tenant, profile, vpaProperties={"cfm.dataplane": {"n": number}}, properties={"n": number})
        case "touch":
            world.change(tenant, profile, properties={"touched": number}, removed=["n", "cfm.vpa.state"])
        case "purge":
            world.participant_profiles.purge(tenant, profile)


def play(world: World, story: list[OrchestrationResponse | str], number: int) -> list[Any]:
    """What happens to a new profile in the course of ``story``, without ids and times."""
    tenant = world.tenant()
    if number == 0:
        world.dataspace(world.cell())
    profile = world.deploy(tenant, f"did:{number}")
    seen: list[Any] = []
    for turn, step in enumerate(story):
        if isinstance(step, str):
            try:
                act(world, tenant, profile["id"], step, turn)
            except ConflictError as error:
                seen.append(error.context)
            else:
                if step == "purge":
                    return [*seen, "purged"]
        else:
            manifest = step.manifest_id.replace("<deploy>", profile["orchestrationId"])
            manifest = manifest.replace("<last>", world.manifests()[-1]["id"])
            seen += world.respond(step.model_copy(update={"correlation_id": profile["id"], "manifest_id": manifest}))
        shown = world.profile(tenant, profile["id"])
        seen.append({key: shown.get(key) for key in ("version", "error", "errorDetail", "properties")})
        seen.append([(vpa["state"], vpa["version"], vpa.get("properties")) for vpa in shown["vpas"]])
        seen.append({**world.manifests()[-1]["payload"], "cfm.vpa.data": None, "cfm.tenant.id": None})
    return seen


def test_both_stores_tell_the_same_stories(worlds: tuple[World, World]) -> None:
    for number, story in enumerate(sequences()):
        in_one, in_other = (play(world, story, number) for world in worlds)
        assert in_one == in_other, f"story {number}"


def failed_profile(world: World) -> tuple[str, str, str]:
    """One whose deployment has failed, told to whoever has no patience."""
    tenant, profile, manifest = overdue_profile(world)
    world.patient(EAGER).apply([deploy_failed(profile, manifest)])
    return tenant, profile, manifest


def test_how_a_failed_deployment_was_undone_is_asked_for_until_it_is_known(world: World) -> None:
    tenant, profile, manifest = failed_profile(world)
    eager = world.patient(EAGER)
    (row,) = eager.resend()
    assert [event["data"]["id"] for event in row.events] == [manifest]
    assert world.respond(deploy_failed(profile, manifest)) == [IGNORED]
    assert world.respond(disposed(profile, f"{manifest}.compensate")) == [APPLIED]
    assert eager.resend() == []
    assert world.state(tenant, profile) == "disposed"


def test_a_failed_deployment_that_nobody_undoes_stays_as_it_is(world: World) -> None:
    tenant, profile, _ = failed_profile(world)
    before = world.profile(tenant, profile)
    eager = world.patient(EAGER)
    assert [len(eager.resend()) for _ in range(5)] == [1, 1, 0, 0, 0]
    assert world.profile(tenant, profile) == before


def test_nobody_asks_after_a_failed_deployment_once_another_has_been_asked_for(world: World) -> None:
    tenant, profile, manifest = failed_profile(world)
    again = world.deploy_again(tenant, profile)["orchestrationId"]
    rows = world.patient(EAGER).resend()
    assert manifest not in [event["data"]["id"] for row in rows for event in row.events]
    assert world.respond(deployed(profile, again)) == [APPLIED]
    assert world.patient(EAGER).resend() == []


def test_nobody_asks_after_a_compensation_that_has_failed(world: World) -> None:
    _, profile, manifest = failed_profile(world)
    assert world.respond(dispose_failed(profile, f"{manifest}.compensate")) == [APPLIED]
    assert world.patient(EAGER).resend() == []
