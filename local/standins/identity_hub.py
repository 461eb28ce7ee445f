"""The stand-in IdentityHub. It asks the stand-in issuer for credentials, which takes a while.

Source: dataspace service contracts, section 6.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Callable
from typing import Any

from local.standins.edc import EdcService, conflict, document_of, error, invalid, not_found, page_of, text_of
from local.standins.events import Emit, dropped
from local.standins.http import Answer, Request
from local.standins.issuer_service import IssuerService
from local.standins.tokens import TokenSigner

_CREATED, _ACTIVATED, _ROTATED, _REVOKED = 100, 200, 300, 400
_USES = ("sign_credentials", "sign_presentation", "sign_token")
_VERSION = re.compile(r"-v\d+$")
_USE_DURATION = 15_552_000_000
_KEY_SOURCES = ("keyGeneratorParams", "publicKeyJwk", "publicKeyPem")


class IdentityHub(EdcService):
    """Participants, key pairs, credential requests and credentials.

    Args:
        issue_delay: seconds from a request for credentials to their issue; for a third of it each the request is CREATED,
            REQUESTING, and REQUESTED.
        key_delay: seconds until a new key is active.
        clock: monotonic seconds.
        emit: is given the events of participants and keys.
    """

    name = "identityhub"
    prefix = "/identityhub/api/identity"
    scope_prefix = "identity-api"

    def __init__(
        self,
        signer: TokenSigner,
        issuer: IssuerService,
        issue_delay: float = 1.0,
        key_delay: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        emit: Emit = dropped,
    ) -> None:
        super().__init__(signer)
        self._issuer = issuer
        self._issue_delay = issue_delay
        self._key_delay = key_delay
        self._clock = clock
        self._emit = emit
        self._last_stamp = 0
        self._participants: dict[str, dict[str, Any]] = {}
        self._keys: dict[str, dict[str, Any]] = {}
        self._key_ready_at: dict[str, float] = {}
        self._requests: dict[str, dict[str, Any]] = {}
        self._requested_at: dict[str, float] = {}
        self._credentials: dict[str, dict[str, Any]] = {}
        issuer.before_request = self.catch_up
        base = "/v1beta/participants"
        self.route("POST", base, self._create)
        self.route("GET", base, self._list)
        self.route("GET", base + "/{context}", self._read)
        self.route("DELETE", base + "/{context}", self._delete)
        self.route("POST", base + "/{context}/state", self._set_state)
        self.route("GET", base + "/{context}/keypairs", self._list_keys)
        self.route("PUT", base + "/{context}/keypairs", self._put_key)
        self.route("GET", base + "/{context}/keypairs/{pair_id}", self._read_key)
        self.route("POST", base + "/{context}/keypairs/{pair_id}/activate", self._activate_key)
        self.route("POST", base + "/{context}/keypairs/{pair_id}/rotate", self._rotate_key)
        self.route("POST", base + "/{context}/keypairs/{pair_id}/revoke", self._revoke_key)
        self.route("POST", base + "/{context}/credentials/request", self._request_credentials)
        self.route("GET", base + "/{context}/credentials/request/{holder_pid}", self._read_request)
        self.route("GET", base + "/{context}/credentials", self._list_credentials)
        self.route("GET", base + "/{context}/credentials/{credential_id}", self._read_credential)
        self.route("DELETE", base + "/{context}/credentials/{credential_id}", self._delete_credential)

    def knows(self, context: str) -> bool:
        return context in self._participants

    def state(self) -> Any:
        self.catch_up()
        return {
            "participants": self._participants,
            "keypairs": list(self._keys.values()),
            "credentialRequests": list(self._requests.values()),
            "credentials": list(self._credentials.values()),
        }

    def answer(self, request: Request) -> Answer:
        self.catch_up()
        return super().answer(request)

    def catch_up(self) -> None:
        """Bring requests and keys to where they are by now."""
        now = self._clock()
        for key_id, ready_at in list(self._key_ready_at.items()):
            if ready_at <= now:
                del self._key_ready_at[key_id]
                self._activate(self._keys[key_id])
        for holder_pid, requested_at in list(self._requested_at.items()):
            request = self._requests[holder_pid]
            did = self._participants[request["participantContextId"]]["did"]
            age = now - requested_at
            if request["status"] == "CREATED" and age >= self._issue_delay / 3:
                request["status"] = "REQUESTING"
            if request["status"] == "REQUESTING" and age >= self._issue_delay * 2 / 3:
                known = self._issuer.begin(holder_pid, did)
                request["status"] = "REQUESTED" if known else "ERROR"
            if request["status"] == "REQUESTED" and age >= self._issue_delay:
                self._store(request, did, self._issuer.issue(holder_pid, did, request["typesAndFormats"]))
                request["status"] = "ISSUED"
            if request["status"] in {"ISSUED", "ERROR"}:
                del self._requested_at[holder_pid]

    def _store(self, request: dict[str, Any], did: str, issued: list[dict[str, Any]]) -> None:
        for one in issued:
            credential_id = str(uuid.uuid4())
            self._credentials[credential_id] = {
                "id": credential_id,
                "participantContextId": request["participantContextId"],
                "issuerId": request["issuerDid"],
                "holderId": did,
                "state": 500,
                "metadata": {},
                "verifiableCredential": {"rawVc": "", **one},
            }

    def _create(self, request: Request) -> Answer:
        self.authorize(request, "admin")
        document = document_of(request)
        context, did = text_of(document, "participantContextId"), text_of(document, "did")
        keys = document.get("keys") or [document.get("key")]
        for key in keys:
            _check_key(key)
        endpoints = document.get("serviceEndpoints", [])
        for endpoint in endpoints:
            for name in ("type", "id", "serviceEndpoint"):
                text_of(endpoint, name)
        properties = document.get("additionalProperties", {})
        if not isinstance(properties, dict):
            raise invalid("additionalProperties", "must be an object")
        if not isinstance(properties.get("edc.vault.hashicorp.config", {}), dict):
            raise invalid("additionalProperties", "edc.vault.hashicorp.config must be an object")
        if context in self._participants:
            raise conflict(f"A ParticipantContext with ID '{context}' already exists.")
        if any(participant["did"] == did for participant in self._participants.values()):
            raise conflict(f"A DidResource with DID '{did}' already exists.")
        active = document.get("active") is True
        now = int(time.time() * 1000)
        self._participants[context] = {
            "participantContextId": context,
            "did": did,
            "state": _ACTIVATED if active else _CREATED,
            "createdAt": now,
            "lastModified": now,
            "properties": properties,
            "serviceEndpoints": endpoints,
        }
        self._emit("participantcontext.created", {"participantContextId": context, "manifest": document})
        for number, key in enumerate(keys):
            self._add_key(context, key, active=active, default=number == 0)
        # Only what was asked for is provisioned, and asking is the default.
        provisioned = "generated" if document.get("provisionApiKey", True) else None
        return Answer(200, {"apiKey": provisioned, "clientId": None, "clientSecret": None})

    def _add_key(self, context: str, key: dict[str, Any], *, active: bool, default: bool, version: int = 1) -> None:
        key_id = key.get("resourceId") or str(uuid.uuid4())
        # Later keys have later stamps, however fast they are made.
        self._last_stamp = max(self._last_stamp + 1, int(time.time() * 1000))
        alias = key["privateKeyAlias"]
        if default:
            for other in self._keys_of(context):
                other["defaultPair"] = False
        self._keys[key_id] = {
            "id": key_id,
            "participantContextId": context,
            "keyId": key["keyId"],
            "keyContext": None,
            "groupName": None,
            "privateKeyAlias": alias if alias.startswith("participant_") else f"participant_{context}_{alias}",
            "defaultPair": default,
            "useDuration": _USE_DURATION,
            "rotationDuration": 0,
            "serializedPublicKey": json.dumps({"kty": "OKP", "crv": "Ed25519", "kid": key["keyId"], "x": version}),
            "timestamp": self._last_stamp,
            "state": _CREATED,
            "usage": key.get("usage") or list(_USES),
        }
        self._tell("added", self._keys[key_id], type="JsonWebKey2020")
        if active:
            self._key_ready_at[key_id] = self._clock() + self._key_delay
            self.catch_up()

    def _activate(self, pair: dict[str, Any]) -> None:
        pair["state"] = _ACTIVATED
        self._tell("activated", pair, keyType="JsonWebKey2020")

    def _tell(self, what: str, pair: dict[str, Any], **more: Any) -> None:
        """Announce what has become of a key pair; an event shows it as it is at this moment."""
        data = {
            "participantContextId": pair["participantContextId"],
            "keyId": pair["keyId"],
            "keyPairResource": dict(pair),
        }
        if what in {"added", "activated"}:
            data["publicKeySerialized"] = pair["serializedPublicKey"]
        self._emit(f"keypair.{what}", data | more)

    def _keys_of(self, context: str) -> list[dict[str, Any]]:
        return [key for key in self._keys.values() if key["participantContextId"] == context]

    def _list(self, request: Request) -> Answer:
        self.authorize(request, "admin")
        return Answer(200, page_of(self._participants.values(), request))

    def _read(self, request: Request, context: str) -> Answer:
        self.authorize(request, "participants:read", owner=context)
        return Answer(200, self._existing(context))

    def _delete(self, request: Request, context: str) -> Answer:
        self.authorize(request, "participants:write", owner=context)
        self._existing(context)
        self._emit("participantcontext.deleting", {"participantContextId": context})
        for pair in self._keys_of(context):
            if pair["state"] != _REVOKED:
                pair["state"] = _REVOKED
                self._tell("revoked", pair, newKeyDescriptor=None)
        del self._participants[context]
        for held in (self._keys, self._requests, self._credentials):
            for key in [key for key, one in held.items() if one["participantContextId"] == context]:
                del held[key]
                self._key_ready_at.pop(key, None)
                self._requested_at.pop(key, None)
        self._emit("participantcontext.deleted", {"participantContextId": context})
        return Answer(204)

    def _set_state(self, request: Request, context: str) -> Answer:
        self.authorize(request, "participants:write", owner=context)
        self._existing(context)["state"] = _ACTIVATED if request.query.get("isActive") == "true" else 300
        return Answer(204)

    def _list_keys(self, request: Request, context: str) -> Answer:
        self.authorize(request, "keypairs:read", owner=context)
        return Answer(200, page_of(self._keys_of(context), request))

    def _read_key(self, request: Request, context: str, pair_id: str) -> Answer:
        self.authorize(request, "keypairs:read", owner=context)
        return Answer(200, self._existing_key(context, pair_id))

    def _put_key(self, request: Request, context: str) -> Answer:
        self.authorize(request, "keypairs:write", owner=context)
        key = document_of(request)
        _check_key(key)
        if (default := request.query.get("makeDefault", "false")) not in {"true", "false"}:
            raise invalid("makeDefault", "must be true or false")
        self._existing(context)
        self._check_new(context, key)
        self._add_key(context, key, active=key.get("active") is True, default=default == "true")
        return Answer(204)

    def _activate_key(self, request: Request, context: str, pair_id: str) -> Answer:
        self.authorize(request, "keypairs:write", owner=context)
        pair = self._key_in(context, pair_id, _CREATED)
        # What was to become active by itself is active now.
        self._key_ready_at.pop(pair_id, None)
        self._activate(pair)
        return Answer(204)

    def _rotate_key(self, request: Request, context: str, pair_id: str) -> Answer:
        self.authorize(request, "keypairs:write", owner=context)
        new = self._successor(request, context)
        duration = request.query.get("duration", "0")
        if not duration.isdecimal():
            raise error(400, "InvalidRequest", "duration must be a number of milliseconds")
        pair = self._key_in(context, pair_id, _ACTIVATED)
        pair["state"] = _ROTATED
        pair["rotationDuration"] = int(duration)
        self._tell("rotated", pair, newKeyDescriptor=new)
        # A key of the transit engine has a new version at once, under the name of the old one.
        version = 1 + sum(one["privateKeyAlias"] == pair["privateKeyAlias"] for one in self._keys_of(context))
        following = new or {
            "keyId": f"{_VERSION.sub('', pair['keyId'])}-v{version}",
            "privateKeyAlias": pair["privateKeyAlias"],
            "usage": pair["usage"],
        }
        self._add_key(context, following, active=True, default=pair["defaultPair"], version=version)
        return Answer(204)

    def _revoke_key(self, request: Request, context: str, pair_id: str) -> Answer:
        self.authorize(request, "keypairs:write", owner=context)
        new = self._successor(request, context)
        pair = self._key_in(context, pair_id, _CREATED, _ACTIVATED, _ROTATED)
        self._key_ready_at.pop(pair_id, None)
        pair["state"] = _REVOKED
        self._tell("revoked", pair, newKeyDescriptor=new)
        if new is not None:
            self._add_key(context, new, active=True, default=pair["defaultPair"])
        return Answer(204)

    def _successor(self, request: Request, context: str) -> dict[str, Any] | None:
        """The descriptor of a new key, which need not be there."""
        if not request.body:
            return None
        new = document_of(request)
        _check_key(new)
        self._check_new(context, new)
        return new

    def _check_new(self, context: str, key: dict[str, Any]) -> None:
        taken = key.get("resourceId") in self._keys or any(
            one["keyId"] == key["keyId"] for one in self._keys_of(context)
        )
        if taken:
            raise conflict(f"A key pair with ID '{key.get('resourceId') or key['keyId']}' already exists.")

    def _key_in(self, context: str, pair_id: str, *states: int) -> dict[str, Any]:
        """A key pair that is in one of the given states."""
        pair = self._existing_key(context, pair_id)
        if pair["state"] not in states:
            raise error(400, "InvalidRequest", f"The key pair {pair_id} is in the wrong state: {pair['state']}")
        return pair

    def _request_credentials(self, request: Request, context: str) -> Answer:
        self.authorize(request, "credentials:write", owner=context)
        document = document_of(request)
        issuer_did = text_of(document, "issuerDid")
        holder_pid = text_of(document, "holderPid", optional=True) or str(uuid.uuid4())
        credentials = document.get("credentials")
        if not isinstance(credentials, list) or not credentials:
            raise invalid("credentials", "must be an array that is not empty")
        wanted = [{name: text_of(one, name) for name in ("format", "type", "id")} for one in credentials]
        self._existing(context)
        if holder_pid in self._requests:
            raise conflict(f"A credential request with holderPid '{holder_pid}' already exists.")
        self._requests[holder_pid] = {
            "participantContextId": context,
            "issuerDid": issuer_did,
            "holderPid": holder_pid,
            "issuerPid": None,
            "status": "CREATED",
            "typesAndFormats": wanted,
        }
        self._requested_at[holder_pid] = self._clock()
        location = f"/v1beta/participants/{context}/credentials/request/{holder_pid}"
        return Answer(201, headers={"Location": location})

    def _read_request(self, request: Request, context: str, holder_pid: str) -> Answer:
        self.authorize(request, "credentials:read", owner=context)
        found = self._requests.get(holder_pid)
        if found is None or found["participantContextId"] != context:
            raise not_found("HolderCredentialRequest", holder_pid)
        return Answer(200, {name: value for name, value in found.items() if name != "participantContextId"})

    def _list_credentials(self, request: Request, context: str) -> Answer:
        self.authorize(request, "credentials:read", owner=context)
        kind = request.query.get("type")
        return Answer(
            200,
            [
                one
                for one in self._credentials.values()
                if one["participantContextId"] == context
                and (kind is None or kind in one["verifiableCredential"]["credential"]["type"])
            ],
        )

    def _read_credential(self, request: Request, context: str, credential_id: str) -> Answer:
        self.authorize(request, "credentials:read", owner=context)
        return Answer(200, self._existing_credential(context, credential_id))

    def _delete_credential(self, request: Request, context: str, credential_id: str) -> Answer:
        self.authorize(request, "credentials:write", owner=context)
        self._existing_credential(context, credential_id)
        del self._credentials[credential_id]
        return Answer(204)

    def _existing(self, context: str) -> dict[str, Any]:
        if context not in self._participants:
            raise not_found("ParticipantContext", context)
        return self._participants[context]

    def _existing_key(self, context: str, pair_id: str) -> dict[str, Any]:
        found = self._keys.get(pair_id)
        if found is None or found["participantContextId"] != context:
            raise not_found("KeyPairResource", pair_id)
        return found

    def _existing_credential(self, context: str, credential_id: str) -> dict[str, Any]:
        found = self._credentials.get(credential_id)
        if found is None or found["participantContextId"] != context:
            raise not_found("VerifiableCredentialResource", credential_id)
        return found


def _check_key(key: Any) -> None:
    if not isinstance(key, dict):
        raise invalid("key", "a key descriptor is needed")
    text_of(key, "keyId")
    alias = text_of(key, "privateKeyAlias")
    if "_" in alias:
        raise invalid("privateKeyAlias", "must not contain an underscore")
    if sum(name in key for name in _KEY_SOURCES) != 1:
        raise invalid("key", f"exactly one of {', '.join(_KEY_SOURCES)} is needed")
    if "keyGeneratorParams" not in key:
        raise invalid("key", "public keys cannot be imported")
    usage = key.get("usage", list(_USES))
    if not isinstance(usage, list) or not usage or not set(map(str, usage)) <= set(_USES):
        raise invalid("key.usage", f"must not be empty, and hold only {', '.join(_USES)}")
