"""The stand-in jwtlet.

Source: dataspace service contracts, sections 3 and 13.2.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs

from local.standins import AGENTS, NAMESPACE, account_of
from local.standins.http import Answer, Refused, Request, Service
from local.standins.tokens import ISSUER, TokenSigner

DEFAULT_AUDIENCE = "edcv"
_LONGEST_LIFETIME = 86400
_RESERVED = frozenset({"sub", "iss", "aud", "exp", "iat", "nbf", "act", "jti"})

_READ = "jwtlet:management:read"
_WRITE = "jwtlet:management:mappings:write"
_WRITE_SCOPES = "jwtlet:management:scope:write"
_ROLES = {
    AGENTS: {_READ, _WRITE},
    f"system:serviceaccount:{NAMESPACE}:seed-jobs": {_READ, _WRITE, _WRITE_SCOPES},
    f"system:serviceaccount:{NAMESPACE}:redline": {_READ},
}

_RESOURCES = {
    "identity-api": ("participants", "keypairs", "credentials"),
    "issuer-admin-api": ("holders", "credentials", "issuanceprocesses"),
    "management-api": ("participants", "dataplanes"),
    "siglet-mgmt-api": (),
    "provision-manager-api": (),
    "tenant-manager-api": (),
}


def _seeded_scopes() -> dict[str, dict[str, str]]:
    """The scope mappings of the chart: a scope stands for itself, and bundles for several."""
    single = [
        scope
        for prefix, resources in _RESOURCES.items()
        for action in ("read", "write", "admin")
        for scope in (f"{prefix}:{action}", *(f"{prefix}:{resource}:{action}" for resource in resources))
    ]
    edc = ("identity-api", "management-api", "issuer-admin-api")
    bundles = {
        "read": " ".join([*(f"{prefix}:read" for prefix in edc), "siglet-api:read"]),
        "write": " ".join(f"{prefix}:write" for prefix in edc),
        "admin": " ".join(f"{prefix}:admin" for prefix in edc),
        "cfm-read": "provision-manager-api:read tenant-manager-api:read",
        "cfm-write": "provision-manager-api:write tenant-manager-api:write",
    }
    return {scope: {"scope": scope} for scope in single} | {name: {"scope": text} for name, text in bundles.items()}


class Jwtlet(Service):
    """Token exchange and management.

    Args:
        secret: what service account tokens are made with.
        lifetime: of the tokens that it issues, in seconds.
    """

    name = "jwtlet"
    prefix = "/jwtlet"

    def __init__(
        self, signer: TokenSigner, secret: str, lifetime: int = 3600, clock: Callable[[], float] = time.time
    ) -> None:
        super().__init__()
        self._signer = signer
        self._secret = secret
        self._lifetime = min(lifetime, _LONGEST_LIFETIME)
        self._clock = clock
        self._mappings: dict[tuple[str, str], dict[str, Any]] = {}
        self._scopes = _seeded_scopes()
        self._subject_tokens: set[str] = set()
        self._issued: list[str] = []
        self.route("POST", "/token", self._exchange)
        self.route("GET", "/health", lambda request: Answer(200, "OK"))
        self.route("GET", "/.well-known/jwks.json", lambda request: Answer(200, signer.jwks()))
        self.route("GET", "/api/v1/mappings", self._list_mappings)
        self.route("POST", "/api/v1/mappings", self._create_mapping)
        self.route("PUT", "/api/v1/mappings/{client}/{context}", self._replace_mapping)
        self.route("DELETE", "/api/v1/mappings/{client}/{context}", self._delete_mapping)
        self.route("DELETE", "/api/v1/mappings/{client}", self._delete_mappings)
        self.route("GET", "/api/v1/scopes", self._list_scopes)
        self.route("POST", "/api/v1/scopes", self._create_scopes)
        self.route("PUT", "/api/v1/scopes/{scope}", self._replace_scope)
        self.route("DELETE", "/api/v1/scopes/{scope}", self._delete_scope)

    def state(self) -> Any:
        return {"mappings": list(self._mappings.values())}

    def secrets(self) -> Iterator[str]:
        yield from self._signer.private_keys()
        yield from self._subject_tokens
        yield from self._issued

    def _account(self, token: str) -> str | None:
        """The service account whose token this is."""
        account = account_of(self._secret, token)
        if account is not None:
            self._subject_tokens.add(token)
        return account

    def _exchange(self, request: Request) -> Answer:
        if request.content_type != "application/x-www-form-urlencoded":
            return Answer(415, "Form requests must have `Content-Type: application/x-www-form-urlencoded`")
        form = {name: values[0] for name, values in parse_qs(request.body.decode(errors="replace")).items()}
        for name in ("grant_type", "subject_token", "subject_token_type", "resource", "scope"):
            if name not in form:
                return Answer(422, f"Failed to deserialize form body: missing field `{name}`")
        if form["grant_type"] != "urn:ietf:params:oauth:grant-type:token-exchange":
            return Answer(400, {"error": "unsupported_grant_type"})
        if form["subject_token_type"] != "urn:ietf:params:oauth:token-type:jwt":  # noqa: S105 - a name, and no secret
            return Answer(400, {"error": "invalid_request"})
        account = self._account(form["subject_token"])
        if account is None:
            return Answer(400, {"error": "invalid_grant"})
        mapping = self._mappings.get((account, form["resource"]))
        scopes = sorted(set(form["scope"].split()))
        audience = form.get("audience", DEFAULT_AUDIENCE)
        if (
            mapping is None
            or not set(scopes) <= set(mapping["scopes"])
            or audience not in (mapping["audiences"] or [DEFAULT_AUDIENCE])
        ):
            return Answer(403, {"error": "unauthorized_client"})
        if not all(scope in self._scopes for scope in scopes):
            return Answer(400, {"error": "invalid_scope"})
        now = int(self._clock())
        claims = {
            "sub": form["resource"],
            "iss": ISSUER,
            "aud": audience,
            "iat": now,
            "nbf": now,
            "exp": now + self._lifetime,
            "jti": uuid.uuid4().hex,
            "scope": " ".join(self._scopes[scope]["scope"] for scope in scopes),
            "act": {"sub": account, "iss": "https://kubernetes.default.svc.cluster.local"},
        }
        self._issued.append(self._signer.sign(claims))
        return Answer(
            200,
            {
                "access_token": self._issued[-1],
                "issued_token_type": "urn:ietf:params:oauth:token-type:jwt",
                "token_type": "Bearer",
                "expires_in": self._lifetime,
                "scope": " ".join(scopes),
            },
        )

    def _require(self, request: Request, role: str) -> None:
        account = self._account(request.bearer)
        if account is None:
            raise Refused(Answer(401, {"error": "unauthorized"}))
        if role not in _ROLES.get(account, set()):
            raise Refused(Answer(403, {"error": "forbidden"}))

    def _list_mappings(self, request: Request) -> Answer:
        self._require(request, _READ)
        return Answer(200, list(self._mappings.values()))

    def _create_mapping(self, request: Request) -> Answer:
        self._require(request, _WRITE)
        mapping = _mapping(request)
        key = (mapping["clientIdentifier"], mapping["participantContext"])
        if key in self._mappings:
            return Answer(409, {"error": "resource mapping already exists"})
        self._mappings[key] = mapping
        return Answer(201)

    def _replace_mapping(self, request: Request, client: str, context: str) -> Answer:
        self._require(request, _WRITE)
        mapping = _mapping(request)
        if (mapping["clientIdentifier"], mapping["participantContext"]) != (client, context):
            return Answer(400, {"error": "the ids of path and body differ"})
        if (client, context) not in self._mappings:
            return Answer(404, {"error": "resource mapping not found"})
        self._mappings[client, context] = mapping
        return Answer(204)

    def _delete_mapping(self, request: Request, client: str, context: str) -> Answer:
        self._require(request, _WRITE)
        self._mappings.pop((client, context), None)
        return Answer(204)

    def _delete_mappings(self, request: Request, client: str) -> Answer:
        self._require(request, _WRITE)
        self._mappings = {key: mapping for key, mapping in self._mappings.items() if key[0] != client}
        return Answer(204)

    def _list_scopes(self, request: Request) -> Answer:
        self._require(request, _READ)
        return Answer(200, [{"scope": scope, "claims": claims} for scope, claims in self._scopes.items()])

    def _create_scopes(self, request: Request) -> Answer:
        self._require(request, _WRITE_SCOPES)
        document = _json(request)
        wanted = [_scope(one) for one in (document if isinstance(document, list) else [document])]
        if any(scope in self._scopes for scope, _ in wanted):
            return Answer(409, {"error": "scope mapping already exists"})
        self._scopes.update(wanted)
        return Answer(201)

    def _replace_scope(self, request: Request, scope: str) -> Answer:
        self._require(request, _WRITE_SCOPES)
        name, claims = _scope(_json(request))
        if name != scope:
            return Answer(400, {"error": "the scopes of path and body differ"})
        if scope not in self._scopes:
            return Answer(404, {"error": "scope mapping not found"})
        self._scopes[scope] = claims
        return Answer(204)

    def _delete_scope(self, request: Request, scope: str) -> Answer:
        self._require(request, _WRITE_SCOPES)
        self._scopes.pop(scope, None)
        return Answer(204)


def _json(request: Request) -> Any:
    if request.content_type != "application/json":
        raise Refused(Answer(415, "Expected request with `Content-Type: application/json`"))
    try:
        return json.loads(request.body)
    except ValueError:
        raise Refused(Answer(400, "Failed to parse the request body as JSON")) from None


def _mapping(request: Request) -> dict[str, Any]:
    document = _json(request)
    if not isinstance(document, dict):
        raise Refused(Answer(422, "Failed to deserialize the JSON body: expected a resource mapping"))
    client, context = document.get("clientIdentifier"), document.get("participantContext")
    scopes, audiences = document.get("scopes"), document.get("audiences", [])
    for one in (client, context):
        if not isinstance(one, str) or not one:
            raise Refused(Answer(400, {"error": "clientIdentifier and participantContext must not be empty"}))
    if not isinstance(scopes, list) or not all(isinstance(scope, str) and len(scope.split()) == 1 for scope in scopes):
        raise Refused(Answer(400, {"error": "scopes must be a list of texts without whitespace"}))
    if not isinstance(audiences, list) or not all(isinstance(one, str) and one for one in audiences):
        raise Refused(Answer(400, {"error": "audiences must be a list of texts that are not empty"}))
    return {
        "clientIdentifier": client,
        "participantContext": context,
        "scopes": list(scopes),
        "audiences": list(audiences),
    }


def _scope(document: Any) -> tuple[str, dict[str, str]]:
    if not isinstance(document, dict) or not isinstance(document.get("scope"), str):
        raise Refused(Answer(400, {"error": "scope is missing"}))
    claims = document.get("claims")
    if not isinstance(claims, dict) or not isinstance(claims.get("scope"), str) or _RESERVED & set(claims):
        raise Refused(Answer(400, {"error": "claims are missing, or reserved"}))
    return document["scope"], claims
