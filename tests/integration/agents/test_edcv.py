from __future__ import annotations

import json
import logging

import pytest

from cfm_core.agent import ActivityEnvironment, Complete, Fatal
from cfm_core.clients.assembly import CONTROL_PLANE
from functions.agents.edcv.edcv import EdcvActivity
from tests.integration.agents.conftest import DID, World


def test_the_context_is_configured_with_did_and_vault(world: World) -> None:
    env = world.deployed(EdcvActivity)
    context = env.values["participantContextId"]
    held = world.state()["controlplane"]
    assert held["participants"][context]["identity"] == DID
    assert held["configs"][context]["entries"] == {"edc.iam.issuer.id": DID, "edc.participant.id": DID}
    vault = json.loads(held["configs"][context]["privateEntries"]["edc.vault.hashicorp.config"])
    assert vault["config"]["folderPath"] == f"{context}/controlplane"


def test_a_context_of_somebody_else_is_a_conflict(world: World) -> None:
    env = world.deployed(EdcvActivity)
    other = ActivityEnvironment(values={**env.values, "cfm.participant.id": "did:web:other"})
    result = other.run(world.agent(EdcvActivity))
    assert isinstance(result, Fatal)
    assert result.reason.startswith("conflict: participant context")
    assert DID in result.reason


def test_disposing_leaves_what_others_have_configured(world: World) -> None:
    env = world.deployed(EdcvActivity)
    context = env.values["participantContextId"]
    control_plane = world.assembler.ensure([CONTROL_PLANE]).resolve(CONTROL_PLANE)
    control_plane.merge_config(context, {"edc.iam.sts.type": "signature"}, {})
    assert env.dispose(world.agent(EdcvActivity)) == Complete()
    held = world.state()["controlplane"]
    assert held == {
        "participants": {},
        "configs": {context: {"entries": {"edc.iam.sts.type": "signature"}, "privateEntries": {}}},
        "dataplanes": [],
    }


def test_disposing_makes_no_configuration_where_there_is_none(world: World) -> None:
    env = world.environment(EdcvActivity)
    assert env.dispose(world.agent(EdcvActivity)) == Complete()
    assert world.state()["controlplane"]["configs"] == {}


def test_without_a_vault_the_control_plane_keeps_its_own(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CFM_PARTICIPANT_VAULT_URL")
    env = world.deployed(EdcvActivity)
    config = world.state()["controlplane"]["configs"][env.values["participantContextId"]]
    assert config["privateEntries"] == {}


def test_a_did_of_another_method_is_only_warned_about(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    env = world.environment(EdcvActivity)
    env.values["cfm.participant.id"] = "did:key:z6Mk"
    assert env.run(world.agent(EdcvActivity)) == Complete()
    assert "did:key:z6Mk" in caplog.text


def test_a_scope_that_the_mapping_lacks_is_fatal_and_named_even_when_disposing(world: World) -> None:
    env = world.deployed(EdcvActivity)
    world.assembler.stop()
    world.fault("jwtlet", path="/token", status=403)
    result = env.dispose(world.agent(EdcvActivity))
    assert isinstance(result, Fatal)
    assert "scope 'management-api:admin'" in result.reason
