from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from cfm_core.agent import ActivityEnvironment, Complete, Fatal, Schedule
from functions.agents.identityhub.identityhub import IdentityhubActivity
from functions.agents.jwtlet.jwtlet import JwtletActivity
from tests.integration.agents.conftest import DID, World


def test_the_participant_has_its_addresses_key_and_vault(world: World) -> None:
    env = world.deployed(IdentityhubActivity)
    context = env.values["participantContextId"]
    held = world.state()["identityhub"]
    participant = held["participants"][context]
    assert participant["did"] == DID
    assert [(one["type"], one["id"]) for one in participant["serviceEndpoints"]] == [
        ("CredentialService", f"{context}-credentialservice"),
        ("ProtocolEndpoint", f"{context}-dsp"),
        ("DataService", f"{context}-dataservice"),
    ]
    assert all(context in one["serviceEndpoint"] for one in participant["serviceEndpoints"])
    vault = participant["properties"]["edc.vault.hashicorp.config"]["config"]
    assert vault["folderPath"] == f"{context}/identityhub"
    (key,) = held["keypairs"]
    assert (key["keyId"], key["state"]) == (f"{DID}#key1", 200)


def test_addresses_among_the_values_are_used_where_none_is_configured(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CFM_CONTROLPLANE_PROTOCOL_URL")
    env = world.environment(IdentityhubActivity)
    result = env.run(world.agent(IdentityhubActivity))
    assert result == Fatal("no address is configured, or among the values, for ProtocolEndpoint")
    env.values["cfm.participant.protocolservice"] = "http://elsewhere/dsp"
    assert env.run(world.agent(IdentityhubActivity)) == Complete()
    (participant,) = world.state()["identityhub"]["participants"].values()
    assert participant["serviceEndpoints"][1]["serviceEndpoint"] == "http://elsewhere/dsp"


def test_a_participant_that_is_not_active_yet_is_looked_at_again(world: World) -> None:
    env = world.environment(IdentityhubActivity)
    agent = world.agent(IdentityhubActivity)
    context = env.values["participantContextId"]
    agent.deploy(env.context(agent))
    path = f"/identityhub/api/identity/v1beta/participants/{context}/state"
    bearer = {"Authorization": f"Bearer {world.token(context, 'identity-api:admin')}"}
    for active, expected in (("false", Schedule(timedelta(seconds=0.5))), ("true", Complete())):
        world.control.post(path, params={"isActive": active}, headers=bearer).raise_for_status()
        assert env.run(agent) == expected
    assert "activity.activity-1.since" not in env.values


def test_a_key_that_never_becomes_active_is_given_up(world: World) -> None:
    env = world.environment(IdentityhubActivity)
    env.values["activity.activity-1.since"] = (datetime.now(UTC) - timedelta(minutes=6)).isoformat()
    world.fault("identityhub", path="/keypairs", status=404)
    assert isinstance(env.run(world.agent(IdentityhubActivity)), Fatal)


def test_a_did_that_belongs_to_another_context_is_a_conflict(world: World) -> None:
    world.deployed(IdentityhubActivity)
    other = ActivityEnvironment(orchestration_id="other", values={"cfm.participant.id": DID})
    assert other.run(world.agent(JwtletActivity)) == Complete()
    result = other.run(world.agent(IdentityhubActivity))
    assert result == Fatal(f"conflict: {DID} belongs to another participant context at the IdentityHub")


def test_a_context_with_another_did_is_a_conflict(world: World) -> None:
    env = world.deployed(IdentityhubActivity)
    env.values["cfm.participant.id"] = "did:web:other"
    result = env.run(world.agent(IdentityhubActivity))
    assert isinstance(result, Fatal)
    assert result.reason.startswith("conflict: participant")


@pytest.mark.parametrize(
    "address",
    [
        *(
            "http://127.0.0.1/dsp",
            "http://localhost:8080/",
            "http://169.254.169.254/latest",
            "http://[::1]/",
            "http://10.0.0.1/",
        ),
        *(
            "file:///etc/passwd",
            "http://user:pw@elsewhere/",
            "http://elsewhere:22/",
            "http://2130706433/",
            "http://a\nb/",
        ),
    ],
)
def test_nobody_is_sent_by_a_participants_values_to_what_only_the_platform_reaches(
    world: World, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.delenv("CFM_CONTROLPLANE_PROTOCOL_URL")
    env = world.environment(IdentityhubActivity, **{"cfm.participant.protocolservice": address})
    before = world.state()
    result = env.run(world.agent(IdentityhubActivity))
    assert isinstance(result, Fatal)
    assert "pw" not in str(result)
    assert world.state() == before


@pytest.mark.parametrize("did", ["did:web:127.0.0.1", "did:web:localhost%3A8080:a", "did:web:169.254.169.254:latest"])
def test_no_document_is_published_inside(world: World, did: str) -> None:
    env = world.environment(IdentityhubActivity)
    env.values["cfm.participant.id"] = did
    before = world.state()
    assert isinstance(env.run(world.agent(IdentityhubActivity)), Fatal)
    assert world.state() == before
