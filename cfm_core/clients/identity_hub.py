"""The IdentityHub's Identity API: participants, their keys, and requests for credentials.

Source: dataspace service contracts, section 6.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum, StrEnum
from typing import Any

from cfm_core.clients.edc import PAGE, EdcApi, required
from cfm_core.clients.http import Answer, segment
from cfm_core.errors import FatalError

SCOPE = "identity-api:admin"
CREDENTIALS_READ = "identity-api:credentials:read"
CREDENTIALS_WRITE = "identity-api:credentials:write"

_PARTICIPANTS = "/v1beta/participants"
_REQUEST = "/credentials/request"
_KEY_PAIRS = "/keypairs"
_ACTIVATED = 200
MOST_HELD = 50
"""The server shows no more of a participant's credentials than these."""


@dataclass(frozen=True, slots=True)
class ServiceEndpoint:
    """An address that the participant's DID document shows to others."""

    type: str
    id: str
    url: str


@dataclass(frozen=True, slots=True)
class Participant:
    """A participant to be created.

    ``vault`` is where its secrets are kept: address, path, folder; None leaves that to the IdentityHub.
    """

    context: str
    did: str
    key_alias: str
    """Without an underscore."""
    endpoints: Sequence[ServiceEndpoint]
    vault: tuple[str, str, str] | None = None


@dataclass(frozen=True, slots=True)
class ParticipantState:
    did: str
    active: bool


@dataclass(frozen=True, slots=True)
class CredentialSpec:
    """One credential to ask an issuer for; ``id`` is the issuer's name for its kind."""

    id: str
    type: str
    format: str


@dataclass(frozen=True, slots=True)
class HeldCredential:
    """A credential that a participant holds; ``id`` is the IdentityHub's, ``credential_id`` the credential's own."""

    id: str
    credential_id: str
    issuer_did: str
    types: tuple[str, ...]
    format: str
    issued_at: datetime
    expires_at: datetime | None
    """None: never."""


class RequestState(StrEnum):
    """How far a request for credentials is."""

    CREATED = "CREATED"
    REQUESTING = "REQUESTING"
    REQUESTED = "REQUESTED"
    ISSUED = "ISSUED"
    ERROR = "ERROR"
    REJECTED = "REJECTED"
    """What older servers say for ERROR."""


class KeyState(IntEnum):
    """Where a key pair is in its life."""

    CREATED = 100
    ACTIVATED = 200
    ROTATED = 300
    """Replaced: what it has signed can still be verified."""
    REVOKED = 400


SIGN_TOKEN = "sign_token"  # noqa: S105 - a name, and no secret


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A key pair of a participant; its private half is in a vault."""

    id: str
    key_id: str
    """Its name in the DID document, ``<did>#key1``."""
    alias: str
    """The name of its private half in the vault."""
    state: KeyState
    usage: frozenset[str] | None
    """What it may be used for; None where nothing is said of that."""
    timestamp: int
    """When it was made, in milliseconds since 1970."""
    is_default: bool = False

    @property
    def signs_tokens(self) -> bool:
        return self.state is KeyState.ACTIVATED and (self.usage is None or SIGN_TOKEN in self.usage)


@dataclass(frozen=True, slots=True)
class NewKeyPair:
    """A key pair to be generated. ``resource_id`` is its id, if the caller wants to choose it."""

    key_id: str
    alias: str
    """Without an underscore."""
    usage: Collection[str] = ()
    """Empty: for everything."""
    active: bool = True
    resource_id: str = ""

    def to_json(self) -> dict[str, Any]:
        document: dict[str, Any] = {
            "keyId": self.key_id,
            "privateKeyAlias": self.alias,
            "keyGeneratorParams": {"algorithm": "EDDSA", "curve": "Ed25519"},
            "active": self.active,
        }
        if self.usage:
            document["usage"] = sorted(self.usage)
        if self.resource_id:
            document["resourceId"] = self.resource_id
        return document


class IdentityHub:
    """Participants at the IdentityHub."""

    def __init__(self, api: EdcApi) -> None:
        self._api = api

    def create_participant(self, participant: Participant) -> None:
        """Create the participant, active and with a new key; one that is there already with the same DID will do.

        That it exists does not mean that its key is active: look at ``find_participant`` and ``has_active_key``.

        Raises:
            FatalError: the context has another DID, or the DID belongs to another context.

        Source: section 6.1.
        """
        did = participant.did
        body: dict[str, object] = {
            "participantContextId": participant.context,
            "did": did,
            "active": True,
            "roles": ["participant"],
            "provisionStsAccount": False,
            "provisionApiKey": False,
            "serviceEndpoints": [
                {"type": one.type, "id": one.id, "serviceEndpoint": one.url} for one in participant.endpoints
            ],
            "key": {
                "keyId": f"{did}#key1",
                "privateKeyAlias": participant.key_alias,
                "keyGeneratorParams": {"algorithm": "EDDSA", "curve": "Ed25519"},
            },
        }
        if participant.vault is not None:
            address, path, folder = participant.vault
            body["additionalProperties"] = {
                "edc.vault.hashicorp.config": {
                    "config": {"vaultUrl": address, "secretPath": path, "folderPath": folder}
                }
            }
        answer = self._api.send(
            "POST", _PARTICIPANTS, context=participant.context, scope=SCOPE, json=body, expect=(409,)
        )
        if answer.status == 409:
            found = self.find_participant(participant.context)
            if found is None:
                raise FatalError(f"conflict: {did} belongs to another participant context at the IdentityHub")
            if found.did != did:
                raise FatalError(
                    f"conflict: participant {participant.context} exists at the IdentityHub for {found.did}, not {did}"
                )

    def find_participant(self, context: str) -> ParticipantState | None:
        """What is known of a participant; None where there is no such one. Source: section 6.2."""
        answer = self._api.send("GET", self._path(context), context=context, scope=SCOPE, expect=(404,))
        if answer.status == 404:
            return None
        document = answer.object()
        return ParticipantState(required(document, "did", answer), document.get("state") == _ACTIVATED)

    def participants(self, context: str, offset: int, limit: int = PAGE) -> list[tuple[str, str]]:
        """A page of all participants: the context of each, and its DID. Source: section 6.2.

        Args:
            context: any participant context that there is a token for.
        """
        page = {"offset": str(offset), "limit": str(limit)}
        answer = self._api.send("GET", _PARTICIPANTS, context=context, scope=SCOPE, query=page)
        return [
            (required(one, "participantContextId", answer), required(one, "did", answer)) for one in answer.objects()
        ]

    def has_active_key(self, context: str) -> bool:
        """Whether the participant has a key pair in use. Source: section 6.6."""
        return any(pair.state is KeyState.ACTIVATED for pair in self.key_pairs(context))

    def delete_participant(self, context: str) -> None:
        """Delete the participant with its keys and credentials; no matter if there is none. Source: section 6.2."""
        self._api.send("DELETE", self._path(context), context=context, scope=SCOPE, expect=(404,))

    def request_credentials(
        self, context: str, issuer_did: str, holder_pid: str, credentials: Sequence[CredentialSpec]
    ) -> None:
        """Ask an issuer for credentials, under an id of the caller's; asking again with the same id changes nothing.

        Where the request can be seen, ``request_path`` says. Source: section 6.3.
        """
        self._api.send(
            "POST",
            self._path(context) + _REQUEST,
            context=context,
            scope=CREDENTIALS_WRITE,
            json={
                "issuerDid": issuer_did,
                "holderPid": holder_pid,
                "credentials": [{"format": one.format, "type": one.type, "id": one.id} for one in credentials],
            },
            expect=(409,),
        )

    def request_state(self, context: str, holder_pid: str) -> RequestState | None:
        """How far a request is; None where it is not known. Source: section 6.4.

        Raises:
            FatalError: the server answers with a word that is none of these.
        """
        answer = self._api.send(
            "GET",
            self.request_path(context, holder_pid),
            context=context,
            scope=CREDENTIALS_READ,
            expect=(404,),
        )
        if answer.status == 404:
            return None
        status = required(answer.object(), "status", answer)
        try:
            return RequestState(status)
        except ValueError:
            raise FatalError(f"{answer.call} answered with the unknown status {status!r:.60}") from None

    def credentials(self, context: str) -> list[HeldCredential]:
        """The credentials that a participant holds, no more than ``MOST_HELD`` of them. Source: section 6.5.

        Raises:
            RecoverableError: there is no such participant, or not yet.
        """
        path = f"{self._path(context)}/credentials"
        answer = self._api.send("GET", path, context=context, scope=CREDENTIALS_READ)
        return [_held(one, answer) for one in answer.objects()]

    def delete_credential(self, context: str, held_id: str) -> None:
        """Let the participant hold a credential no more; no matter if it does not. Source: section 6.5."""
        path = f"{self._path(context)}/credentials/{segment(held_id)}"
        self._api.send("DELETE", path, context=context, scope=CREDENTIALS_WRITE, expect=(404,))

    def key_pairs(self, context: str) -> list[KeyPair]:
        """All key pairs of a participant, whatever their state; none where there is no such participant.

        Source: section 6.6.
        """
        return list(self._key_pairs(context))

    def find_key_pair(self, context: str, pair_id: str) -> KeyPair | None:
        """One key pair of a participant; None where it has none of that id. Source: section 6.6."""
        path = f"{self._path(context)}{_KEY_PAIRS}/{segment(pair_id)}"
        answer = self._api.send("GET", path, context=context, scope=SCOPE, expect=(404,))
        return None if answer.status == 404 else _key_pair(answer.object(), answer)

    def add_key_pair(self, context: str, new: NewKeyPair, *, default: bool = True) -> None:
        """Give the participant another key pair; one of that key id that is there already will do.

        Raises:
            FatalError: the server refuses it, and there is none of that key id.

        Source: section 6.6.
        """
        answer = self._api.send(
            "PUT",
            self._path(context) + _KEY_PAIRS,
            context=context,
            scope=SCOPE,
            json=new.to_json(),
            query={"makeDefault": str(default).lower()},
            expect=(409,),
        )
        if answer.status == 409 and all(pair.key_id != new.key_id for pair in self.key_pairs(context)):
            raise answer.error()

    def activate_key_pair(self, context: str, pair_id: str) -> None:
        """Take a key pair into use; no matter if it is. Source: section 6.6."""
        self._move(context, pair_id, "activate", KeyState.ACTIVATED)

    def rotate_key_pair(
        self, context: str, pair_id: str, new: NewKeyPair | None = None, *, for_another: timedelta | None = None
    ) -> None:
        """Take a key pair out of use; no matter if it is.

        Args:
            new: what takes its place.
            for_another: how long what it has signed can still be verified; None leaves that to the server.

        Source: section 6.6.
        """
        query = {} if for_another is None else {"duration": str(round(for_another / timedelta(milliseconds=1)))}
        self._move(context, pair_id, "rotate", KeyState.ROTATED, new, query)

    def revoke_key_pair(self, context: str, pair_id: str, new: NewKeyPair | None = None) -> None:
        """Take a key pair out of use, and what it has signed with it; no matter if it is. ``new`` takes its place.

        Source: section 6.6.
        """
        self._move(context, pair_id, "revoke", KeyState.REVOKED, new)

    def _move(
        self,
        context: str,
        pair_id: str,
        action: str,
        state: KeyState,
        new: NewKeyPair | None = None,
        query: dict[str, str] | None = None,
    ) -> None:
        answer = self._api.send(
            "POST",
            f"{self._path(context)}{_KEY_PAIRS}/{segment(pair_id)}/{action}",
            context=context,
            scope=SCOPE,
            json=None if new is None else new.to_json(),
            query=query,
            expect=(400,),
        )
        if answer.status == 400:
            # A wrong state, among other things: which may be the one that is wanted.
            found = self.find_key_pair(context, pair_id)
            if found is None or found.state is not state:
                raise answer.error()

    def _key_pairs(self, context: str) -> Iterator[KeyPair]:
        seen: set[str] = set()
        offset = 0
        while True:
            answer = self._api.send(
                "GET",
                self._path(context) + _KEY_PAIRS,
                context=context,
                scope=SCOPE,
                query={"offset": str(offset), "limit": str(PAGE)},
            )
            page = [_key_pair(one, answer) for one in answer.objects()]
            fresh = [pair for pair in page if pair.id not in seen]
            yield from fresh
            # A server that knows no pages gives everything again.
            if len(page) < PAGE or not fresh:
                return
            seen.update(pair.id for pair in fresh)
            offset += PAGE

    @staticmethod
    def _path(context: str) -> str:
        return f"{_PARTICIPANTS}/{segment(context)}"

    @classmethod
    def request_path(cls, context: str, holder_pid: str) -> str:
        """Where a request can be seen, below the Identity API's address."""
        return f"{cls._path(context)}{_REQUEST}/{segment(holder_pid)}"


def _key_pair(document: dict[str, Any], answer: Answer) -> KeyPair:
    state, usage, timestamp = document.get("state"), document.get("usage"), document.get("timestamp")
    if not isinstance(state, int) or state not in {*KeyState}:
        raise FatalError(f"{answer.call} answered with the unknown state {state!r:.60}")
    return KeyPair(
        id=required(document, "id", answer),
        key_id=required(document, "keyId", answer),
        alias=required(document, "privateKeyAlias", answer),
        state=KeyState(state),
        usage=frozenset(map(str, usage)) if isinstance(usage, list) else None,
        timestamp=timestamp if isinstance(timestamp, int) else 0,
        is_default=document.get("defaultPair") is True,
    )


def _held(document: dict[str, Any], answer: Answer) -> HeldCredential:
    verifiable = document.get("verifiableCredential")
    credential = verifiable.get("credential") if isinstance(verifiable, dict) else None
    if not isinstance(verifiable, dict) or not isinstance(credential, dict):
        raise FatalError(f"{answer.call} answered without 'verifiableCredential'")
    issuer, types, expires = credential.get("issuer"), credential.get("type"), credential.get("expirationDate")
    issued_at = _instant(required(credential, "issuanceDate", answer), answer)
    return HeldCredential(
        id=required(document, "id", answer),
        credential_id=str(credential.get("id") or ""),
        issuer_did=required(issuer, "id", answer) if isinstance(issuer, dict) else "",
        types=tuple(map(str, types)) if isinstance(types, list) else (),
        format=str(verifiable.get("format") or ""),
        issued_at=issued_at,
        expires_at=None if expires is None else _instant(str(expires), answer),
    )


def _instant(text: str, answer: Answer) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise FatalError(f"{answer.call} answered with {text!r:.60}, which is no instant") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
