"""The stand-in vault: KV engines of version 2, and nothing else of a vault.

Source: dataspace service contracts, sections 10.1 and 10.3.
"""

from __future__ import annotations

import hmac
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from local.standins.http import Answer, Refused, Request, Service

MOUNTS = ("secret", "participants")


@dataclass(slots=True)
class _Version:
    data: dict[str, Any]
    created_at: str
    deleted_at: str = ""


@dataclass(slots=True)
class _Secret:
    versions: list[_Version] = field(default_factory=list)


class Vault(Service):
    """Secrets with versions; ``tokens`` are those that may do everything."""

    name = "vault"
    prefix = "/vault"

    def __init__(self, token: str) -> None:
        super().__init__()
        self.tokens = {token}
        self._secrets: dict[tuple[str, str], _Secret] = {}
        for method in ("POST", "PUT"):
            self.route(method, "/v1/{mount}/data/{path...}", self._write)
        self.route("GET", "/v1/{mount}/data/{path...}", self._read)
        self.route("DELETE", "/v1/{mount}/data/{path...}", self._delete)
        self.route("GET", "/v1/{mount}/metadata/{path...}", self._metadata)
        self.route("LIST", "/v1/{mount}/metadata/{path...}", self._list)
        self.route("DELETE", "/v1/{mount}/metadata/{path...}", self._destroy)

    def state(self) -> Any:
        return [
            {"mount": mount, "path": path, "versions": len(secret.versions)}
            for (mount, path), secret in self._secrets.items()
        ]

    def answer(self, request: Request) -> Answer:
        answer = super().answer(request)
        if answer.status in {404, 405} and isinstance(answer.body, str | None):
            return _errors(answer.status, *(["unsupported operation"] if answer.status == 405 else []))
        return answer

    def _admit(self, request: Request, mount: str, path: str) -> None:
        token = request.headers.get("x-vault-token") or request.bearer
        if not any(hmac.compare_digest(token.encode(), known.encode()) for known in self.tokens):
            raise Refused(_errors(403, "permission denied"))
        if mount not in MOUNTS or any(segment.endswith(".") for segment in path.split("/")):
            raise Refused(_errors(404, f'no handler for route "{mount}/{path}"'))

    def _write(self, request: Request, mount: str, path: str) -> Answer:
        self._admit(request, mount, path)
        try:
            document = json.loads(request.body)
            data = document["data"]
            cas = (document.get("options") or {}).get("cas")
        except (ValueError, KeyError, TypeError, AttributeError):
            return _errors(400, "no data provided")
        if not isinstance(data, dict):
            return _errors(400, "data must be an object")
        secret = self._secrets.get((mount, path))
        if cas is not None and cas != (len(secret.versions) if secret else 0):
            return _errors(400, "check-and-set parameter did not match the current version")
        secret = self._secrets.setdefault((mount, path), _Secret())
        secret.versions.append(_Version(data, _now()))
        return Answer(200, {"data": _metadata_of(secret, len(secret.versions))})

    def _read(self, request: Request, mount: str, path: str) -> Answer:
        self._admit(request, mount, path)
        secret = self._secrets.get((mount, path))
        if secret is None:
            return _errors(404)
        number = int(request.query.get("version") or 0) or len(secret.versions)
        if number > len(secret.versions):
            return _errors(404)
        version = secret.versions[number - 1]
        gone = bool(version.deleted_at)
        document = {"data": {"data": None if gone else version.data, "metadata": _metadata_of(secret, number)}}
        return Answer(404 if gone else 200, document)

    def _delete(self, request: Request, mount: str, path: str) -> Answer:
        self._admit(request, mount, path)
        secret = self._secrets.get((mount, path))
        if secret is not None:
            secret.versions[-1].deleted_at = _now()
        return Answer(204)

    def _destroy(self, request: Request, mount: str, path: str) -> Answer:
        self._admit(request, mount, path)
        self._secrets.pop((mount, path), None)
        return Answer(204)

    def _metadata(self, request: Request, mount: str, path: str) -> Answer:
        if request.query.get("list") == "true":
            return self._list(request, mount, path)
        self._admit(request, mount, path)
        secret = self._secrets.get((mount, path))
        if secret is None:
            return _errors(404)
        numbers = range(1, len(secret.versions) + 1)
        versions = {str(number): _metadata_of(secret, number) for number in numbers}
        return Answer(200, {"data": {"current_version": len(secret.versions), "versions": versions}})

    def _list(self, request: Request, mount: str, path: str) -> Answer:
        self._admit(request, mount, path)
        folder = path.rstrip("/") + "/"
        keys = set()
        for its_mount, its_path in self._secrets:
            if its_mount == mount and its_path.startswith(folder):
                name, slash, _ = its_path.removeprefix(folder).partition("/")
                keys.add(name + slash)
        return Answer(200, {"data": {"keys": sorted(keys)}}) if keys else _errors(404)


def _errors(status: int, *messages: str) -> Answer:
    return Answer(status, {"errors": list(messages)})


def _metadata_of(secret: _Secret, number: int) -> dict[str, Any]:
    version = secret.versions[number - 1]
    return {
        "version": number,
        "created_time": version.created_at,
        "deletion_time": version.deleted_at,
        "destroyed": False,
        "custom_metadata": None,
    }


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")
