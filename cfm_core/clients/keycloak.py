"""Keycloak: the clients of a realm, as its administrator sees them.

Source: dataspace service contracts, section 9.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from cfm_core.clients.edc import required
from cfm_core.clients.http import Answer, HttpClient, segment
from cfm_core.errors import FatalError

_ADMIN_CLIENT = "admin-cli"
_HARDCODED = "oidc-hardcoded-claim-mapper"


@dataclass(frozen=True, slots=True)
class ServiceClient:
    """A confidential client with a service account, whose tokens hold ``claims``."""

    client_id: str
    secret: str = field(repr=False)
    name: str
    claims: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class FoundClient:
    """A client as it is in the realm; ``key`` is what Keycloak itself calls it."""

    key: str
    claims: Mapping[str, str]


class Keycloak:
    """A server with the realm whose clients are looked after.

    Args:
        url: the server's, without ``/realms`` or ``/admin``.
        username: of the administrator, in the realm ``master``.
    """

    def __init__(self, http: HttpClient, url: str, realm: str, username: str) -> None:
        self._http = http
        self._url = url
        self._realm = realm
        self._username = username

    def administered(self, password: str) -> ClientRegistry:
        """The realm's clients, with the rights that this password gives. It is used at the first call."""
        return ClientRegistry(self._http, self._url, self._realm, self._username, password)


class ClientRegistry:
    """The clients of a realm. Its token holds for a minute or so: not to be kept beyond what it was made for."""

    def __init__(self, http: HttpClient, url: str, realm: str, username: str, password: str) -> None:
        self._http = http
        self._url = url
        self._clients = f"{url}/admin/realms/{segment(realm)}/clients"
        self._username = username
        self._password = password
        self._token = ""

    def create(self, client: ServiceClient) -> bool:
        """Create a client; False where there is one of this id, which is left as it is. Source: section 9.2."""
        body = {
            "clientId": client.client_id,
            "name": client.name,
            "enabled": True,
            "secret": client.secret,
            "protocol": "openid-connect",
            "publicClient": False,
            "serviceAccountsEnabled": True,
            "standardFlowEnabled": False,
            "directAccessGrantsEnabled": False,
            "fullScopeAllowed": True,
            "protocolMappers": [_mapper(claim, value) for claim, value in client.claims.items()],
        }
        return self._send("POST", self._clients, json=body, expect=(409,)).status != 409

    def find(self, client_id: str) -> FoundClient | None:
        """The client of this id; None where there is none. Source: section 9.3."""
        answer = self._send("GET", self._clients, query={"clientId": client_id})
        # A server may take the id for a part of one.
        found = [one for one in answer.objects() if one.get("clientId") == client_id]
        if not found:
            return None
        return FoundClient(required(found[0], "id", answer), _claims(found[0].get("protocolMappers")))

    def find_secret(self, key: str) -> str | None:
        """A client's secret; None where the client is not there any more. Source: section 9.3."""
        answer = self._send("GET", f"{self._clients}/{segment(key)}/client-secret", expect=(404,))
        return None if answer.status == 404 else required(answer.object(), "value", answer)

    def delete(self, client_id: str) -> None:
        """Delete a client; no matter if there is none. Source: section 9.3."""
        found = self.find(client_id)
        if found is not None:
            self._send("DELETE", f"{self._clients}/{segment(found.key)}", expect=(404,))

    def _send(
        self,
        method: str,
        url: str,
        *,
        json: Any = None,
        query: Mapping[str, str] | None = None,
        expect: Collection[int] = (),
    ) -> Answer:
        """Send a request; a token that is not accepted is replaced once."""
        for _ in range(2):
            self._token = self._token or self._log_in()
            answer = self._http.send(method, url, json=json, query=query, bearer=self._token, expect=(*expect, 401))
            if answer.status != 401:
                return answer
            self._token = ""
        raise answer.error()

    def _log_in(self) -> str:
        """A token for the administrator. Source: section 9.1."""
        answer = self._http.send(
            "POST",
            f"{self._url}/realms/master/protocol/openid-connect/token",
            form={
                "grant_type": "password",
                "client_id": _ADMIN_CLIENT,
                "username": self._username,
                "password": self._password,
            },
            expect=(400, 401),
        )
        if answer.status != 200:
            raise FatalError(f"{answer.call} does not let {self._username!r} in: {answer.status} {answer.message}")
        return required(answer.object(), "access_token", answer)


def _mapper(claim: str, value: str) -> dict[str, Any]:
    return {
        "name": claim,
        "protocol": "openid-connect",
        "protocolMapper": _HARDCODED,
        "config": {
            "claim.name": claim,
            "claim.value": value,
            "jsonType.label": "String",
            "access.token.claim": "true",
            "id.token.claim": "true",
            "userinfo.token.claim": "true",
        },
    }


def _claims(mappers: Any) -> dict[str, str]:
    """The claims that a client's tokens hold, whatever else its mappers do."""
    configs = [one.get("config") for one in mappers or [] if isinstance(one, dict)]
    return {
        str(config["claim.name"]): str(config.get("claim.value"))
        for config in configs
        if isinstance(config, dict) and "claim.name" in config
    }
