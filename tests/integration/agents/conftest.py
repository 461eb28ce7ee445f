"""The agents against the stand-ins of their services, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import pytest

from cfm_core import deployment
from cfm_core.agent import ActivityEnvironment, Complete, Schedule
from cfm_core.assembly import ServiceAssembler
from cfm_core.assembly.secrets import FileSecretStore
from cfm_core.clients.assembly import TOKEN_EXCHANGE
from cfm_core.clients.vault import Vault
from cfm_core.clients.vault_login import AppRoleLogin
from cfm_core.settings import Settings
from functions.agents.edcv.edcv import EdcvActivity
from functions.agents.identityhub.identityhub import IdentityhubActivity
from functions.agents.jwtlet.jwtlet import JwtletActivity
from functions.agents.onboarding.onboarding import OnboardingActivity
from functions.agents.registration.registration import RegistrationActivity
from functions.agents.siglet.siglet import SigletActivity
from local import seed
from local.standins import ISSUER_DID, agent_environment
from local.standins.keycloak import admin_password
from local.standins.server import StandIns
from local.standins.vault_bootstrap import AGENTS_ROLE, bootstrap
from tests.support.vault import VaultServer

SECRET = "control-token"
DID = "did:web:identityhub.edc-v.svc.cluster.local%3A7083:acme"
IN_ORDER: tuple[type[Any], ...] = (
    JwtletActivity,
    EdcvActivity,
    IdentityhubActivity,
    RegistrationActivity,
    SigletActivity,
    OnboardingActivity,
)
TRANSFER_TYPES = {"HttpData-PULL": {"transferType": "HttpData-PULL", "endpointType": "HTTP"}}
CREDENTIAL = {
    "id": "membership-credential-def",
    "type": "MembershipCredential",
    "issuer": ISSUER_DID,
    "format": "VC1_0_JWT",
    "role": "",
}
PAYLOAD: dict[str, Any] = {
    "cfm.participant.id": DID,
    "cfm.vpa.data": [
        {"id": "1", "vpaType": "cfm.connector", "cellId": "c", "externalCellId": ""},
        {
            "id": "2",
            "vpaType": "cfm.issuer",
            "cellId": "c",
            "externalCellId": "",
            "properties": {"membership": {"a": 1}},
        },
        {
            "id": "3",
            "vpaType": "cfm.dataplane",
            "cellId": "c",
            "externalCellId": "",
            "properties": {"transferTypeMappings": TRANSFER_TYPES},
        },
    ],
    "cfm.vpa.credentials": [CREDENTIAL],
}

A = TypeVar("A")


class StoppedClock:
    """A clock that stands still until it is told to go on."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class World:
    """The stand-ins with their clock, and agents that use them."""

    standins: StandIns
    assembler: ServiceAssembler
    control: httpx2.Client
    clock: StoppedClock
    published: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """What the IdentityHub has told of participants and keys."""

    @property
    def now(self) -> float:
        return self.clock.now

    @now.setter
    def now(self, seconds: float) -> None:
        self.clock.now = seconds

    def give_up_after(self, timeout: timedelta) -> None:
        """Let the agents' calls take no longer than this."""
        self.assembler.stop()
        settings = replace(Settings.from_environ(), request_timeout=timeout)
        self.assembler = ServiceAssembler(deployment.assemblies(settings), settings)

    def agent(self, cls: type[A]) -> A:
        """An agent with its services, as its function makes it."""
        registry = self.assembler.ensure(cls.__activity__.requires)  # type: ignore[attr-defined]
        return cls(*(registry.resolve(key) for key in cls.__activity__.requires))  # type: ignore[attr-defined]

    def environment(self, cls: type[Any], **values: Any) -> ActivityEnvironment:
        """A participant's deploy as it is when the agent's turn comes: whatever comes before it is done."""
        env = ActivityEnvironment(values=PAYLOAD | values)
        for earlier in IN_ORDER[: IN_ORDER.index(cls)]:
            assert env.run(self.agent(earlier)) == Complete()
        return env

    def deployed(self, cls: type[Any]) -> ActivityEnvironment:
        """A participant's deploy when the agent is done."""
        env = self.environment(cls)
        agent = self.agent(cls)
        while (result := env.run(agent)) != Complete():
            assert isinstance(result, Schedule), result
            self.now += 5
        return env

    def token(self, context: str, scope: str) -> str:
        """A token as the agents get one."""
        return self.assembler.ensure([TOKEN_EXCHANGE]).resolve(TOKEN_EXCHANGE).token(context, [scope])

    def fault(self, service: str, **described: Any) -> None:
        self.control.post("/_control/faults", json={"service": service, **described}).raise_for_status()

    def no_faults(self) -> None:
        self.control.delete("/_control/faults").raise_for_status()

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = self.control.get("/_control/state").json()
        return found

    def traces(self, env: ActivityEnvironment) -> dict[str, list[str]]:
        """What the stand-ins hold about the participant, where they hold something."""
        found = seed.traces(self.state(), env.values.get("participantContextId", ""), DID)
        return {service: entries for service, entries in found.items() if entries}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    clock = StoppedClock()
    published: list[tuple[str, dict[str, Any]]] = []
    standins = StandIns(
        SECRET, issue_delay=3, key_delay=0, clock=clock, emit=lambda about, data: published.append((about, data))
    )
    standins.start()
    for name, value in agent_environment(standins.url, SECRET, tmp_path / "service-token").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CFM_SECRETS_FILE", str(tmp_path / "secrets.json"))
    FileSecretStore(tmp_path / "secrets.json").put("keycloak/admin", admin_password(SECRET))
    settings = Settings.from_environ()
    assembler = ServiceAssembler(deployment.assemblies(settings), settings)
    control = httpx2.Client(base_url=standins.url, headers={"Authorization": f"Bearer {SECRET}"})
    world = World(standins, assembler, control, clock, published)
    yield world
    control.close()
    world.assembler.stop()
    standins.stop()


@pytest.fixture
def agents_vault(world: World, real_vault: VaultServer, tmp_path: Path) -> Iterator[Vault]:
    """A real vault, told what a platform's vault is told at first, as the agents see it."""
    bootstrap(real_vault.send, f"{world.standins.url}/jwtlet/.well-known/jwks.json")
    role_id = real_vault.send("GET", f"auth/approle/role/{AGENTS_ROLE}/role-id")["data"]["role_id"]
    secret_id = real_vault.send("POST", f"auth/approle/role/{AGENTS_ROLE}/secret-id", {})["data"]["secret_id"]
    (tmp_path / "secret-id").write_text(secret_id)
    vault = Vault(real_vault.url, AppRoleLogin(role_id, tmp_path / "secret-id", "approle"))
    yield vault
    vault.close()
