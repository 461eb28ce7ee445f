"""The stand-in Keycloak: one realm with its clients, and the realm of its administrator.

Source: dataspace service contracts, section 9.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs

from local.standins.http import Answer, Refused, Request, Service
from local.standins.tokens import TokenSigner

REALM = "edcv"
ADMIN = "admin"
ISSUER = f"http://keycloak.edc-v.svc.cluster.local:8080/realms/{REALM}"
_MASTER_ISSUER = "http://keycloak.edc-v.svc.cluster.local:8080/realms/master"
_ADMIN_SECONDS = 60
_CLIENT_SECONDS = 300
_HARDCODED = "oidc-hardcoded-claim-mapper"


def admin_password(secret: str) -> str:
    """The administrator's password; ``secret`` is the stand-ins' control token."""
    return hmac.new(secret.encode(), b"keycloak", hashlib.sha256).hexdigest()


class Keycloak(Service):
    """Clients and their tokens.

    Args:
        signer: signs the tokens of the realm.
        password: the administrator's.
        clock: monotonic seconds.
    """

    name = "keycloak"
    prefix = "/keycloak"

    def __init__(self, signer: TokenSigner, password: str, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._signer = signer
        self._master = TokenSigner(_MASTER_ISSUER)
        self._password = password
        self._clock = clock
        self._admin_tokens: dict[str, float] = {}
        self._client_tokens: list[str] = []
        self._clients: dict[str, dict[str, Any]] = {}
        self.route("POST", "/realms/{realm}/protocol/openid-connect/token", self._token)
        self.route("GET", "/realms/{realm}/protocol/openid-connect/certs", self._certs)
        clients = "/admin/realms/{realm}/clients"
        self.route("GET", clients, self._find)
        self.route("POST", clients, self._create)
        self.route("GET", clients + "/{key}", self._read)
        self.route("PUT", clients + "/{key}", self._update)
        self.route("DELETE", clients + "/{key}", self._delete)
        self.route("GET", clients + "/{key}/client-secret", self._read_secret)
        self.route("POST", clients + "/{key}/client-secret", self._new_secret)

    def state(self) -> Any:
        return {"clients": [_shown(client) for client in self._clients.values()]}

    def secrets(self) -> Iterator[str]:
        yield self._password
        yield from (*self._signer.private_keys(), *self._master.private_keys())
        yield from self._admin_tokens
        yield from self._client_tokens
        yield from (client["secret"] for client in self._clients.values())

    # Tokens

    def _token(self, request: Request, realm: str) -> Answer:
        if realm not in {"master", REALM}:
            return Answer(404, {"error": "Realm does not exist"})
        if request.content_type != "application/x-www-form-urlencoded":
            return Answer(415, {"error": "HTTP 415 Unsupported Media Type"})
        form = {name: values[0] for name, values in parse_qs(request.body.decode(errors="replace")).items()}
        match form.get("grant_type"):
            case None:
                return _refusal(400, "invalid_request", "Missing form parameter: grant_type")
            case "password" if realm == "master":
                return self._admin_token(form)
            case "client_credentials" if realm == REALM:
                return self._client_token(form)
        return _refusal(400, "unsupported_grant_type", "Unsupported grant_type")

    def _admin_token(self, form: dict[str, str]) -> Answer:
        if form.get("client_id") != "admin-cli":
            return _refusal(401, "invalid_client", "Invalid client or Invalid client credentials")
        given = form.get("password", "").encode()
        if form.get("username") != ADMIN or not hmac.compare_digest(given, self._password.encode()):
            return _refusal(401, "invalid_grant", "Invalid user credentials")
        token = self._issued(self._master, ADMIN, _ADMIN_SECONDS)
        self._admin_tokens[token] = self._clock() + _ADMIN_SECONDS
        return _granted(token, _ADMIN_SECONDS)

    def _client_token(self, form: dict[str, str]) -> Answer:
        client = self._by_client_id(form.get("client_id", ""))
        if client is None or not client["enabled"]:
            return _refusal(401, "invalid_client", "Invalid client or Invalid client credentials")
        if not hmac.compare_digest(form.get("client_secret", "").encode(), client["secret"].encode()):
            return _refusal(401, "unauthorized_client", "Invalid client or Invalid client credentials")
        if not client["serviceAccountsEnabled"]:
            return _refusal(401, "unauthorized_client", "Client not enabled to retrieve service account")
        claims = {
            mapper["config"]["claim.name"]: mapper["config"]["claim.value"]
            for mapper in client["protocolMappers"]
            if mapper["protocolMapper"] == _HARDCODED and mapper["config"].get("access.token.claim") == "true"
        }
        token = self._issued(self._signer, client["id"], _CLIENT_SECONDS, azp=client["clientId"], **claims)
        self._client_tokens.append(token)
        return _granted(token, _CLIENT_SECONDS)

    @staticmethod
    def _issued(signer: TokenSigner, subject: str, lifetime: int, **claims: str) -> str:
        now = int(time.time())
        return signer.sign(
            {**claims, "sub": subject, "iss": signer.issuer, "iat": now, "exp": now + lifetime, "jti": uuid.uuid4().hex}
        )

    def _certs(self, request: Request, realm: str) -> Answer:
        if realm != REALM:
            return Answer(404, {"error": "Realm does not exist"})
        return Answer(200, self._signer.jwks())

    # Clients

    def _admit(self, request: Request, realm: str) -> None:
        if request.bearer in self._client_tokens:
            raise Refused(Answer(403, {"error": "HTTP 403 Forbidden"}))
        if self._admin_tokens.get(request.bearer, -1.0) <= self._clock():
            raise Refused(Answer(401, {"error": "HTTP 401 Unauthorized"}))
        if realm != REALM:
            raise Refused(Answer(404, {"error": "Realm not found."}))

    def _by_client_id(self, client_id: str) -> dict[str, Any] | None:
        return next((one for one in self._clients.values() if one["clientId"] == client_id), None)

    def _known(self, request: Request, realm: str, key: str) -> dict[str, Any]:
        self._admit(request, realm)
        if key not in self._clients:
            raise Refused(Answer(404, {"error": "Could not find client"}))
        return self._clients[key]

    def _find(self, request: Request, realm: str) -> Answer:
        self._admit(request, realm)
        wanted = request.query.get("clientId")
        found = [one for one in self._clients.values() if wanted is None or _matches(one["clientId"], wanted, request)]
        return Answer(200, [_shown(client) for client in found])

    def _create(self, request: Request, realm: str) -> Answer:
        self._admit(request, realm)
        client = _client(request)
        if self._by_client_id(client["clientId"]) is not None:
            return Answer(409, {"errorMessage": f"Client {client['clientId']} already exists"})
        key = str(uuid.uuid4())
        self._clients[key] = {**client, "id": key}
        return Answer(201, headers={"Location": f"http://keycloak:8080/admin/realms/{realm}/clients/{key}"})

    def _read(self, request: Request, realm: str, key: str) -> Answer:
        return Answer(200, _shown(self._known(request, realm, key)))

    def _update(self, request: Request, realm: str, key: str) -> Answer:
        known = self._known(request, realm, key)
        self._clients[key] = {**_client(request, known), "id": key}
        return Answer(204)

    def _delete(self, request: Request, realm: str, key: str) -> Answer:
        del self._clients[self._known(request, realm, key)["id"]]
        return Answer(204)

    def _read_secret(self, request: Request, realm: str, key: str) -> Answer:
        return Answer(200, {"type": "secret", "value": self._known(request, realm, key)["secret"]})

    def _new_secret(self, request: Request, realm: str, key: str) -> Answer:
        client = self._known(request, realm, key)
        client["secret"] = secrets.token_hex(32)
        return Answer(200, {"type": "secret", "value": client["secret"]})


def _client(request: Request, known: dict[str, Any] | None = None) -> dict[str, Any]:
    if request.content_type != "application/json":
        raise Refused(Answer(415, {"error": "HTTP 415 Unsupported Media Type"}))
    try:
        document = json.loads(request.body)
    except ValueError:
        raise Refused(Answer(400, {"error": "unable to read contents from stream"})) from None
    defaults = known or {
        "enabled": True,
        "publicClient": False,
        "serviceAccountsEnabled": False,
        "protocolMappers": [],
        "secret": secrets.token_hex(32),
    }
    if not isinstance(document, dict) or not isinstance(document.get("clientId", defaults.get("clientId")), str):
        raise Refused(Answer(400, {"errorMessage": "Client ID is missing"}))
    for mapper in document.get("protocolMappers", []):
        if mapper.get("protocolMapper") != _HARDCODED or not isinstance(mapper.get("config"), dict):
            raise Refused(Answer(400, {"errorMessage": "ProtocolMapper provider not found"}))
    return {**defaults, **document}


def _matches(client_id: str, wanted: str, request: Request) -> bool:
    return wanted in client_id if request.query.get("search") == "true" else wanted == client_id


def _shown(client: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in client.items() if name != "secret"}


def _granted(token: str, lifetime: int) -> Answer:
    return Answer(
        200,
        {"access_token": token, "expires_in": lifetime, "refresh_expires_in": 0, "token_type": "Bearer", "scope": ""},
    )


def _refusal(status: int, error: str, description: str) -> Answer:
    return Answer(status, {"error": error, "error_description": description})
