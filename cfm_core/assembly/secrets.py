"""Provides the secret store: values by path, in HashiCorp Vault or OpenBao, or in a file of one's own.

A path is like ``participants/acme/key``. Values never appear in an error, a log or a representation.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from cfm_core.assembly.assembler import InitContext, ServiceAssembly
from cfm_core.assembly.service_type import ServiceType
from cfm_core.errors import FatalError, NotFoundError, RecoverableError, ValidationError
from cfm_core.settings import Settings

if TYPE_CHECKING:
    import hvac
    import requests

_CONTENT = "content"
_NOT_ALLOWED = frozenset({401, 403})
_LATER = frozenset({412, 429, 472, 473, 500, 502, 503, 504})


class SecretStore(Protocol):
    """Secrets by path. All three operations can be repeated."""

    def get(self, path: str) -> str:
        """Read a secret.

        Raises:
            NotFoundError: there is none.
            RecoverableError: the store does not answer now.
            FatalError: the store refuses, or is broken.
        """
        ...

    def put(self, path: str, value: str) -> None:
        """Write a secret, whether there is one or not."""
        ...

    def delete(self, path: str) -> None:
        """Delete a secret with all its versions; no matter if there is none."""
        ...


SECRETS: ServiceType[SecretStore] = ServiceType("secrets")


def checked_path(path: str) -> str:
    """Give ``path`` if every store can hold it.

    Raises:
        ValidationError: a segment is empty or ends with a period, or there is a control character.
    """
    if not all(segment and not segment.endswith(".") for segment in path.split("/")) or not path.isprintable():
        raise ValidationError(
            f"{path!r} is no path of a secret: segments between slashes, none empty or ending with '.'"
        )
    return path


class FileSecretStore:
    """Secrets in one JSON file that only its owner can read; safe to share between processes.

    Args:
        file: made at the first write, with mode 0600.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def __repr__(self) -> str:
        return f"<FileSecretStore {self._file}>"

    def get(self, path: str) -> str:
        secrets = self._read()
        if checked_path(path) not in secrets:
            raise NotFoundError("secret", path)
        return secrets[path]

    def put(self, path: str, value: str) -> None:
        with self._locked():
            self._write(self._read() | {checked_path(path): value})

    def delete(self, path: str) -> None:
        with self._locked():
            secrets = self._read()
            if secrets.pop(checked_path(path), None) is not None:
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


class VaultSecretStore:
    """Secrets in a KV engine of version 2, each in the single field ``content``.

    Args:
        address: the server's address, without ``/v1``.
        token_file: holds the token; read at the first use, and again when the server refuses it.
        mount: where the engine is mounted.

    Source: dataspace service contracts, sections 10.1 and 10.3.
    """

    def __init__(
        self, address: str, token_file: Path, mount: str = "secret", *, timeout: timedelta = timedelta(seconds=10)
    ) -> None:
        import hvac
        import hvac.adapters

        self._address = address
        self._token_file = token_file
        self._mount = mount
        self._token = ""
        # With no token at all hvac would look for one in the environment and in the home folder.
        self._client: hvac.Client = hvac.Client(
            url=address,
            token="",
            timeout=math.ceil(timeout.total_seconds()),
            adapter=hvac.adapters.RawAdapter,
            ignore_exceptions=True,
        )
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<VaultSecretStore {self._address} {self._mount}>"

    def get(self, path: str) -> str:
        answer = self._call(
            path,
            lambda kv: kv.read_secret_version(path, mount_point=self._mount, raise_on_deleted_version=True),
        )
        if answer is None:
            raise NotFoundError("secret", path)
        try:
            value: str = answer.json()["data"]["data"][_CONTENT]
        except (ValueError, KeyError, TypeError):
            raise FatalError(f"the secret {path!r} has no field {_CONTENT!r}") from None
        return value

    def put(self, path: str, value: str) -> None:
        written = self._call(
            path, lambda kv: kv.create_or_update_secret(path, {_CONTENT: value}, mount_point=self._mount)
        )
        if written is None:
            raise FatalError(f"the vault has nothing mounted at {self._mount!r}, or does not show it to this token")

    def delete(self, path: str) -> None:
        self._call(path, lambda kv: kv.delete_metadata_and_all_versions(path, mount_point=self._mount))

    def _call(self, path: str, action: Callable[[Any], requests.Response]) -> requests.Response | None:
        """Do ``action`` on the engine; None where there is no such path."""
        from requests import RequestException

        checked_path(path)
        refused = ""
        for _ in range(2):
            used = self._log_in(refused)
            # What is said in these errors may quote what was sent, so none of it is passed on or kept as a cause.
            try:
                answer = action(self._client.secrets.kv.v2)
            except RequestException as error:
                raise RecoverableError(f"the vault cannot be reached ({type(error).__name__})") from None
            if answer.ok:
                return answer
            if answer.status_code == 404:
                return None
            if answer.status_code in _LATER:
                raise RecoverableError(f"the vault is not able to answer now (status {answer.status_code})")
            if answer.status_code not in _NOT_ALLOWED:
                raise FatalError(f"the vault refuses the secret {path!r} (status {answer.status_code})")
            refused = used
        raise FatalError(f"the vault does not allow this token to use the secret {path!r}")

    def _log_in(self, refused: str) -> str:
        """Take the token from its file, unless another than ``refused`` is in use already; gives the one in use."""
        with self._lock:
            if not self._token or self._token == refused:
                try:
                    self._token = self._token_file.read_text().strip()
                except OSError as error:
                    raise FatalError(f"the vault's token cannot be read: {error}") from error
                self._client.token = self._token
            return self._token


class FileSecretsAssembly(ServiceAssembly):
    """Secrets in the file of ``CFM_SECRETS_FILE``."""

    name = "secrets-file"
    provides = (SECRETS,)

    def init(self, context: InitContext) -> None:
        if not context.settings.secrets_file:
            raise FatalError("CFM_SECRETS_FILE must name the file that holds the secrets (or CFM_SECRETS=vault)")
        context.registry.register(SECRETS, FileSecretStore(Path(context.settings.secrets_file)))


class VaultSecretsAssembly(ServiceAssembly):
    """Secrets in the vault at ``CFM_VAULT_ADDR``."""

    name = "secrets-vault"
    provides = (SECRETS,)

    def init(self, context: InitContext) -> None:
        settings = context.settings
        if not settings.vault_addr or not settings.vault_token_file:
            raise FatalError("CFM_VAULT_ADDR and CFM_VAULT_TOKEN_FILE must be set with CFM_SECRETS=vault")
        context.registry.register(
            SECRETS,
            VaultSecretStore(
                settings.vault_addr,
                Path(settings.vault_token_file),
                settings.vault_mount,
                timeout=settings.request_timeout,
            ),
        )


def secrets_assembly(settings: Settings) -> ServiceAssembly:
    """The assembly for ``CFM_SECRETS``.

    Raises:
        FatalError: it is neither ``file`` nor ``vault``.
    """
    match settings.secrets:
        case "file":
            return FileSecretsAssembly()
        case "vault":
            return VaultSecretsAssembly()
        case other:
            raise FatalError(f"CFM_SECRETS is {other!r}; it must be file or vault")
