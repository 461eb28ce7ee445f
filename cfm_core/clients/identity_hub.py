"""The IdentityHub's Identity API: participants, their keys, and requests for credentials.

Source: dataspace service contracts, section 6.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from cfm_core.clients.edc import EdcApi, required
from cfm_core.clients.http import segment
from cfm_core.errors import FatalError

SCOPE = "identity-api:admin"
CREDENTIALS_READ = "identity-api:credentials:read"
CREDENTIALS_WRITE = "identity-api:credentials:write"

_PARTICIPANTS = "/v1beta/participants"
_REQUEST = "/credentials/request"
_ACTIVATED = 200


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


class RequestState(StrEnum):
    """How far a request for credentials is."""

    CREATED = "CREATED"
    REQUESTING = "REQUESTING"
    REQUESTED = "REQUESTED"
    ISSUED = "ISSUED"
    ERROR = "ERROR"
    REJECTED = "REJECTED"
    """What older servers say for ERROR."""


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

    def has_active_key(self, context: str) -> bool:
        """Whether the participant has a key pair in use. Source: section 6.6."""
        answer = self._api.send("GET", self._path(context) + "/keypairs", context=context, scope=SCOPE)
        return any(pair.get("state") == _ACTIVATED for pair in answer.objects())

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

    @staticmethod
    def _path(context: str) -> str:
        return f"{_PARTICIPANTS}/{segment(context)}"

    @classmethod
    def request_path(cls, context: str, holder_pid: str) -> str:
        """Where a request can be seen, below the Identity API's address."""
        return f"{cls._path(context)}{_REQUEST}/{segment(holder_pid)}"
