from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

import pytest

from cfm_core.agent import ActivityEnvironment, Complete, Fatal, Schedule
from functions.agents.identityhub.identityhub import IdentityhubActivity
from functions.agents.onboarding.onboarding import ISSUED_WITHIN, OnboardingActivity
from functions.agents.registration.registration import RegistrationActivity
from tests.integration.agents.conftest import CREDENTIAL, DID, World


def test_credentials_are_requested_once_and_looked_for_until_they_are_issued(world: World) -> None:
    env = world.environment(OnboardingActivity)
    agent = world.agent(OnboardingActivity)
    for world.now in (0, 0.5, 1.5, 2.9):
        assert env.run(agent) == Schedule(timedelta(seconds=0.5))
    world.now = 3
    assert env.run(agent) == Complete()
    context, holder_pid = env.values["participantContextId"], env.values["holderPid"]
    assert env.outputs == {
        "participantContextId": context,
        "holderPid": holder_pid,
        "credentialRequest": f"/v1beta/participants/{context}/credentials/request/{holder_pid}",
    }
    held = world.state()
    assert [one["holderId"] for one in held["issuerservice"]["credentials"]] == [DID]
    assert [one["issuerId"] for one in held["identityhub"]["credentials"]] == [CREDENTIAL["issuer"]]
    assert "activity.activity-1.since" not in env.values


def test_each_issuer_gets_a_request_of_its_own(world: World) -> None:
    other = CREDENTIAL | {"issuer": "did:web:other", "type": "Other"}
    env = world.environment(
        OnboardingActivity, **{"cfm.vpa.credentials": [CREDENTIAL, other, CREDENTIAL | {"type": "Third"}]}
    )
    agent = world.agent(OnboardingActivity)
    assert isinstance(env.run(agent), Schedule)
    requests = world.state()["identityhub"]["credentialRequests"]
    assert [(one["issuerDid"], len(one["typesAndFormats"])) for one in requests] == [
        (CREDENTIAL["issuer"], 2),
        ("did:web:other", 1),
    ]
    assert len({one["holderPid"] for one in requests}) == 2
    world.now = 5
    assert env.run(agent) == Complete()
    assert env.outputs["holderPid"] == requests[0]["holderPid"]


@pytest.mark.parametrize("credentials", [[], [{"id": "x"}], None])
def test_without_credentials_to_request_it_is_fatal(world: World, credentials: object) -> None:
    env = world.environment(OnboardingActivity)
    env.values["cfm.vpa.credentials"] = credentials
    result = env.run(world.agent(OnboardingActivity))
    assert isinstance(result, Fatal)
    assert "cfm.vpa.credentials" in result.reason


def test_a_request_that_the_hub_has_forgotten_is_sent_again_under_its_id(world: World) -> None:
    env = world.environment(OnboardingActivity)
    agent = world.agent(OnboardingActivity)
    env.run(agent)
    first = env.values["holderPid"]
    env.dispose(world.agent(IdentityhubActivity))
    env.run(world.agent(IdentityhubActivity))
    assert isinstance(env.run(agent), Schedule)
    assert [one["holderPid"] for one in world.state()["identityhub"]["credentialRequests"]] == [first]


def test_a_hub_that_does_not_know_the_participant_yet_is_asked_again(world: World) -> None:
    env = world.environment(OnboardingActivity)
    env.dispose(world.agent(IdentityhubActivity))
    agent = world.agent(OnboardingActivity)
    result = env.run(agent)
    assert not isinstance(result, Fatal)
    assert "No participant for" in str(result)
    env.run(world.agent(IdentityhubActivity))
    assert isinstance(env.run(agent), Schedule)


def test_a_refused_request_is_fatal_with_the_issuers_words_and_a_later_retry_asks_anew(world: World) -> None:
    env = world.environment(OnboardingActivity)
    env.dispose(world.agent(RegistrationActivity))
    agent = world.agent(OnboardingActivity)
    env.run(agent)
    world.now = 5
    result = env.run(agent)
    assert isinstance(result, Fatal)
    assert f"no holder with the DID {DID}" in result.reason
    env.run(world.agent(RegistrationActivity))
    assert isinstance(env.run(agent), Schedule)
    world.now = 10
    assert env.run(agent) == Complete()


def test_a_refusal_that_nobody_can_explain_is_fatal_all_the_same(world: World) -> None:
    env = world.environment(OnboardingActivity)
    env.dispose(world.agent(RegistrationActivity))
    agent = world.agent(OnboardingActivity)
    env.run(agent)
    world.now = 5
    world.fault("issuerservice", status=503)
    assert isinstance(env.run(agent), Fatal)


def test_credentials_that_never_come_are_given_up(world: World) -> None:
    env = world.environment(OnboardingActivity)
    env.values["activity.activity-1.since"] = (datetime.now(UTC) - timedelta(minutes=16)).isoformat()
    result = env.run(world.agent(OnboardingActivity))
    assert isinstance(result, Fatal)
    assert "still not there after 16 minutes" in result.reason


def test_disposing_revokes_all_pages_of_credentials(world: World) -> None:
    credentials = [CREDENTIAL | {"type": f"Type{number}"} for number in range(120)]
    env = world.environment(OnboardingActivity, **{"cfm.vpa.credentials": credentials})
    agent = world.agent(OnboardingActivity)
    env.run(agent)
    world.now = 5
    assert env.run(agent) == Complete()
    assert env.dispose(agent) == Complete()
    assert {one["status"] for one in world.state()["issuerservice"]["credentials"]} == {"revoked"}


def test_a_credential_that_cannot_be_revoked_is_warned_about(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    env = world.deployed(OnboardingActivity)
    world.fault("issuerservice", path="/revoke", status=400)
    assert env.dispose(world.agent(OnboardingActivity)) == Complete()
    assert "cannot be revoked" in caplog.text


def test_what_undoes_a_deploy_waits_for_credentials_that_are_on_their_way(world: World) -> None:
    env = world.environment(OnboardingActivity)
    agent = world.agent(OnboardingActivity)
    assert isinstance(env.run(agent), Schedule)
    for world.now in (0, 1, 2, 2.9):
        assert isinstance(env.dispose(agent), Schedule)
    world.now = 3
    assert env.dispose(agent) == Complete()
    assert [one["status"] for one in world.state()["issuerservice"]["credentials"]] == ["revoked"]
    assert "activity.activity-1.since" not in env.values


def test_a_disposal_does_not_wait_for_ever(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    env = world.environment(OnboardingActivity)
    agent = world.agent(OnboardingActivity)
    env.run(agent)
    env.values["activity.activity-1.since"] = (datetime.now(UTC) - ISSUED_WITHIN).isoformat()
    assert env.dispose(agent) == Complete()
    assert env.values["holderPid"] in caplog.text


def test_a_disposal_does_not_wait_where_the_hub_knows_the_participant_no_more(world: World) -> None:
    env = world.environment(OnboardingActivity)
    agent = world.agent(OnboardingActivity)
    env.run(agent)
    env.dispose(world.agent(IdentityhubActivity))
    assert env.dispose(agent) == Complete()


def test_disposing_without_the_participants_did_completes_with_a_warning(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    state = world.deployed(OnboardingActivity).outputs
    env = ActivityEnvironment(values={"cfm.vpa.state": state})
    assert env.dispose(world.agent(OnboardingActivity)) == Complete()
    assert "cfm.participant.id" in caplog.text


def test_the_hub_is_not_sent_inside_for_an_issuers_document(world: World) -> None:
    env = world.environment(OnboardingActivity)
    env.values["cfm.vpa.credentials"] = [{**CREDENTIAL, "issuer": "did:web:localhost%3A8200"}]
    before = world.state()
    assert isinstance(env.run(world.agent(OnboardingActivity)), Fatal)
    assert world.state() == before
