"""The client of the vault: who it is, what it may do, and what it makes of trouble."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import httpx2
import pytest

from cfm_core.clients.vault import Vault
from cfm_core.clients.vault_login import JwtLogin, JwtRole, TokenLogin
from cfm_core.errors import FatalError, RecoverableError
from local.standins import AGENTS, service_account_token
from local.standins.vault_bootstrap import AGENTS_ROLE
from tests.contract.secrets.conftest import SECRET, StoppedClock, VaultWorld

HOUR = 3600


def jwtlet_token(world: VaultWorld, context: str) -> str:
    """What a service of the participant shows to the vault."""
    service_token = service_account_token(SECRET, AGENTS)
    mapping = {"clientIdentifier": AGENTS, "participantContext": context, "scopes": ["read"], "audiences": ["edcv"]}
    url = f"{world.standins.url}/jwtlet"
    bearer = {"Authorization": f"Bearer {service_token}"}
    assert httpx2.post(f"{url}/api/v1/mappings", json=mapping, headers=bearer).status_code in {201, 409}
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token": service_token,
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "resource": context,
        "scope": "read",
    }
    answer = httpx2.post(f"{url}/token", data=form).raise_for_status()
    return str(answer.json()["access_token"])


# What it may do


def test_the_rules_of_the_policy_hold(world: VaultWorld) -> None:
    root = world.vault()
    for path in ("a/b", "a/c/d", "e"):
        root.write_secret(world.mount, path, {"content": path})
    vault = world.vault(
        world.role(
            f'path "{world.mount}/data/a/*" {{ capabilities = ["read"] }}',
            f'path "{world.mount}/data/a/c/*" {{ capabilities = ["deny"] }}',
        )
    )
    assert vault.find_secret(world.mount, "a/b") == {"content": "a/b"}
    for action in (
        lambda: vault.find_secret(world.mount, "a/c/d"),
        lambda: vault.find_secret(world.mount, "e"),
        lambda: vault.write_secret(world.mount, "a/b", {}),
        lambda: vault.delete_secret(world.mount, "a/b"),
        lambda: vault.list_secrets(world.mount, "a"),
        lambda: vault.put_policy("x", 'path "*" { capabilities = ["read"] }'),
        lambda: vault.put_jwt_role("jwt", "x", JwtRole("x", ["y"], ["z"], timedelta(hours=1))),
    ):
        with pytest.raises(FatalError, match="does not allow this token"):
            action()


def test_a_policy_that_is_deleted_allows_nothing_any_more(world: VaultWorld) -> None:
    root = world.vault()
    root.write_secret(world.mount, "a", {"content": "1"})
    root.put_policy("mine", world.everything())
    login = world.role("# nothing", token_policies="mine")
    vault = world.vault(login)
    assert vault.find_secret(world.mount, "a") == {"content": "1"}
    for _ in range(2):
        root.delete_policy("mine")
    with pytest.raises(FatalError, match="does not allow"):
        vault.find_secret(world.mount, "a")


def test_a_policy_that_is_none_is_refused_with_the_servers_words(world: VaultWorld) -> None:
    with pytest.raises(FatalError, match=r"refuses writing the policy 'x' \(status 400: failed to parse policy"):
        world.vault().put_policy("x", 'path "a" { capabilities = ["fly"] }')


def test_folders_are_listed_and_deleted_with_all_that_is_in_them(world: VaultWorld) -> None:
    vault = world.vault(world.role(world.everything()))
    assert vault.list_secrets(world.mount, "f") == []
    vault.delete_folder(world.mount, "f")
    for path in ("f/a", "f/b/c", "f/b/d", "f/b", "g"):
        vault.write_secret(world.mount, path, {"content": "1"})
    assert sorted(vault.list_secrets(world.mount, "f")) == ["a", "b", "b/"]
    vault.delete_folder(world.mount, "f")
    assert vault.list_secrets(world.mount, "f") == []
    assert vault.find_secret(world.mount, "f/b/c") is None
    assert vault.find_secret(world.mount, "g") == {"content": "1"}


# Who it is


def test_a_role_lets_in_its_subject_alone(world: VaultWorld) -> None:
    root = world.vault()
    root.write_secret(world.mount, "a", {"content": "1"})
    root.put_policy("reader", world.everything())
    root.put_jwt_role("jwt", "reader", JwtRole("pc-1", ["edcv"], ["reader"], timedelta(hours=1)))
    token = world.file("jwt", jwtlet_token(world, "pc-1"))
    assert world.vault(JwtLogin("reader", token, "jwt")).find_secret(world.mount, "a") == {"content": "1"}
    other = world.file("other", jwtlet_token(world, "pc-2"))
    with pytest.raises(FatalError, match=r"logging in at auth/jwt as 'reader'.*invalid subject"):
        world.vault(JwtLogin("reader", other, "jwt")).find_secret(world.mount, "a")
    for _ in range(2):
        root.delete_jwt_role("jwt", "reader")
    with pytest.raises(FatalError, match='role "reader" could not be found'):
        world.vault(JwtLogin("reader", token, "jwt")).find_secret(world.mount, "a")


def test_a_participant_sees_its_own_tree_alone(world: VaultWorld) -> None:
    own = world.vault(JwtLogin("participant", world.file("jwt", jwtlet_token(world, "pc-1")), "jwt"))
    own.write_secret("participants", "pc-1/controlplane/key", {"content": "1"})
    assert own.find_secret("participants", "pc-1/controlplane/key") == {"content": "1"}
    for path in ("pc-2/controlplane/key", "pc-11/controlplane/key"):
        with pytest.raises(FatalError, match="does not allow"):
            own.find_secret("participants", path)
    own.delete_secret("participants", "pc-1/controlplane/key")


def test_an_agent_logs_in_with_its_service_accounts_token(standin_vault: VaultWorld) -> None:
    token = standin_vault.file("token", service_account_token(SECRET, AGENTS) + "\n")
    vault = standin_vault.vault(JwtLogin(AGENTS_ROLE, token, "kubernetes"))
    vault.write_secret("secret", "agents/hub", {"content": "1"})
    assert vault.find_secret("secret", "agents/hub") == {"content": "1"}
    other = standin_vault.file("other", service_account_token(SECRET, AGENTS.replace("cfm-agents", "redline")))
    with pytest.raises(FatalError, match="status 403: service account name not authorized"):
        standin_vault.vault(JwtLogin(AGENTS_ROLE, other, "kubernetes")).find_secret("secret", "a")


def test_a_login_that_is_refused_is_fatal_and_its_credential_not_told(world: VaultWorld) -> None:
    login = world.role(world.everything())
    login.file.write_text("s3cret-id")
    with pytest.raises(FatalError, match="does not let this agent in") as caught:
        world.vault(login).find_secret(world.mount, "a")
    assert "s3cret-id" not in str(caught.value)
    with pytest.raises(FatalError, match="logging in at auth/nowhere"):
        world.vault(JwtLogin("r", login.file, "nowhere")).find_secret(world.mount, "a")


def test_a_token_is_renewed_before_it_expires(world: VaultWorld) -> None:
    login = world.role(world.everything())
    vault = world.vault(login)
    vault.find_secret(world.mount, "a")
    login.file.write_text("no login is possible any more")
    for _ in range(3):
        world.clock.now += 0.81 * HOUR
        vault.find_secret(world.mount, "a")


def test_a_token_that_has_expired_is_replaced(world: VaultWorld) -> None:
    login = world.role(world.everything())
    vault = world.vault(login)
    vault.find_secret(world.mount, "a")
    world.clock.now += HOUR
    vault.find_secret(world.mount, "a")
    login.file.write_text("no login is possible any more")
    world.clock.now += HOUR
    with pytest.raises(FatalError, match="does not let this agent in"):
        vault.find_secret(world.mount, "a")


def test_a_token_near_the_end_of_its_longest_life_is_replaced(standin_vault: VaultWorld) -> None:
    login = standin_vault.role(standin_vault.everything(), token_max_ttl="70m")
    vault = standin_vault.vault(login)
    vault.find_secret("secret", "a")
    before = len(list(standin_vault.standins.vault.tokens))
    standin_vault.clock.now += 0.9 * HOUR
    vault.find_secret("secret", "a")
    assert len(list(standin_vault.standins.vault.tokens)) == before + 1


@pytest.mark.parametrize("status", [403, 400, 500])
def test_a_token_that_cannot_be_renewed_is_replaced(
    standin_vault: VaultWorld, fault: Callable[..., None], status: int
) -> None:
    vault = standin_vault.vault(standin_vault.role(standin_vault.everything()))
    vault.find_secret("secret", "a")
    fault(path="/renew-self$", status=status)
    standin_vault.clock.now += 0.9 * HOUR
    vault.find_secret("secret", "a")
    standin_vault.clock.now += 0.5 * HOUR
    vault.find_secret("secret", "a")


def test_a_token_that_is_revoked_is_replaced_at_once(world: VaultWorld) -> None:
    login = world.role(world.everything())
    vault = world.vault(login)
    vault.write_secret(world.mount, "a", {"content": "1"})
    lease = vault._lease
    assert lease is not None
    world.server.send("POST", "auth/token/revoke", {"token": lease.client.token})
    assert vault.find_secret(world.mount, "a") == {"content": "1"}


def test_many_at_once_log_in_once(standin_vault: VaultWorld) -> None:
    vault = standin_vault.vault(standin_vault.role(standin_vault.everything()))
    before = len(list(standin_vault.standins.vault.tokens))
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: vault.find_secret("secret", "a"), range(32)))
    assert len(list(standin_vault.standins.vault.tokens)) == before + 1


def test_a_token_from_a_file_is_read_again_when_it_is_refused(world: VaultWorld) -> None:
    file = world.file("token", "of yesterday")
    vault = world.vault(TokenLogin(file))
    with pytest.raises(FatalError, match="does not allow this token"):
        vault.find_secret(world.mount, "a")
    file.write_text(f"{world.server.token}\n")
    assert vault.find_secret(world.mount, "a") is None


@pytest.mark.parametrize("content", [None, b"\xff"])
def test_a_credential_that_cannot_be_read_is_named(
    standin_vault: VaultWorld, tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "credential"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(FatalError, match="credential"):
        standin_vault.vault(TokenLogin(file)).find_secret("secret", "a")


# Trouble


@pytest.mark.parametrize("status", [408, 412, 425, 429, 472, 473, 500, 502, 503, 504])
@pytest.mark.parametrize("path", ["/secret/", "/login$"])
def test_a_vault_that_is_unwell_is_recoverable(
    standin_vault: VaultWorld, fault: Callable[..., None], status: int, path: str
) -> None:
    vault = standin_vault.vault(standin_vault.role(standin_vault.everything()))
    fault(path=path, status=status, times=1, retryAfter=7)
    with pytest.raises(RecoverableError, match=f"status {status}") as caught:
        vault.find_secret("secret", "a")
    assert caught.value.retry_after == 7
    assert vault.find_secret("secret", "a") is None


@pytest.mark.parametrize("status", [400, 405, 307])
def test_a_vault_that_refuses_is_fatal_and_the_value_is_not_told(
    standin_vault: VaultWorld, fault: Callable[..., None], status: int
) -> None:
    vault = standin_vault.vault()
    fault(status=status, times=1)
    with pytest.raises(FatalError, match=f"status {status}") as caught:
        vault.write_secret("secret", "a", {"content": "s3cret-value"})
    assert "s3cret-value" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_vault_that_hangs_is_recoverable_and_says_what_was_waited_for(
    standin_vault: VaultWorld, fault: Callable[..., None]
) -> None:
    vault = standin_vault.vault(timeout=timedelta(seconds=0.3))
    fault(hang=True, times=1)
    with pytest.raises(RecoverableError, match=r"reading the secret 'a' of secret: .* not answer within 0\.3 s"):
        vault.find_secret("secret", "a")


def test_a_connection_that_is_dropped_after_the_effect_can_be_tried_again(
    standin_vault: VaultWorld, fault: Callable[..., None]
) -> None:
    vault = standin_vault.vault()
    fault(method="POST", drop=True, afterEffect=True, times=1)
    with pytest.raises(RecoverableError, match="cannot be reached"):
        vault.write_secret("secret", "a", {"content": "1"})
    assert vault.find_secret("secret", "a") == {"content": "1"}


def test_a_vault_that_cannot_be_reached_is_recoverable(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t")
    vault = Vault("http://127.0.0.1:1", TokenLogin(tmp_path / "token"), clock=StoppedClock())
    with pytest.raises(RecoverableError, match="cannot be reached"):
        vault.find_secret("secret", "a")


def test_nothing_secret_is_logged_or_shown(world: VaultWorld, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    login = world.role(world.everything())
    vault = world.vault(login)
    vault.write_secret(world.mount, "a", {"content": "s3cret-value"})
    vault.find_secret(world.mount, "a")
    lease = vault._lease
    assert lease is not None
    shown = caplog.text + repr(vault) + repr(lease) + repr(login)
    for secret in ("s3cret-value", lease.client.token, login.file.read_text().strip()):
        assert secret
        assert secret not in shown
