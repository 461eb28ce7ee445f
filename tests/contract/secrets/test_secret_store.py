"""One suite over all secret stores; the vault's runs against the stand-in, over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest

from cfm_core.assembly.secrets import FileSecretStore, SecretStore, VaultSecretStore
from cfm_core.errors import FatalError, NotFoundError, RecoverableError, ValidationError
from local.standins.server import StandIns


@pytest.fixture
def standins() -> Iterator[StandIns]:
    standins = StandIns("token-1")
    standins.start()
    yield standins
    standins.stop()


@pytest.fixture
def vault_token(tmp_path: Path) -> Path:
    file = tmp_path / "vault-token"
    file.write_text("token-1\n")
    return file


@pytest.fixture
def vault(standins: StandIns, vault_token: Path) -> VaultSecretStore:
    return VaultSecretStore(f"{standins.url}/vault", vault_token)


@pytest.fixture(params=["file", "vault"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> SecretStore:
    if request.param == "file":
        return FileSecretStore(tmp_path / "secrets.json")
    vault: VaultSecretStore = request.getfixturevalue("vault")
    return vault


@pytest.fixture
def fault(standins: StandIns) -> Callable[..., None]:
    def add(**described: object) -> None:
        httpx2.post(
            f"{standins.url}/_control/faults",
            json={"service": "vault", **described},
            headers={"Authorization": "Bearer token-1"},
        ).raise_for_status()

    return add


def test_a_secret_is_given_as_it_was_put(store: SecretStore) -> None:
    for value in ("simple", "", 'ümlaut "quoted" \n line', "x" * 10_000):
        store.put("participants/acme/key", value)
        assert store.get("participants/acme/key") == value


def test_a_secret_that_was_never_put_is_not_found(store: SecretStore) -> None:
    with pytest.raises(NotFoundError):
        store.get("never/put")


def test_a_deleted_secret_is_not_found_and_can_be_put_again(store: SecretStore) -> None:
    store.put("a/b", "1")
    store.delete("a/b")
    with pytest.raises(NotFoundError):
        store.get("a/b")
    store.put("a/b", "2")
    assert store.get("a/b") == "2"


def test_deleting_what_is_not_there_changes_nothing(store: SecretStore) -> None:
    store.delete("never/put")
    store.put("a", "1")
    store.delete("a")
    store.delete("a")


def test_paths_do_not_disturb_each_other(store: SecretStore) -> None:
    store.put("a", "1")
    store.put("a/b", "2")
    store.put("a b/ü", "3")
    store.delete("a")
    assert (store.get("a/b"), store.get("a b/ü")) == ("2", "3")


@pytest.mark.parametrize("path", ["", "/", "a//b", "/a", "a/", "a.", "a/../b", "a\n", "a/./b"])
def test_a_path_that_some_store_cannot_hold_is_refused(store: SecretStore, path: str) -> None:
    for action in (store.get, store.delete, lambda path: store.put(path, "1")):
        with pytest.raises(ValidationError):
            action(path)


def test_the_vaults_token_is_read_again_when_it_is_refused(
    vault: VaultSecretStore, standins: StandIns, vault_token: Path
) -> None:
    vault.put("a", "1")
    standins.vault.tokens = {"token-2"}
    vault_token.write_text("token-2")
    assert vault.get("a") == "1"


def test_a_token_that_stays_refused_is_fatal(vault: VaultSecretStore, vault_token: Path) -> None:
    vault_token.write_text("wrong")
    with pytest.raises(FatalError, match="does not allow this token"):
        vault.get("a")


def test_a_missing_token_file_is_named(standins: StandIns, tmp_path: Path) -> None:
    with pytest.raises(FatalError, match="absent"):
        VaultSecretStore(f"{standins.url}/vault", tmp_path / "absent").get("a")


@pytest.mark.parametrize("status", [412, 429, 473, 500, 502, 503])
def test_a_vault_that_is_unwell_is_recoverable(
    vault: VaultSecretStore, fault: Callable[..., None], status: int
) -> None:
    fault(status=status, times=1)
    with pytest.raises(RecoverableError):
        vault.get("a")
    vault.put("a", "1")


@pytest.mark.parametrize("status", [400, 405])
def test_a_vault_that_refuses_is_fatal_and_the_value_is_not_told(
    vault: VaultSecretStore, fault: Callable[..., None], status: int
) -> None:
    fault(status=status, times=1)
    with pytest.raises(FatalError) as caught:
        vault.put("a", "s3cret-value")
    assert "s3cret-value" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_vault_that_cannot_be_reached_is_recoverable(vault_token: Path) -> None:
    with pytest.raises(RecoverableError, match="cannot be reached"):
        VaultSecretStore("http://127.0.0.1:1", vault_token).get("a")


def test_a_mount_that_does_not_exist_is_not_found(standins: StandIns, vault_token: Path) -> None:
    with pytest.raises(NotFoundError):
        VaultSecretStore(f"{standins.url}/vault", vault_token, "elsewhere").get("a")
    with pytest.raises(FatalError, match="nothing mounted at 'elsewhere'"):
        VaultSecretStore(f"{standins.url}/vault", vault_token, "elsewhere").put("a", "1")


def test_a_secret_of_another_shape_is_fatal(vault: VaultSecretStore, standins: StandIns) -> None:
    httpx2.post(
        f"{standins.url}/vault/v1/secret/data/a",
        json={"data": {"password": "s3cret"}},
        headers={"X-Vault-Token": "token-1"},
    ).raise_for_status()
    with pytest.raises(FatalError, match="no field 'content'"):
        vault.get("a")
