"""One suite over all stores of secrets."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from cfm_core.assembly.secrets import FileSecretStore, MountedSecrets, SecretSource, SecretStore, VaultSecretStore
from cfm_core.errors import FatalError, NotFoundError, ValidationError
from tests.contract.secrets.conftest import VaultWorld

WRITABLE = ["file", "standin_vault", "openbao"]
NO_PATHS = ["", "/", "a//b", "/a", "a/", "a.", "a/../b", "a\n", "a/./b"]
NO_REFERENCES = ["vault:", "vault:a", "vault:a/b", "vault:a/b#", "vault:/b#c", "vault:a/../b#c", "vault:a/b#c\n"]


@dataclass
class Held:
    """A store, and how somebody else puts the fields of a secret into it."""

    source: SecretSource
    world: VaultWorld | None
    home: Path

    def give(self, mount: str, path: str, **fields: str) -> None:
        for field, value in fields.items():
            match self.source:
                case MountedSecrets():
                    plain = (mount, field) == ("secret", "content")
                    file = self.home / "mounted" / (path if plain else f"{mount}/{path}/{field}")
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_bytes(value.encode())
                case FileSecretStore():
                    name = path if (mount, field) == ("secret", "content") else f"vault:{mount}/{path}#{field}"
                    file = self.home / "secrets.json"
                    held = json.loads(file.read_text()) if file.exists() else {}
                    file.touch(mode=0o600)
                    file.write_text(json.dumps(held | {name: value}))
        if self.world is not None:
            self.world.server.send("POST", f"{mount}/data/{path}", {"data": fields})

    @property
    def mount(self) -> str:
        return self.world.mount if self.world is not None else "secret"


def made(kind: str, request: pytest.FixtureRequest, home: Path) -> Held:
    match kind:
        case "file":
            return Held(FileSecretStore(home / "secrets.json"), None, home)
        case "mounted":
            return Held(MountedSecrets(home / "mounted"), None, home)
    world: VaultWorld = request.getfixturevalue(kind)
    return Held(VaultSecretStore(world.vault(), world.mount), world, home)


@pytest.fixture(params=WRITABLE)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> SecretStore:
    held = made(request.param, request, tmp_path)
    assert isinstance(held.source, FileSecretStore | VaultSecretStore)
    return held.source


@pytest.fixture(params=["mounted", *WRITABLE])
def held(request: pytest.FixtureRequest, tmp_path: Path) -> Held:
    return made(request.param, request, tmp_path)


def test_a_secret_is_given_as_it_was_put(store: SecretStore) -> None:
    for value in ("simple", "", 'ümlaut "quoted" \n line\n', "x" * 10_000):
        store.put("participants/acme/key", value)
        assert store.get("participants/acme/key") == value


def test_a_secret_that_somebody_else_put_is_given_as_it_is_now(held: Held) -> None:
    for value in ("one", 'two: "ü"\n'):
        held.give(held.mount, "agents/hub", content=value)
        assert held.source.get("agents/hub") == value


def test_a_path_stands_for_a_reference_to_its_content(held: Held) -> None:
    held.give(held.mount, "agents/hub", content="1")
    assert held.source.get(f"vault:{held.mount}/agents/hub#content") == "1"


def test_a_reference_names_mount_path_and_field(held: Held) -> None:
    held.give("participants", "acme/dns", user="u", password="p")
    assert held.source.get("vault:participants/acme/dns#password") == "p"
    assert held.source.get("vault:participants/acme/dns#user") == "u"
    with pytest.raises(NotFoundError):
        held.source.get("vault:participants/acme/absent#user")


def test_a_field_that_is_not_there_is_never_another(held: Held) -> None:
    held.give("participants", "acme/dns", user="u")
    with pytest.raises((NotFoundError, FatalError), match="vault:participants/acme/dns#password"):
        held.source.get("vault:participants/acme/dns#password")


def test_a_secret_that_was_never_put_is_not_found(held: Held) -> None:
    with pytest.raises(NotFoundError):
        held.source.get("never/put")


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
    store.put("a b/ü#?%", "3")
    store.delete("a")
    assert (store.get("a/b"), store.get("a b/ü#?%")) == ("2", "3")


@pytest.mark.parametrize("name", [*NO_PATHS, *NO_REFERENCES])
def test_a_name_that_some_store_cannot_hold_is_refused(held: Held, name: str) -> None:
    with pytest.raises(ValidationError):
        held.source.get(name)


@pytest.mark.parametrize("path", [*NO_PATHS, "vault:secret/a#content"])
def test_only_a_path_can_be_written(store: SecretStore, path: str) -> None:
    for action in (store.delete, lambda path: store.put(path, "1")):
        with pytest.raises(ValidationError):
            action(path)


def test_a_mount_that_does_not_exist_is_not_found(world: VaultWorld) -> None:
    store = VaultSecretStore(world.vault(), "elsewhere")
    with pytest.raises(NotFoundError):
        store.get("a")
    with pytest.raises(FatalError, match="nothing is mounted there"):
        store.put("a", "1")


def test_a_softly_deleted_secret_is_not_found(world: VaultWorld) -> None:
    store = VaultSecretStore(world.vault(), world.mount)
    store.put("a", "1")
    world.server.send("DELETE", f"{world.mount}/data/a")
    with pytest.raises(NotFoundError):
        store.get("a")


def test_a_mounted_folder_may_be_replaced_as_a_whole(tmp_path: Path) -> None:
    for number in ("one", "two"):
        (tmp_path / number).mkdir()
        (tmp_path / number / "hub").write_text(number)
    link = tmp_path / "mounted"
    link.symlink_to("one")
    source = MountedSecrets(link)
    assert source.get("hub") == "one"
    (tmp_path / "new").symlink_to("two")
    (tmp_path / "new").replace(link)
    assert source.get("hub") == "two"


def test_a_folder_is_no_secret_and_a_file_no_folder(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_text("1")
    source = MountedSecrets(tmp_path)
    for name in ("a", "a/b/c"):
        with pytest.raises(NotFoundError):
            source.get(name)


def test_a_file_that_is_no_text_is_not_quoted(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"s3cret\xff")
    with pytest.raises(FatalError, match="not text") as caught:
        MountedSecrets(tmp_path).get("a")
    assert caught.value.__cause__ is None
    assert "s3cret" not in str(caught.value)
