"""The secrets file: who may read it, and what becomes of it when something goes wrong."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest

from cfm_core.assembly import AssemblyError, ServiceAssembler
from cfm_core.assembly.secrets import SECRETS, FileSecretStore, VaultSecretStore, secrets_assembly
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
    assert "s3cret" not in repr(VaultSecretStore("http://127.0.0.1:1", tmp_path / "token"))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (Settings(), "CFM_SECRETS_FILE must name"),
        (Settings(secrets="vault"), "CFM_VAULT_ADDR and CFM_VAULT_TOKEN_FILE must be set"),
    ],
)
def test_a_store_that_is_not_configured_says_what_to_set(settings: Settings, words: str) -> None:
    with pytest.raises(AssemblyError, match=words):
        ServiceAssembler([secrets_assembly(settings)], settings).ensure([SECRETS])


def test_an_unknown_kind_of_store_is_refused() -> None:
    with pytest.raises(FatalError, match="must be file or vault"):
        secrets_assembly(Settings(secrets="drawer"))
