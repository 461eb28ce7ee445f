"""The secrets file: who may read it, and what becomes of it when something goes wrong."""

from __future__ import annotations

import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from cfm_core.assembly import AssemblyError, ServiceAssembler
from cfm_core.assembly.secrets import SECRETS, FileSecretStore, MountedSecrets, VaultSecretStore, secrets_assembly
from cfm_core.clients.vault import Vault
from cfm_core.clients.vault_login import TokenLogin
from cfm_core.deployment import assemblies
from cfm_core.errors import FatalError
from cfm_core.settings import Settings


def test_only_the_owner_can_read_the_file(tmp_path: Path) -> None:
    FileSecretStore(tmp_path / "secrets.json").put("a", "1")
    assert stat.S_IMODE((tmp_path / "secrets.json").stat().st_mode) == 0o600


def test_a_file_that_others_can_read_is_refused_with_the_remedy(tmp_path: Path) -> None:
    file = tmp_path / "secrets.json"
    file.write_text("{}")
    file.chmod(0o640)
    with pytest.raises(FatalError, match="run: chmod 600"):
        FileSecretStore(file).get("a")


def test_a_broken_file_is_not_quoted(tmp_path: Path) -> None:
    file = tmp_path / "secrets.json"
    file.touch(mode=0o600)
    file.write_text('{"a": "s3cret"')
    with pytest.raises(FatalError) as caught:
        FileSecretStore(file).get("a")
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    store = FileSecretStore(tmp_path / "absent" / "secrets.json")
    with pytest.raises(FatalError, match="absent"):
        store.put("a", "1")


def test_writers_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    file = tmp_path / "secrets.json"
    writers = [threading.Thread(target=FileSecretStore(file).put, args=(f"k{n}", str(n))) for n in range(20)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    store = FileSecretStore(file)
    assert [store.get(f"k{n}") for n in range(20)] == [str(n) for n in range(20)]


def test_a_reader_sees_the_file_before_or_after_a_write_and_nothing_is_left_over(tmp_path: Path) -> None:
    store = FileSecretStore(tmp_path / "secrets.json")
    store.put("a", "1")
    store.put("a", "2")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".secrets.json.lock", "secrets.json"]


def test_no_store_shows_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret")
    store = FileSecretStore(tmp_path / "secrets.json")
    store.put("a", "s3cret")
    assert "s3cret" not in repr(store)
    assert "s3cret" not in repr(MountedSecrets(tmp_path))
    vault = Vault("http://127.0.0.1:1", TokenLogin(tmp_path / "token"))
    assert "s3cret" not in repr(VaultSecretStore(vault))


VAULT_SETTINGS = {"secrets": "vault", "vault_addr": "http://127.0.0.1:1"}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "CFM_SECRETS_FILE must name"),
        ({"secrets": "mounted"}, "CFM_SECRETS_DIRECTORY must name"),
        ({"secrets": "vault"}, "CFM_VAULT_ADDR is not set"),
        (VAULT_SETTINGS, "CFM_VAULT_TOKEN_FILE is not set, and CFM_VAULT_AUTH=token needs it"),
        (VAULT_SETTINGS | {"vault_auth": "kubernetes"}, "CFM_VAULT_ROLE is not set, and CFM_VAULT_AUTH=kubernetes"),
        (VAULT_SETTINGS | {"vault_auth": "approle"}, "CFM_VAULT_SECRET_ID_FILE is not set"),
        (VAULT_SETTINGS | {"vault_auth": "ldap"}, "CFM_VAULT_AUTH is 'ldap'; it must be token, kubernetes"),
    ],
)
def test_a_store_that_is_not_configured_says_what_to_set(settings: dict[str, Any], words: str) -> None:
    told = Settings(**settings)
    with pytest.raises(AssemblyError, match=words):
        ServiceAssembler(assemblies(told), told).ensure([SECRETS])


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({"secrets_file": "/f"}, FileSecretStore),
        ({"secrets": "mounted", "secrets_directory": "/d"}, MountedSecrets),
        (VAULT_SETTINGS | {"vault_token_file": "/t"}, VaultSecretStore),
    ],
)
def test_the_store_is_the_one_of_the_settings(settings: dict[str, Any], kind: type[Any]) -> None:
    told = Settings(**settings)
    assembler = ServiceAssembler(assemblies(told), told)
    assert isinstance(assembler.ensure([SECRETS]).resolve(SECRETS), kind)
    assembler.stop()


def test_an_unknown_kind_of_store_is_refused() -> None:
    with pytest.raises(FatalError, match="must be file, mounted or vault"):
        secrets_assembly(Settings(secrets="drawer"))
