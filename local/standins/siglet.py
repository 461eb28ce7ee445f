"""The stand-in Siglet: its management API.

Source: dataspace service contracts, sections 8.1 and 8.2.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from local.standins.http import Answer, Refused, Request, Service
from local.standins.tokens import TokenSigner

_READ = "siglet-mgmt-api:read"
_WRITE = "siglet-mgmt-api:write"
_SNAKE_CASE = {
    "transferType": "transfer_type",
    "endpointType": "endpoint_type",
    "tokenSource": "token_source",
    "endpointMappings": "endpoint_mappings",
    "claimMappings": "claim_mappings",
    "txRenewalSupport": "tx_renewal_support",
}
"""Spellings that are taken for those of the contract."""


class Siglet(Service):
    """Transfer types and signing keys of participant contexts; no token is bound to the context in the path."""

    name = "siglet"
    prefix = "/siglet"

    def __init__(self, signer: TokenSigner) -> None:
        super().__init__()
        self._signer = signer
        self._transfer_types: dict[str, dict[str, Any]] = {}
        self._keys: dict[str, dict[str, str]] = {}
        self._mapping(
            "/transfer-type-mappings", self._transfer_types, _mappings, _transfer_types, lambda one: {"mappings": one}
        )
        self._mapping("/key-mappings", self._keys, _key, _key, lambda one: one)

    def state(self) -> Any:
        return {"transferTypes": self._transfer_types, "keys": self._keys}

    def _mapping(
        self,
        base: str,
        held: dict[str, Any],
        created: Callable[[dict[str, Any]], Any],
        replaced: Callable[[dict[str, Any]], Any],
        shown: Callable[[Any], dict[str, Any]],
    ) -> None:
        """Add the four operations on one kind of mapping.

        Args:
            created, replaced: read the bodies of POST and PUT, which differ.
            shown: what is answered besides the context.
        """

        def create(request: Request) -> Answer:
            self._admit(request, _WRITE)
            document = _document(request)
            context = _text(document, "participantContextId")
            content = created(document)
            if context in held:
                return _error(409, f"a mapping for {context} exists")
            held[context] = content
            return Answer(201)

        def read(request: Request, context: str) -> Answer:
            self._admit(request, _READ)
            if context not in held:
                return _absent(context)
            return Answer(200, {"participantContextId": context} | shown(held[context]))

        def replace(request: Request, context: str) -> Answer:
            self._admit(request, _WRITE)
            content = replaced(_document(request))
            if context not in held:
                return _absent(context)
            held[context] = content
            return Answer(204)

        def delete(request: Request, context: str) -> Answer:
            self._admit(request, _WRITE)
            return _absent(context) if held.pop(context, None) is None else Answer(204)

        self.route("POST", base, create)
        self.route("GET", base + "/{context}", read)
        self.route("PUT", base + "/{context}", replace)
        self.route("DELETE", base + "/{context}", delete)

    def _admit(self, request: Request, scope: str) -> None:
        """Let only those on whose token has exactly this scope: writing does not imply reading."""
        claims = self._signer.verified(request.bearer)
        if claims is None:
            raise Refused(_error(401, "missing or invalid token"))
        if scope not in str(claims.get("scope", "")).split():
            raise Refused(_error(403, f"scope {scope} is missing"))


def _error(status: int, message: str) -> Answer:
    return Answer(status, {"error": message})


def _absent(context: str) -> Answer:
    return _error(404, f"there is no mapping for {context}")


def _invalid(message: str) -> Refused:
    return Refused(_error(422, message))


def _document(request: Request) -> dict[str, Any]:
    if request.content_type != "application/json":
        raise Refused(_error(415, "expected a request with Content-Type: application/json"))
    try:
        document = json.loads(request.body)
    except ValueError:
        raise Refused(_error(400, "the body is not JSON")) from None
    if not isinstance(document, dict):
        raise _invalid("expected an object")
    return document


def _text(document: Mapping[str, Any], field: str) -> str:
    value = document.get(field)
    if not isinstance(value, str) or not value:
        raise _invalid(f"missing field `{field}`")
    return value


def _key(document: dict[str, Any]) -> dict[str, str]:
    return {"keyName": _text(document, "keyName"), "kid": _text(document, "kid")}


def _mappings(document: dict[str, Any]) -> dict[str, Any]:
    mappings = document.get("mappings")
    if not isinstance(mappings, dict):
        raise _invalid("missing field `mappings`")
    return _transfer_types(mappings)


def _transfer_types(document: dict[str, Any]) -> dict[str, Any]:
    """A map whose every key names a transfer type, those of a wrapper included."""
    return {name: _transfer_type(name, given) for name, given in document.items()}


def _transfer_type(name: str, given: Any) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise _invalid(f"{name}: expected a transfer type")
    found = dict(given)
    for camel, snake in _SNAKE_CASE.items():
        if snake in found:
            found[camel] = found.pop(snake)
    for field in ("transferType", "endpointType"):
        _text(found, field)
    found.setdefault("tokenSource", "provider")
    if found["tokenSource"] not in {"provider", "client"}:
        raise _invalid(f"{name}: tokenSource must be provider or client")
    if "endpoint" in found and "endpointMappings" in found:
        raise _invalid(f"{name}: either endpoint or endpointMappings")
    if "endpoint" in found and not urlsplit(_text(found, "endpoint")).scheme:
        raise _invalid(f"{name}: endpoint must be a URL")
    for one in _objects(name, found, "endpointMappings"):
        for field in ("key", "value", "endpoint"):
            _text(one, field)
    for one in _objects(name, found, "claimMappings"):
        for field in ("from", "to"):
            _text(one, field)
    if not isinstance(found.setdefault("txRenewalSupport", False), bool):
        raise _invalid(f"{name}: txRenewalSupport must be true or false")
    return found


def _objects(name: str, found: Mapping[str, Any], field: str) -> list[dict[str, Any]]:
    value = found.get(field, [])
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise _invalid(f"{name}: {field} must be a list of objects")
    return value
