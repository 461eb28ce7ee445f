from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest

from local.standins import AGENTS, NAMESPACE, service_account_token
from local.standins.server import StandIns

SECRET = "control-token"
SEED_JOBS = f"system:serviceaccount:{NAMESPACE}:seed-jobs"
ALL_SCOPES = ["management-api:admin", "identity-api:admin", "issuer-admin-api:admin", "read", "write"]
CREDENTIAL_SCOPES = ["identity-api:credentials:read", "identity-api:credentials:write"]
SIGLET_SCOPES = ["siglet-mgmt-api:read", "siglet-mgmt-api:write"]


@dataclass
class Platform:
    """The stand-ins over HTTP, with a clock that stands still until it is told to go on."""

    now: float = 0.0
    token_lifetime: int = 3600
    client: httpx2.Client = field(default_factory=lambda: httpx2.Client(timeout=5))
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """What the IdentityHub has published: what each event is about, and its data."""
    standins: StandIns = field(init=False)

    def __post_init__(self) -> None:
        self.standins = StandIns(
            SECRET,
            issue_delay=3,
            key_delay=1,
            token_lifetime=self.token_lifetime,
            clock=lambda: self.now,
            emit=lambda about, data: self.events.append((about, data)),
        )
        self.standins.start()

    def stop(self) -> None:
        self.client.close()
        self.standins.stop()

    def call(self, method: str, path: str, body: Any = None, *, bearer: str = "", **headers: str) -> httpx2.Response:
        """Send a request; ``path`` is sent as it is, encoded or not."""
        given = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        return self.client.request(method, self.standins.url + path, json=body, headers=given | headers)

    def service_token(self, account: str = AGENTS) -> str:
        return service_account_token(SECRET, account)

    def map(self, context: str, scopes: list[str] | None = None) -> None:
        body = {
            "clientIdentifier": AGENTS,
            "participantContext": context,
            "scopes": scopes or ALL_SCOPES + CREDENTIAL_SCOPES + SIGLET_SCOPES,
        }
        answer = self.call("POST", "/jwtlet/api/v1/mappings", body, bearer=self.service_token())
        assert answer.status_code in {201, 409}

    def exchange(self, context: str, scope: str, **form: str | None) -> httpx2.Response:
        """Ask for a token; a field of None is left out."""
        fields = {
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "subject_token": self.service_token(),
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "resource": context,
            "scope": scope,
            **form,
        }
        data = {name: value for name, value in fields.items() if value is not None}
        return self.client.post(self.standins.url + "/jwtlet/token", data=data)

    def token(self, context: str, scope: str) -> str:
        """A token for a context, which is mapped first."""
        self.map(context)
        answer = self.exchange(context, scope)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["access_token"])


@pytest.fixture
def platform() -> Iterator[Platform]:
    platform = Platform()
    yield platform
    platform.stop()
