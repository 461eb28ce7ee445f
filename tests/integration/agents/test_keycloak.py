from __future__ import annotations

import contextlib
import re
import threading
import uuid
from datetime import timedelta
from typing import Any

import httpx2
import pytest

from cfm_core.agent import ActivityEnvironment, Complete, Fatal, Retry
from cfm_core.clients.http import HttpClient
from cfm_core.clients.keycloak import Keycloak
from cfm_core.clients.settings import DataspaceSettings
from cfm_core.clients.vault import Vault
from cfm_core.contracts.participant import context_id
from functions.agents.keycloak.keycloak import ADMIN, KeycloakActivity
from local.standins.keycloak import admin_password
from tests.integration.agents.conftest import DID, SECRET, World
from tests.integration.agents.test_all_agents import compensation, user_disposal
from tests.support.vault import VaultServer

CONTEXT = "0123456789abcdef0123456789abcdef"
CLIENTS = [CONTEXT, f"{CONTEXT}-vault"]
PASSWORD = admin_password(SECRET)
REALM = "/keycloak/admin/realms/edcv/clients"
DEPLOY_CALLS = [
    ("keycloak", "POST", "/token$"),
    ("keycloak", "POST", "/clients$"),
    *(("vault", method, f"/secret/data/{client_id}$") for client_id in CLIENTS for method in ("GET", "POST")),
]
DISPOSE_CALLS = [
    ("keycloak", "GET", "/clients$"),
    ("keycloak", "DELETE", "/clients/"),
    ("vault", "DELETE", "/secret/metadata/"),
]


@pytest.fixture
def agent(world: World) -> KeycloakActivity:
    return world.agent(KeycloakActivity)


def with_secrets(env: ActivityEnvironment, password: str = PASSWORD) -> ActivityEnvironment:
    return ActivityEnvironment(
        orchestration_id=env.orchestration_id, values=env.values, outputs=env.outputs, secrets={ADMIN: password}
    )


def participant(**values: Any) -> ActivityEnvironment:
    given = {"cfm.participant.id": DID, "participantContextId": CONTEXT, **values}
    return with_secrets(ActivityEnvironment(values=given))


def admin(world: World, method: str, path: str, body: Any = None) -> httpx2.Response:
    form = {"grant_type": "password", "client_id": "admin-cli", "username": "admin", "password": PASSWORD}
    token = world.control.post("/keycloak/realms/master/protocol/openid-connect/token", data=form).json()
    headers = {"Authorization": f"Bearer {token['access_token']}"}
    return world.control.request(method, path, json=body, headers=headers).raise_for_status()


def secret_at_keycloak(world: World, client_id: str) -> str:
    (client,) = admin(world, "GET", f"{REALM}?clientId={client_id}").json()
    return str(admin(world, "GET", f"{REALM}/{client['id']}/client-secret").json()["value"])


def secret_in_vault(world: World, client_id: str) -> Any:
    answer = world.control.get(f"/vault/v1/secret/data/{client_id}", headers={"X-Vault-Token": SECRET})
    return answer.json()["data"]["data"] if answer.status_code == 200 else None


def client_ids(world: World) -> list[str]:
    return sorted(one["clientId"] for one in world.state()["keycloak"]["clients"])


def assert_complete(world: World) -> None:
    """Both clients are there, and the vault has the secrets that they have."""
    assert client_ids(world) == CLIENTS
    for client_id in CLIENTS:
        assert secret_in_vault(world, client_id) == {"content": secret_at_keycloak(world, client_id)}


def assert_nothing_left(world: World) -> None:
    assert client_ids(world) == []
    assert world.state()["vault"]["secrets"] == []


def test_both_clients_are_made_and_their_secrets_kept(world: World, agent: KeycloakActivity) -> None:
    env = participant()
    assert env.run(agent) == Complete()
    assert_complete(world)
    assert env.outputs == {
        "participantContextId": CONTEXT,
        "clientID.apiAccess": CONTEXT,
        "clientSecret.apiAccess": f"vault:secret/{CONTEXT}#content",
        "clientID.vaultAccess": f"{CONTEXT}-vault",
        "clientSecret.vaultAccess": f"vault:secret/{CONTEXT}-vault#content",
    }
    assert env.outputs.items() <= env.values.items()


def test_a_client_gets_tokens_for_its_context(world: World, agent: KeycloakActivity) -> None:
    participant().run(agent)
    kept = secret_in_vault(world, f"{CONTEXT}-vault")["content"]
    assert re.fullmatch("[0-9a-f]{64}", kept)
    form = {"grant_type": "client_credentials", "client_id": f"{CONTEXT}-vault", "client_secret": kept}
    answer = world.control.post("/keycloak/realms/edcv/protocol/openid-connect/token", data=form)
    assert answer.status_code == 200
    (client,) = admin(world, "GET", f"{REALM}?clientId={CONTEXT}-vault").json()
    claims = {one["config"]["claim.name"]: one["config"]["claim.value"] for one in client["protocolMappers"]}
    assert claims == {"participant_context_id": CONTEXT, "role": "participant"}
    assert (client["publicClient"], client["standardFlowEnabled"], client["directAccessGrantsEnabled"]) == (False,) * 3


def test_the_agents_policy_is_enough_in_a_real_vault(
    world: World, agents_vault: Vault, real_vault: VaultServer
) -> None:
    settings, context = DataspaceSettings.from_environ(), uuid.uuid4().hex
    env = participant(participantContextId=context)
    with contextlib.closing(HttpClient()) as http:
        keycloak = Keycloak(http, settings.keycloak_url, settings.keycloak_realm, settings.keycloak_username)
        agent = KeycloakActivity(keycloak, agents_vault, settings)
        for _ in range(2):
            assert env.run(agent) == Complete()
        kept = real_vault.send("GET", f"secret/data/{context}-vault")["data"]
        assert kept["data"] == {"content": secret_at_keycloak(world, f"{context}-vault")}
        assert kept["metadata"]["version"] == 1
        for _ in range(2):
            assert env.dispose(agent) == Complete()
            assert real_vault.call("GET", f"secret/metadata/{context}-vault").status_code == 404


def test_without_a_context_id_one_is_derived_and_kept(world: World, agent: KeycloakActivity) -> None:
    env = with_secrets(ActivityEnvironment(values={"cfm.participant.id": DID}))
    assert env.run(agent) == Complete()
    assert re.fullmatch("[0-9a-f]{32}", env.values["participantContextId"])
    again = with_secrets(ActivityEnvironment(values={"cfm.participant.id": DID}))
    assert again.run(agent) == Complete()
    assert again.outputs == env.outputs
    assert len(client_ids(world)) == 2


def test_deploying_twice_is_deploying_once(world: World, agent: KeycloakActivity) -> None:
    env = participant()
    env.run(agent)
    before, outputs = world.state(), dict(env.outputs)
    assert env.run(agent) == Complete()
    assert (world.state(), env.outputs) == (before, outputs)


def test_several_at_the_same_time_make_one(world: World, agent: KeycloakActivity) -> None:
    results: list[Any] = []
    threads = [threading.Thread(target=lambda: results.append(participant().run(agent))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [Complete()] * 6
    assert_complete(world)


@pytest.mark.parametrize(("service", "method", "path"), DEPLOY_CALLS)
@pytest.mark.parametrize("how", [{"drop": True}, {"status": 502}], ids=["no-answer", "502"])
def test_an_answer_lost_after_the_effect_is_made_good_by_the_next_attempt(
    world: World, agent: KeycloakActivity, service: str, method: str, path: str, how: dict[str, Any]
) -> None:
    env = participant()
    world.fault(service, method=method, path=path, afterEffect=True, times=1, **how)
    assert isinstance(env.run(agent), Retry)
    assert env.values["participantContextId"] == CONTEXT
    assert env.run(agent) == Complete()
    assert_complete(world)


def test_an_answer_lost_after_the_second_client_is_made_good_too(world: World, agent: KeycloakActivity) -> None:
    env = participant()
    world.fault("keycloak", method="POST", path="/clients$", delaySeconds=0.001, times=1)
    world.fault("keycloak", method="POST", path="/clients$", drop=True, afterEffect=True, times=1)
    assert isinstance(env.run(agent), Retry)
    assert client_ids(world) == CLIENTS
    assert env.run(agent) == Complete()
    assert_complete(world)


@pytest.mark.parametrize(("service", "method", "path"), DISPOSE_CALLS)
def test_a_disposal_that_was_cut_short_is_finished_by_the_next_attempt(
    world: World, agent: KeycloakActivity, service: str, method: str, path: str
) -> None:
    env = participant()
    env.run(agent)
    world.fault(service, method=method, path=path, afterEffect=True, drop=True, times=1)
    assert isinstance(env.dispose(agent), Retry)
    assert env.dispose(agent) == Complete()
    assert_nothing_left(world)


@pytest.mark.parametrize(("service", "method", "path"), DEPLOY_CALLS)
def test_a_deploy_that_was_cut_short_is_undone(
    world: World, agent: KeycloakActivity, service: str, method: str, path: str
) -> None:
    env = with_secrets(ActivityEnvironment(values={"cfm.participant.id": DID}))
    derived = context_id(env.values, env.orchestration_id)
    world.fault(service, method=method, path=path.replace(CONTEXT, derived), afterEffect=True, status=400)
    assert isinstance(env.run(agent), Fatal)
    world.no_faults()
    # What the deploy recorded may be lost: the id is derived from its orchestration.
    for values in (env.values, {"cfm.participant.id": DID}):
        undo = with_secrets(compensation(ActivityEnvironment(values=values)))
        assert undo.dispose(agent) == Complete()
    assert_nothing_left(world)


@pytest.mark.parametrize("disposal", [user_disposal, compensation])
def test_disposing_undoes_the_deploy_and_can_be_repeated(world: World, agent: KeycloakActivity, disposal: Any) -> None:
    env = participant()
    env.run(agent)
    dispose = with_secrets(disposal(env))
    for _ in range(2):
        assert dispose.dispose(agent) == Complete()
        assert_nothing_left(world)
    assert participant().run(agent) == Complete()
    assert_complete(world)


def test_disposing_before_a_deploy_does_nothing(world: World, agent: KeycloakActivity) -> None:
    before = world.state()
    assert participant().dispose(agent) == Complete()
    assert with_secrets(ActivityEnvironment(values={"cfm.vpa.state": {}})).dispose(agent) == Complete()
    assert world.state() == before


def test_a_client_that_is_there_keeps_its_secret_and_the_vault_gets_it(world: World, agent: KeycloakActivity) -> None:
    env = participant()
    env.run(agent)
    (client,) = admin(world, "GET", f"{REALM}?clientId={CONTEXT}").json()
    new = admin(world, "POST", f"{REALM}/{client['id']}/client-secret").json()["value"]
    assert env.run(agent) == Complete()
    assert secret_in_vault(world, CONTEXT) == {"content": new}


def test_a_client_of_somebody_else_is_a_conflict(world: World, agent: KeycloakActivity) -> None:
    admin(world, "POST", REALM, {"clientId": CONTEXT, "secret": "other"})
    assert participant().run(agent) == Fatal(f"conflict: client '{CONTEXT}' exists at Keycloak for the context None")
    assert secret_in_vault(world, CONTEXT) is None


def test_a_client_that_vanishes_meanwhile_is_looked_for_again(world: World, agent: KeycloakActivity) -> None:
    world.fault("keycloak", method="POST", path="/clients$", status=409, times=1)
    env = participant()
    assert env.run(agent) == Retry(f"the client '{CONTEXT}' comes and goes at Keycloak")
    assert env.run(agent) == Complete()


def test_a_token_that_has_expired_is_replaced_once(world: World, agent: KeycloakActivity) -> None:
    world.fault("keycloak", path="/clients$", status=401, times=1)
    assert participant().run(agent) == Complete()
    world.fault("keycloak", path="/clients$", status=401)
    result = participant().run(agent)
    assert isinstance(result, Fatal)
    assert "answered 401" in result.reason


def test_a_token_that_holds_no_longer_is_not_shown_again(world: World) -> None:
    settings = DataspaceSettings.from_environ()
    with contextlib.closing(HttpClient()) as http:
        clients = Keycloak(http, settings.keycloak_url, settings.keycloak_realm, "admin").administered(PASSWORD)
        assert clients.find(CONTEXT) is None
        world.now += 61
        assert clients.find(CONTEXT) is None


@pytest.mark.parametrize("service", ["keycloak", "vault"])
def test_a_service_that_is_unwell_costs_an_attempt(world: World, agent: KeycloakActivity, service: str) -> None:
    env = participant()
    world.fault(service, status=503, times=1, retryAfter=7)
    result = env.run(agent)
    assert isinstance(result, Retry)
    assert result.after == timedelta(seconds=7)
    assert env.run(agent) == Complete()


@pytest.mark.parametrize("service", ["keycloak", "vault"])
@pytest.mark.parametrize("status", [400, 403, 422])
def test_a_service_that_refuses_is_fatal(world: World, agent: KeycloakActivity, service: str, status: int) -> None:
    world.fault(service, status=status)
    result = participant().run(agent)
    assert isinstance(result, Fatal)
    assert str(status) in result.reason


@pytest.mark.parametrize("service", ["keycloak", "vault"])
def test_a_service_that_hangs_is_tried_again(world: World, service: str) -> None:
    world.give_up_after(timedelta(seconds=0.5))
    env, agent = participant(), world.agent(KeycloakActivity)
    world.fault(service, hang=True, times=1)
    result = env.run(agent)
    assert isinstance(result, Retry)
    assert "within 0.5 s" in result.reason
    assert env.run(agent) == Complete()


@pytest.mark.parametrize("password", ["wrong&grant_type=client_credentials", "wr+ng%20"])
def test_a_wrong_password_is_fatal_and_not_told(world: World, agent: KeycloakActivity, password: str) -> None:
    result = with_secrets(participant(), password).run(agent)
    assert isinstance(result, Fatal)
    assert "does not let 'admin' in: 401 invalid_grant" in result.reason
    assert password not in result.reason


def test_a_missing_password_is_named(agent: KeycloakActivity) -> None:
    env = ActivityEnvironment(values={"participantContextId": CONTEXT})
    assert env.run(agent) == Fatal("no secret 'keycloak/admin'")


def test_no_secret_is_among_what_is_recorded(world: World, agent: KeycloakActivity) -> None:
    env = participant()
    env.run(agent)
    env.dispose(agent)
    recorded = str(env.values) + str(env.outputs)
    for secret in world.control.get("/_control/secrets").json():
        assert secret not in recorded
