"""The stand-in IssuerService, with the issuer's own participant context in place.

Source: dataspace service contracts, sections 7.1, 7.2 and 7.4.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from local.standins import ISSUER_DID
from local.standins.edc import EdcService, conflict, document_of, error, invalid, not_found, queried, text_of
from local.standins.http import Answer, Request
from local.standins.rehearsals import refuses_issuance
from local.standins.tokens import TokenSigner

ISSUER_ID = "issuer"
_VALIDITY = timedelta(days=7)


class IssuerService(EdcService):
    """Holders and issued credentials.

    ``before_request`` is called first of all for each request, so that issuance can catch up with time.
    """

    name = "issuerservice"
    prefix = "/issuerservice/api/admin"
    scope_prefix = "issuer-admin-api"

    def __init__(self, signer: TokenSigner) -> None:
        super().__init__(signer)
        self._holders: dict[str, dict[str, Any]] = {}
        self._credentials: dict[str, dict[str, Any]] = {}
        self._processes: dict[str, dict[str, Any]] = {}
        self.before_request: Callable[[], None] = lambda: None
        base = "/v1beta/participants/{issuer}"
        self.route("POST", base + "/holders", self._create_holder)
        self.route("PUT", base + "/holders", self._update_holder)
        self.route("POST", base + "/holders/query", self._query_holders)
        self.route("GET", base + "/holders/{holder_id}", self._read_holder)
        self.route("DELETE", base + "/holders/{holder_id}", self._delete_holder)
        self.route("POST", base + "/credentials/query", self._query_credentials)
        self.route("POST", base + "/credentials/{credential_id}/revoke", self._revoke)
        self.route("POST", base + "/credentials/{credential_id}/suspend", self._not_supported)
        self.route("POST", base + "/credentials/{credential_id}/resume", self._not_supported)
        self.route("GET", base + "/credentials/{credential_id}/status", self._status)
        self.route("POST", base + "/issuanceprocesses/query", self._query_processes)
        self.route("GET", base + "/issuanceprocesses/{process_id}", self._read_process)

    def knows(self, context: str) -> bool:
        return context == ISSUER_ID

    def state(self) -> Any:
        return {
            "holders": list(self._holders.values()),
            "credentials": [
                {
                    "id": one["id"],
                    "holderId": one["holderId"],
                    "type": one["credential"]["type"],
                    "status": one["status"],
                }
                for one in self._credentials.values()
            ],
            "issuanceProcesses": list(self._processes.values()),
        }

    def answer(self, request: Request) -> Answer:
        self.before_request()
        return super().answer(request)

    def begin(self, holder_pid: str, did: str) -> bool:
        """Take a request of a holder; False, and a process that tells why, where the holder gets nothing."""
        refusal = None
        if not any(holder["did"] == did for holder in self._holders.values()):
            refusal = f"no holder with the DID {did}"
        elif refuses_issuance(did):
            refusal = "a refusal that was rehearsed"
        process_id = str(uuid.uuid4())
        self._processes[process_id] = {
            "id": process_id,
            "holderId": did,
            "holderPid": holder_pid,
            "state": "ERRORED" if refusal else "APPROVED",
            "errorDetail": refusal,
            "claims": {},
        }
        return refusal is None

    def issue(self, holder_pid: str, did: str, credentials: list[dict[str, str]]) -> list[dict[str, Any]]:
        """Issue what was requested, and give it as the holder keeps it."""
        now = datetime.now(UTC)
        issued = []
        for one in credentials:
            resource_id = str(uuid.uuid4())
            credential = {
                "id": f"urn:uuid:{uuid.uuid4()}",
                "type": ["VerifiableCredential", one["type"]],
                "issuer": {"id": ISSUER_DID},
                "issuanceDate": now.isoformat(),
                "expirationDate": (now + _VALIDITY).isoformat(),
                "credentialStatus": [{"type": "BitstringStatusListEntry", "statusPurpose": "revocation"}],
                "credentialSubject": [{"id": did}],
            }
            self._credentials[resource_id] = {
                "id": resource_id,
                "participantContextId": ISSUER_ID,
                "holderId": did,
                "format": one["format"],
                "credential": credential,
                "status": "issued",
            }
            issued.append({"format": one["format"], "credential": credential})
        for process in self._processes.values():
            if process["holderPid"] == holder_pid and process["state"] == "APPROVED":
                process["state"] = "DELIVERED"
        return issued

    def _admit(self, request: Request, issuer: str) -> None:
        self.authorize(request, "admin")
        if not self.knows(issuer):
            raise not_found("ParticipantContext", issuer)

    def _create_holder(self, request: Request, issuer: str) -> Answer:
        self._admit(request, issuer)
        holder = _holder(document_of(request))
        if holder["holderId"] in self._holders:
            raise conflict(f"Holder with ID {holder['holderId']} already exists")
        self._holders[holder["holderId"]] = holder
        location = f"{self.prefix}/v1beta/participants/{issuer}/holders/{holder['holderId']}"
        return Answer(201, headers={"Location": location})

    def _update_holder(self, request: Request, issuer: str) -> Answer:
        self._admit(request, issuer)
        holder = _holder(document_of(request))
        if holder["holderId"] not in self._holders:
            raise not_found("Holder", holder["holderId"])
        self._holders[holder["holderId"]] = holder
        return Answer(200)

    def _query_holders(self, request: Request, issuer: str) -> Answer:
        self._admit(request, issuer)
        return Answer(200, queried(self._holders.values(), request, lambda holder, path: holder.get(path)))

    def _read_holder(self, request: Request, issuer: str, holder_id: str) -> Answer:
        self._admit(request, issuer)
        if holder_id not in self._holders:
            raise not_found("Holder", holder_id)
        return Answer(200, self._holders[holder_id])

    def _delete_holder(self, request: Request, issuer: str, holder_id: str) -> Answer:
        self._admit(request, issuer)
        if holder_id not in self._holders:
            raise not_found("Holder", holder_id)
        del self._holders[holder_id]
        return Answer(204)

    def _query_credentials(self, request: Request, issuer: str) -> Answer:
        self._admit(request, issuer)
        found = queried(self._credentials.values(), request, _credential_field)
        shown = ("id", "participantContextId", "format", "credential")
        return Answer(200, [{name: one[name] for name in shown} for one in found])

    def _revoke(self, request: Request, issuer: str, credential_id: str) -> Answer:
        self._admit(request, issuer)
        credential = self._existing_credential(credential_id)
        if not credential["credential"]["credentialStatus"]:
            raise error(400, "InvalidRequest", "the credential has no status entry for revocation")
        credential["status"] = "revoked"
        return Answer(204)

    def _status(self, request: Request, issuer: str, credential_id: str) -> Answer:
        self._admit(request, issuer)
        credential = self._existing_credential(credential_id)
        return Answer(200, {"credentialId": credential_id, "status": credential["status"], "reason": None})

    def _not_supported(self, request: Request, issuer: str, credential_id: str) -> Answer:
        self._admit(request, issuer)
        return Answer(501)

    def _existing_credential(self, credential_id: str) -> dict[str, Any]:
        if credential_id not in self._credentials:
            raise not_found("VerifiableCredentialResource", credential_id)
        return self._credentials[credential_id]

    def _query_processes(self, request: Request, issuer: str) -> Answer:
        self._admit(request, issuer)
        return Answer(200, queried(self._processes.values(), request, lambda process, path: process.get(path)))

    def _read_process(self, request: Request, issuer: str, process_id: str) -> Answer:
        self._admit(request, issuer)
        if process_id not in self._processes:
            raise not_found("IssuanceProcess", process_id)
        return Answer(200, self._processes[process_id])


def _holder(document: dict[str, Any]) -> dict[str, Any]:
    properties = document.get("properties", {})
    if not isinstance(properties, dict):
        raise invalid("properties", "must be an object")
    return {
        "holderId": text_of(document, "holderId"),
        "did": text_of(document, "did"),
        # Written as name, read as holderName.
        "holderName": text_of(document, "name", optional=True) or None,
        "anonymous": False,
        "properties": properties,
        "participantContextId": ISSUER_ID,
        "lastModifiedAt": int(datetime.now(UTC).timestamp() * 1000),
    }


def _credential_field(credential: Mapping[str, Any], path: str) -> Any:
    match path:
        case "verifiableCredential.credential.type":
            return credential["credential"]["type"]
        case "verifiableCredential.credential.id":
            return credential["credential"]["id"]
        case _:
            return credential.get(path)
