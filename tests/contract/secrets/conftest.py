"""Vaults to hold the clients against: the stand-in over HTTP, and a real one."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from cfm_core.clients.vault import Vault
from cfm_core.clients.vault_login import AppRoleLogin, TokenLogin
from local.standins.server import StandIns
from local.standins.vault_bootstrap import bootstrap
from tests.support.vault import VaultServer

SECRET = "control-token"


@dataclass
class StoppedClock:
    """A clock that stands still until it is told to go on."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class VaultWorld:
    """A vault that knows jwtlet, with an engine of its own at ``mount``."""

    server: VaultServer
    standins: StandIns
    home: Path
    mount: str
    clock: StoppedClock
    made: list[Vault] = field(default_factory=list)

    def file(self, name: str, text: str) -> Path:
        file = self.home / name
        file.write_text(text)
        return file

    def vault(self, login: Any = None, **arguments: Any) -> Vault:
        """A client; it may do everything where it is not told to log in otherwise."""
        login = login or TokenLogin(self.file("root-token", self.server.token))
        self.made.append(Vault(self.server.url, login, clock=self.clock, **arguments))
        return self.made[-1]

    def close(self) -> None:
        for vault in self.made:
            vault.close()

    def role(self, *rules: str, **settings: str) -> AppRoleLogin:
        """A role of its own, allowed what the rules of its policy say; and how to log in as it."""
        name = f"role-{uuid.uuid4()}"
        self.server.send("POST", f"sys/policies/acl/{name}", {"policy": "\n".join(rules)})
        document = {"token_policies": [name], "token_ttl": "1h", **settings}
        self.server.send("POST", f"auth/approle/role/{name}", document)
        role_id = self.server.send("GET", f"auth/approle/role/{name}/role-id")["data"]["role_id"]
        secret_id = self.server.send("POST", f"auth/approle/role/{name}/secret-id", {})["data"]["secret_id"]
        return AppRoleLogin(role_id, self.file(name, f"{secret_id}\n"), "approle")

    def everything(self) -> str:
        """A rule that allows everything in the engine."""
        return f'path "{self.mount}/*" {{ capabilities = ["create", "read", "update", "delete", "list"] }}'


@pytest.fixture
def clock() -> StoppedClock:
    return StoppedClock()


@pytest.fixture
def standins(clock: StoppedClock) -> Iterator[StandIns]:
    standins = StandIns(SECRET, clock=clock)
    standins.start()
    yield standins
    standins.stop()


@pytest.fixture
def fault(standins: StandIns) -> Callable[..., None]:
    def add(**described: object) -> None:
        httpx2.post(
            f"{standins.url}/_control/faults",
            json={"service": "vault", **described},
            headers={"Authorization": f"Bearer {SECRET}"},
        ).raise_for_status()

    return add


@pytest.fixture
def standin_vault(standins: StandIns, tmp_path: Path, clock: StoppedClock) -> Iterator[VaultWorld]:
    server = VaultServer(f"{standins.url}/vault", SECRET)
    world = VaultWorld(server, standins, tmp_path, "secret", clock)
    yield world
    world.close()
    server.stop()


@pytest.fixture
def openbao(real_vault: VaultServer, standins: StandIns, tmp_path: Path, clock: StoppedClock) -> Iterator[VaultWorld]:
    bootstrap(real_vault.send, f"{standins.url}/jwtlet/.well-known/jwks.json")
    mount = f"test-{uuid.uuid4()}"
    real_vault.send("POST", f"sys/mounts/{mount}", {"type": "kv", "options": {"version": "2"}})
    world = VaultWorld(real_vault, standins, tmp_path, mount, clock)
    yield world
    world.close()
    real_vault.send("DELETE", f"sys/mounts/{mount}")


@pytest.fixture(params=["standin_vault", "openbao"])
def world(request: pytest.FixtureRequest) -> VaultWorld:
    world: VaultWorld = request.getfixturevalue(request.param)
    return world
