"""Provides the secrets of this process: in HashiCorp Vault or OpenBao, in files that are mounted, or in a file of one's own.

Values never appear in an error, a log or a representation.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from cfm_core.assembly.assembler import InitContext, ServiceAssembly
from cfm_core.assembly.service_type import ServiceType
from cfm_core.clients.assembly import VAULT
from cfm_core.contracts.secrets import CONTENT, SecretReference, checked_path
from cfm_core.errors import FatalError, NotFoundError
from cfm_core.settings import Settings

if TYPE_CHECKING:
    from cfm_core.clients.vault import Vault

DEFAULT_MOUNT = "secret"


class SecretSource(Protocol):
    """Secrets by name: a path, or a reference (``vault:<mount>/<path>#<field>``)."""

    def get(self, name: str) -> str:
        """Read a secret as it is now.

        Raises:
            ValidationError: the name is neither.
            NotFoundError: there is none.
            RecoverableError: the store does not answer now.
            FatalError: the store refuses, or is broken.
        """
        ...


class SecretStore(SecretSource, Protocol):
    """Secrets that can be written, too, by their path. All operations can be repeated."""

    def put(self, path: str, value: str) -> None:
        """Write a secret, whether there is one or not."""
        ...

    def delete(self, path: str) -> None:
        """Delete a secret with all its versions; no matter if there is none."""
        ...


SECRETS: ServiceType[SecretSource] = ServiceType("secrets")


class FileSecretStore:
    """Secrets in one JSON file that only its owner can read; safe to share between processes.

    Args:
        file: made at the first write, with mode 0600.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def __repr__(self) -> str:
        return f"<FileSecretStore {self._file}>"

    def get(self, name: str) -> str:
        key = _key(SecretReference.named(name, DEFAULT_MOUNT))
        secrets = self._read()
        if key not in secrets:
            raise NotFoundError("secret", name)
        return secrets[key]

    def put(self, path: str, value: str) -> None:
        checked_path(path)
        with self._locked():
            self._write(self._read() | {path: value})

    def delete(self, path: str) -> None:
        checked_path(path)
        with self._locked():
            secrets = self._read()
            if secrets.pop(path, None) is not None:
                self._write(secrets)

    def _read(self) -> dict[str, str]:
        try:
            with self._file.open(encoding="utf-8") as opened:
                if os.fstat(opened.fileno()).st_mode & 0o077:
                    raise FatalError(f"{self._file} can be read by others; run: chmod 600 {self._file}")
                secrets: dict[str, str] = json.load(opened)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise FatalError(f"the secrets file cannot be read: {error}") from error
        except ValueError:
            # Without the cause, which quotes the file.
            raise FatalError(f"{self._file} is not the JSON of a secrets file") from None
        return secrets

    def _write(self, secrets: dict[str, str]) -> None:
        new = self._file.with_name(f".{self._file.name}-{uuid.uuid4()}")
        try:
            with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as opened:
                json.dump(secrets, opened)
                opened.flush()
                os.fsync(opened.fileno())
            new.replace(self._file)
        except OSError as error:
            with contextlib.suppress(OSError):
                new.unlink()
            raise FatalError(f"the secrets file cannot be written: {error}") from error

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        lock = self._file.with_name(f".{self._file.name}.lock")
        try:
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise FatalError(f"the secrets file cannot be locked: {error}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


class MountedSecrets:
    """Secrets that somebody else puts into files below a folder, for example a cluster; read anew each time.

    The file ``a/b`` of the folder is the secret ``a/b``, the file ``mount/a/b/field`` the reference ``vault:mount/a/b#field``.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __repr__(self) -> str:
        return f"<MountedSecrets {self._folder}>"

    def get(self, name: str) -> str:
        reference = SecretReference.named(name, DEFAULT_MOUNT)
        place = reference.path
        if _key(reference) != place:
            place = checked_path(f"{reference.mount}/{reference.path}/{reference.field}")
        try:
            return (self._folder / place).read_bytes().decode()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise NotFoundError("secret", name) from None
        except OSError as error:
            raise FatalError(f"the secret {name!r} cannot be read: {error}") from error
        except UnicodeDecodeError:
            # Without the cause, which quotes the file.
            raise FatalError(f"the secret {name!r} is not text in UTF-8") from None


class VaultSecretStore:
    """Secrets in a vault's engines of version 2.

    Args:
        mount: the engine of plain paths, each secret in the single field ``content``.
    """

    def __init__(self, vault: Vault, mount: str = DEFAULT_MOUNT) -> None:
        self._vault = vault
        self._mount = mount

    def __repr__(self) -> str:
        return f"<VaultSecretStore {self._mount} of {self._vault}>"

    def get(self, name: str) -> str:
        reference = SecretReference.named(name, self._mount)
        fields = self._vault.find_secret(reference.mount, reference.path)
        if fields is None:
            raise NotFoundError("secret", name)
        value = fields.get(reference.field)
        if not isinstance(value, str):
            raise FatalError(f"the secret {name!r} has no field {reference.field!r}")
        return value

    def put(self, path: str, value: str) -> None:
        self._vault.write_secret(self._mount, checked_path(path), {CONTENT: value})

    def delete(self, path: str) -> None:
        self._vault.delete_secret(self._mount, checked_path(path))


def _key(reference: SecretReference) -> str:
    """What a secret is called where there are no mounts and fields."""
    plain = reference.mount == DEFAULT_MOUNT and reference.field == CONTENT
    return reference.path if plain else str(reference)


class FileSecretsAssembly(ServiceAssembly):
    """Secrets in the file of ``CFM_SECRETS_FILE``."""

    name = "secrets-file"
    provides = (SECRETS,)

    def init(self, context: InitContext) -> None:
        if not context.settings.secrets_file:
            raise FatalError(
                "CFM_SECRETS_FILE must name the file that holds the secrets (or CFM_SECRETS=mounted or CFM_SECRETS=vault)"
            )
        context.registry.register(SECRETS, FileSecretStore(Path(context.settings.secrets_file)))


class MountedSecretsAssembly(ServiceAssembly):
    """Secrets in the files below ``CFM_SECRETS_DIRECTORY``."""

    name = "secrets-mounted"
    provides = (SECRETS,)

    def init(self, context: InitContext) -> None:
        if not context.settings.secrets_directory:
            raise FatalError("CFM_SECRETS_DIRECTORY must name the folder of the secrets with CFM_SECRETS=mounted")
        context.registry.register(SECRETS, MountedSecrets(Path(context.settings.secrets_directory)))


class VaultSecretsAssembly(ServiceAssembly):
    """Secrets in the vault at ``CFM_VAULT_ADDR``."""

    name = "secrets-vault"
    provides = (SECRETS,)
    requires = (VAULT,)

    def init(self, context: InitContext) -> None:
        vault = context.registry.resolve(VAULT)
        context.registry.register(SECRETS, VaultSecretStore(vault, context.settings.vault_mount))


def secrets_assembly(settings: Settings) -> ServiceAssembly:
    """The assembly for ``CFM_SECRETS``.

    Raises:
        FatalError: it is none of ``file``, ``mounted`` and ``vault``.
    """
    match settings.secrets:
        case "file":
            return FileSecretsAssembly()
        case "mounted":
            return MountedSecretsAssembly()
        case "vault":
            return VaultSecretsAssembly()
        case other:
            raise FatalError(f"CFM_SECRETS is {other!r}; it must be file, mounted or vault")
