from __future__ import annotations

import re
from datetime import timedelta

from cfm_core.agent import ActivityEnvironment, Complete, Fatal, Retry
from functions.agents.jwtlet.jwtlet import AGENT_SCOPES, JwtletActivity
from local.standins import AGENTS, service_account_token
from tests.integration.agents.conftest import PAYLOAD, SECRET, World


def test_the_agents_the_control_plane_and_the_identity_hub_are_mapped(world: World) -> None:
    env = world.deployed(JwtletActivity)
    context = env.values["participantContextId"]
    assert re.fullmatch(r"[0-9a-f]{32}", context)
    assert env.outputs == {"participantContextId": context}
    found = {one["clientIdentifier"]: one for one in world.state()["jwtlet"]["mappings"]}
    assert found[AGENTS] == {
        "clientIdentifier": AGENTS,
        "participantContext": context,
        "scopes": list(AGENT_SCOPES),
        "audiences": ["edcv"],
    }
    assert {name.rpartition(":")[2]: one["scopes"] for name, one in found.items() if name != AGENTS} == {
        "controlplane": ["read"],
        "identityhub": ["read"],
    }


def test_a_context_id_that_is_known_is_kept(world: World) -> None:
    env = ActivityEnvironment(values={**PAYLOAD, "participantContextId": "a" * 32})
    assert env.run(world.agent(JwtletActivity)) == Complete()
    assert env.outputs == {"participantContextId": "a" * 32}


def test_another_orchestration_gets_another_context(world: World) -> None:
    agent = world.agent(JwtletActivity)
    contexts = set()
    for orchestration_id in ("one", "two"):
        env = ActivityEnvironment(values=PAYLOAD, orchestration_id=orchestration_id)
        env.run(agent)
        contexts.add(env.values["participantContextId"])
    assert len(contexts) == 2


def test_a_mapping_with_other_scopes_is_replaced(world: World) -> None:
    env = world.deployed(JwtletActivity)
    token = service_account_token(SECRET, AGENTS)
    context = env.values["participantContextId"]
    world.control.put(
        f"/jwtlet/api/v1/mappings/{AGENTS}/{context}",
        json={"clientIdentifier": AGENTS, "participantContext": context, "scopes": ["read"], "audiences": []},
        headers={"Authorization": f"Bearer {token}"},
    ).raise_for_status()
    assert env.run(world.agent(JwtletActivity)) == Complete()
    scopes = {tuple(one["scopes"]) for one in world.state()["jwtlet"]["mappings"] if one["clientIdentifier"] == AGENTS}
    assert scopes == {AGENT_SCOPES}


def test_a_mapping_that_is_not_seen_at_once_is_waited_for(world: World) -> None:
    env = world.environment(JwtletActivity)
    world.fault("jwtlet", path="/token", status=403, times=1)
    result = env.run(world.agent(JwtletActivity))
    assert isinstance(result, Retry)
    assert result.after == timedelta(seconds=1)
    assert "siglet-mgmt-api:write" in result.reason
    assert env.values["participantContextId"], "a later disposal needs it, whatever becomes of this deployment"
    assert env.run(world.agent(JwtletActivity)) == Complete()


def test_a_service_token_that_is_not_accepted_is_read_again_and_then_tried_later(world: World) -> None:
    env = world.environment(JwtletActivity)
    agent = world.agent(JwtletActivity)
    world.fault("jwtlet", path="/mappings", status=401)
    assert isinstance(env.run(agent), Retry)
    world.no_faults()
    world.fault("jwtlet", path="/mappings", status=401, times=1)
    assert env.run(agent) == Complete()


def test_a_scope_that_is_not_seeded_is_fatal_and_the_scopes_are_listed(world: World) -> None:
    world.fault("jwtlet", path="/token", status=400)
    result = world.environment(JwtletActivity).run(world.agent(JwtletActivity))
    assert isinstance(result, Fatal)
    assert all(scope in result.reason for scope in AGENT_SCOPES)


def test_a_deploy_that_failed_before_the_id_was_published_is_undone(world: World) -> None:
    env = world.environment(JwtletActivity)
    world.fault("jwtlet", path="/token", status=400)
    assert isinstance(env.run(world.agent(JwtletActivity)), Fatal)
    assert len(world.state()["jwtlet"]["mappings"]) == 3
    undo = ActivityEnvironment(orchestration_id=f"{env.orchestration_id}.compensate", values=env.values)
    assert undo.dispose(world.agent(JwtletActivity)) == Complete()
    assert world.state()["jwtlet"]["mappings"] == []
