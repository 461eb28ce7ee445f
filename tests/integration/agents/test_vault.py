"""The agent of the vault, against the stand-in and against a real one."""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from cfm_core.agent import ActivityEnvironment, Complete, Fatal, Retry
from cfm_core.clients.settings import DataspaceSettings
from cfm_core.clients.vault import Vault
from cfm_core.clients.vault_login import JwtLogin
from cfm_core.errors import FatalError
from functions.agents.vault.vault import VaultActivity
from local.standins import AGENTS, service_account_token
from tests.integration.agents.conftest import DID, SECRET, World
from tests.integration.agents.test_all_agents import compensation, user_disposal
from tests.support.vault import VaultServer

WRITES = [("PUT", "/policies/acl/"), ("POST", "/auth/jwt/role/")]
DELETES = ["/auth/jwt/role/", "/policies/acl/", "/metadata/"]


@dataclass
class Platform:
    """A vault, and the agent with the rights that it has on a platform."""

    world: World
    server: VaultServer
    agent: VaultActivity
    home: Path
    entries: contextlib.ExitStack

    def participant(self, context: str) -> ActivityEnvironment:
        return ActivityEnvironment(values={"cfm.participant.id": DID, "participantContextId": context})

    def entered(self, context: str, role: str) -> Vault:
        """The vault as a service of the participant sees it."""
        token = service_account_token(SECRET, AGENTS)
        jwtlet = {"Authorization": f"Bearer {token}"}
        mapping = {"clientIdentifier": AGENTS, "participantContext": context, "scopes": ["read"], "audiences": ["edcv"]}
        self.world.control.post("/jwtlet/api/v1/mappings", json=mapping, headers=jwtlet)
        form = {
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "subject_token": token,
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "resource": context,
            "scope": "read",
        }
        exchanged = self.world.control.post("/jwtlet/token", data=form).raise_for_status().json()["access_token"]
        file = self.home / f"jwt-{context}"
        file.write_text(exchanged)
        vault = Vault(self.server.url, JwtLogin(role, file, "jwt"))
        self.entries.callback(vault.close)
        return vault

    def holds(self, context: str) -> dict[str, int]:
        """How the vault answers an administrator who asks for what the participant has."""
        return {
            path: self.server.call(method, path).status_code
            for method, path in (
                ("GET", f"sys/policies/acl/participant-{context}"),
                ("GET", f"auth/jwt/role/participant-{context}"),
                ("LIST", f"participants/metadata/{context}"),
            )
        }


@pytest.fixture
def standin_vault(world: World, tmp_path: Path) -> Iterator[Platform]:
    server = VaultServer(f"{world.standins.url}/vault", SECRET)
    with contextlib.ExitStack() as entries:
        yield Platform(world, server, world.agent(VaultActivity), tmp_path, entries)
    server.stop()


@pytest.fixture
def openbao(world: World, agents_vault: Vault, real_vault: VaultServer, tmp_path: Path) -> Iterator[Platform]:
    with contextlib.ExitStack() as entries:
        yield Platform(world, real_vault, VaultActivity(agents_vault, DataspaceSettings()), tmp_path, entries)


@pytest.fixture(params=["standin_vault", "openbao"])
def platform(request: pytest.FixtureRequest) -> Platform:
    platform: Platform = request.getfixturevalue(request.param)
    return platform


@pytest.fixture
def context() -> str:
    return uuid.uuid4().hex


def fault(world: World, **described: Any) -> None:
    world.fault("vault", **described)


def test_a_participants_services_see_its_space_and_no_other(platform: Platform, context: str) -> None:
    env, other = platform.participant(context), platform.participant(f"{context}0")
    assert env.run(platform.agent) == Complete()
    assert other.run(platform.agent) == Complete()
    assert env.outputs == {"vault.path": f"participants/{context}", "vault.role": f"participant-{context}"}
    own = platform.entered(context, env.outputs["vault.role"])
    own.write_secret("participants", f"{context}/controlplane/key", {"content": "1"})
    assert own.find_secret("participants", f"{context}/controlplane/key") == {"content": "1"}
    for path in (f"{context}0/controlplane/key", f"{context}", "other"):
        with pytest.raises(FatalError, match="does not allow"):
            own.find_secret("participants", path)
    with pytest.raises(FatalError, match="does not let this agent in"):
        platform.entered(f"{context}0", env.outputs["vault.role"]).find_secret("participants", f"{context}/a")


def test_deploying_twice_is_deploying_once(platform: Platform, context: str) -> None:
    env = platform.participant(context)
    assert env.run(platform.agent) == Complete()
    policy = platform.server.send("GET", f"sys/policies/acl/participant-{context}")["data"]["policy"]
    role = platform.server.send("GET", f"auth/jwt/role/participant-{context}")["data"]
    outputs, values = dict(env.outputs), dict(env.values)
    assert env.run(platform.agent) == Complete()
    assert (env.outputs, env.values) == (outputs, values)
    assert platform.server.send("GET", f"sys/policies/acl/participant-{context}")["data"]["policy"] == policy
    assert platform.server.send("GET", f"auth/jwt/role/participant-{context}")["data"] == role


def test_two_at_the_same_time_make_one(platform: Platform, context: str) -> None:
    envs = [platform.participant(context) for _ in range(4)]
    results: list[Any] = []

    def deploy(env: ActivityEnvironment) -> None:
        # A vault may refuse the second of two that write the same at a time: that attempt is made again.
        while isinstance(result := env.run(platform.agent), Retry) and "is not able to answer now" in result.reason:
            pass
        results.append(result)

    threads = [threading.Thread(target=deploy, args=[env]) for env in envs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [Complete()] * 4
    assert all(env.outputs == envs[0].outputs for env in envs)


@pytest.mark.parametrize("disposal", [user_disposal, compensation])
def test_disposing_clears_the_space_and_can_be_repeated(platform: Platform, context: str, disposal: Any) -> None:
    env = platform.participant(context)
    env.outputs["participantContextId"] = context
    env.run(platform.agent)
    own = platform.entered(context, f"participant-{context}")
    for path in ("controlplane/key", "identityhub/a/b", "top"):
        own.write_secret("participants", f"{context}/{path}", {"content": "1"})
    assert set(platform.holds(context).values()) == {200}
    dispose = disposal(env)
    for _ in range(2):
        assert dispose.dispose(platform.agent) == Complete()
        assert set(platform.holds(context).values()) == {404}
    with pytest.raises(FatalError, match=r"does not (allow|let)"):
        own.write_secret("participants", f"{context}/late", {"content": "1"})


def test_the_neighbours_space_stays(platform: Platform, context: str) -> None:
    for one in (context, f"{context}0"):
        platform.participant(one).run(platform.agent)
        platform.entered(one, f"participant-{one}").write_secret("participants", f"{one}/a", {"content": "1"})
    platform.participant(context).dispose(platform.agent)
    assert set(platform.holds(f"{context}0").values()) == {200}


def test_disposing_before_a_deploy_does_nothing(platform: Platform, context: str) -> None:
    assert platform.participant(context).dispose(platform.agent) == Complete()
    assert ActivityEnvironment(values={"cfm.participant.id": DID}).dispose(platform.agent) == Complete()


@pytest.mark.parametrize("context", ["*", "a/b", "..", '" { capabilities = ["sudo"] }', "+", "{{identity.name}}", "é"])
def test_an_id_that_stands_for_more_than_itself_is_refused(platform: Platform, context: str) -> None:
    before = platform.world.state()["vault"]
    for run in (platform.participant(context).run, platform.participant(context).dispose):
        result = run(platform.agent)
        assert isinstance(result, Fatal)
        assert "participantContextId" in result.reason
    assert platform.world.state()["vault"] == before


def test_a_missing_context_is_named(platform: Platform) -> None:
    assert ActivityEnvironment().run(platform.agent) == Fatal("value 'participantContextId' is missing")


@pytest.mark.parametrize(("method", "path"), WRITES)
@pytest.mark.parametrize("how", [{"drop": True}, {"status": 502}], ids=["no-answer", "502"])
def test_an_answer_lost_after_the_effect_is_made_good_by_the_next_attempt(
    standin_vault: Platform, context: str, method: str, path: str, how: dict[str, Any]
) -> None:
    env = standin_vault.participant(context)
    fault(standin_vault.world, method=method, path=path, afterEffect=True, times=1, **how)
    assert isinstance(env.run(standin_vault.agent), Retry)
    assert env.run(standin_vault.agent) == Complete()
    own = standin_vault.entered(context, f"participant-{context}")
    own.write_secret("participants", f"{context}/a", {"content": "1"})


@pytest.mark.parametrize("path", DELETES)
def test_a_disposal_that_was_cut_short_is_finished_by_the_next_attempt(
    standin_vault: Platform, context: str, path: str
) -> None:
    env = standin_vault.participant(context)
    env.run(standin_vault.agent)
    standin_vault.entered(context, f"participant-{context}").write_secret("participants", f"{context}/a", {})
    fault(standin_vault.world, method="DELETE", path=path, drop=True, afterEffect=True, times=1)
    assert isinstance(env.dispose(standin_vault.agent), Retry)
    assert env.dispose(standin_vault.agent) == Complete()
    assert set(standin_vault.holds(context).values()) == {404}


@pytest.mark.parametrize(("method", "path"), WRITES)
def test_a_deploy_that_was_cut_short_is_undone(standin_vault: Platform, context: str, method: str, path: str) -> None:
    env = standin_vault.participant(context)
    fault(standin_vault.world, method=method, path=path, status=400, afterEffect=True)
    assert isinstance(env.run(standin_vault.agent), Fatal)
    standin_vault.world.no_faults()
    assert compensation(env).dispose(standin_vault.agent) == Complete()
    assert set(standin_vault.holds(context).values()) == {404}


def test_a_vault_that_is_unwell_costs_an_attempt_and_says_when_to_come_again(
    standin_vault: Platform, context: str
) -> None:
    env = standin_vault.participant(context)
    fault(standin_vault.world, status=503, times=1, retryAfter=7)
    result = env.run(standin_vault.agent)
    assert isinstance(result, Retry)
    assert result.after == timedelta(seconds=7)
    assert env.run(standin_vault.agent) == Complete()


def test_a_vault_that_hangs_is_named_and_tried_again(world: World, context: str) -> None:
    world.give_up_after(timedelta(seconds=0.5))
    agent = world.agent(VaultActivity)
    env = ActivityEnvironment(values={"participantContextId": context})
    world.fault("vault", hang=True, times=1)
    result = env.run(agent)
    assert isinstance(result, Retry)
    assert "the vault does not answer within 0.5 s" in result.reason
    assert env.run(agent) == Complete()


def test_an_agent_without_the_right_policy_is_told_what_it_may_not(standin_vault: Platform, context: str) -> None:
    standin_vault.server.send("DELETE", "sys/policies/acl/cfm-agents")
    result = standin_vault.participant(context).run(standin_vault.agent)
    assert isinstance(result, Fatal)
    assert f"does not allow this token writing the policy 'participant-{context}'" in result.reason


def test_a_vault_that_is_not_configured_is_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CFM_VAULT_ADDR")
    world.give_up_after(timedelta(seconds=5))
    with pytest.raises(Exception, match="CFM_VAULT_ADDR is not set"):
        world.agent(VaultActivity)
    assert httpx2.get(f"{world.standins.url}/health").status_code == 200
