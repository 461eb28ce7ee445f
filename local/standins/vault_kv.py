"""The stand-in vault's engine for secrets: KV version 2.

Source: dataspace service contracts, section 10.3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any


class KvError(Exception):
    """A secret cannot be written like this."""


@dataclass(slots=True)
class _Version:
    data: dict[str, Any]
    created_at: str
    deleted_at: str = ""


@dataclass(slots=True)
class _Secret:
    versions: list[_Version] = field(default_factory=list)

    def metadata(self, number: int) -> dict[str, Any]:
        version = self.versions[number - 1]
        return {
            "version": number,
            "created_time": version.created_at,
            "deletion_time": version.deleted_at,
            "destroyed": False,
            "custom_metadata": None,
        }


class KvEngine:
    """The secrets of one mount."""

    def __init__(self) -> None:
        self._secrets: dict[str, _Secret] = {}

    def __contains__(self, path: str) -> bool:
        return path in self._secrets

    def counts(self) -> Iterator[tuple[str, int]]:
        """Each path with the number of its versions."""
        for path, secret in self._secrets.items():
            yield path, len(secret.versions)

    def values(self) -> Iterator[str]:
        """Every text in every version."""
        for secret in self._secrets.values():
            for version in secret.versions:
                yield from (value for value in version.data.values() if isinstance(value, str))

    def write(self, path: str, document: Any) -> dict[str, Any]:
        """Add a version; gives its metadata.

        Raises:
            KvError: it is no document of a secret, or of another version than is there.
        """
        data = document.get("data") if isinstance(document, dict) else None
        if data is None:
            raise KvError("no data provided")
        if not isinstance(data, dict):
            raise KvError("error converting input for field \"data\": '' expected type 'map[string]interface {}'")
        options = document.get("options") or {}
        secret = self._secrets.get(path)
        if "cas" in options and options["cas"] != (len(secret.versions) if secret else 0):
            raise KvError("check-and-set parameter did not match the current version")
        secret = self._secrets.setdefault(path, _Secret())
        secret.versions.append(_Version(data, _now()))
        return secret.metadata(len(secret.versions))

    def read(self, path: str, number: int = 0) -> dict[str, Any] | None:
        """A version, the newest for 0: its data, None where it is deleted, and its metadata. None where there is none."""
        secret = self._secrets.get(path)
        if secret is None or number > len(secret.versions):
            return None
        number = number or len(secret.versions)
        version = secret.versions[number - 1]
        return {"data": None if version.deleted_at else version.data, "metadata": secret.metadata(number)}

    def delete(self, path: str) -> None:
        """Mark the newest version as deleted."""
        if (secret := self._secrets.get(path)) is not None and not secret.versions[-1].deleted_at:
            secret.versions[-1].deleted_at = _now()

    def destroy(self, path: str) -> None:
        """Delete all versions, and that there was anything."""
        self._secrets.pop(path, None)

    def metadata(self, path: str) -> dict[str, Any] | None:
        secret = self._secrets.get(path)
        if secret is None:
            return None
        numbers = range(1, len(secret.versions) + 1)
        return {
            "current_version": len(secret.versions),
            "versions": {str(number): secret.metadata(number) for number in numbers},
        }

    def list(self, folder: str) -> list[str]:
        """What is directly in a folder; the names of folders end with a slash."""
        prefix = folder.rstrip("/") + "/"
        keys = set()
        for path in self._secrets:
            if path.startswith(prefix):
                name, slash, _ = path.removeprefix(prefix).partition("/")
                keys.add(name + slash)
        return sorted(keys)


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")
