"""The IssuerService's admin API: holders, and the credentials issued to them.

All paths carry the issuer's own participant context; the token is the tenant's.

Source: dataspace service contracts, section 7.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cfm_core.clients.edc import PAGE, EdcApi, filter_by
from cfm_core.clients.http import Answer, segment
from cfm_core.errors import FatalError, RecoverableError

SCOPE = "issuer-admin-api:admin"


@dataclass(frozen=True, slots=True)
class Holder:
    """Somebody whom credentials may be issued to. ``properties`` feed what the credentials say; None leaves them out."""

    id: str
    did: str
    name: str
    properties: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class IssuedCredential:
    """A credential in the issuer's books; ``id`` is the book's, not the credential's own."""

    id: str
    types: tuple[str, ...]
    credential_id: str = ""
    """The credential's own."""


class IssuerService:
    """Holders and credentials of one issuer.

    Every method takes ``context``: the participant context whose token is used.
    """

    def __init__(self, api: EdcApi, issuer_id: str) -> None:
        self._api = api
        self._base = f"/v1beta/participants/{segment(issuer_id)}"

    def register_holder(self, context: str, holder: Holder) -> None:
        """Make sure that there is a holder with this DID, name and these properties; one with another id is reused.

        Raises:
            FatalError: the id belongs to a holder with another DID.

        Source: section 7.1.
        """
        for _ in range(2):
            found = self.find_holders(context, did=holder.did)
            if found:
                if self._update_holder(context, found[0], holder):
                    return
                continue
            body: dict[str, Any] = {"holderId": holder.id, "did": holder.did, "name": holder.name}
            if holder.properties is not None:
                body["properties"] = dict(holder.properties)
            answer = self._send("POST", "/holders", context, json=body, expect=(409,))
            if answer.status != 409:
                return
            others = [one.did for one in self._query_holders(context, "holderId", holder.id)]
            if others and holder.did not in others:
                raise FatalError(
                    f"conflict: the issuer has a holder {holder.id} with the DID {others[0]}, not {holder.did}"
                )
        raise RecoverableError(f"the holder {holder.id} comes and goes at the issuer")

    def _update_holder(self, context: str, found: Holder, wanted: Holder) -> bool:
        """Bring a holder up to date; False where it is gone meanwhile."""
        if found.name == wanted.name and (found.properties or {}) == (wanted.properties or {}):
            return True
        body = {
            "holderId": found.id,
            "did": found.did,
            "name": wanted.name,
            "properties": dict(wanted.properties or {}),
        }
        return self._send("PUT", "/holders", context, json=body, expect=(404,)).status != 404

    def find_holders(self, context: str, *, did: str) -> list[Holder]:
        """The holders with this DID. Source: section 7.1."""
        return self._query_holders(context, "did", did)

    def _query_holders(self, context: str, field: str, value: str) -> list[Holder]:
        return [_holder(one) for one in self._pages(context, "/holders/query", field, value)]

    def holders(self, context: str, offset: int, limit: int = PAGE) -> list[Holder]:
        """A page of all holders. Source: section 7.1."""
        query = {"offset": offset, "limit": limit}
        return [_holder(one) for one in self._send("POST", "/holders/query", context, json=query).objects()]

    def delete_holder(self, context: str, holder_id: str) -> bool:
        """Delete a holder; no matter if there is none.

        Returns:
            False for an id that the server cannot be told in a path: such a holder stays.

        Source: section 7.1.
        """
        if "%" in holder_id:
            return False
        self._send("DELETE", f"/holders/{segment(holder_id)}", context, expect=(404,))
        return True

    def issued_credentials(self, context: str, *, holder_did: str) -> list[IssuedCredential]:
        """All credentials that were issued to a DID. Source: section 7.2."""
        found = []
        for one in self._pages(context, "/credentials/query", "holderId", holder_did):
            credential = one.get("credential")
            types = credential.get("type") if isinstance(credential, dict) else None
            own_id = str(credential.get("id") or "") if isinstance(credential, dict) else ""
            found.append(
                IssuedCredential(str(one.get("id", "")), tuple(types) if isinstance(types, list) else (), own_id)
            )
        return found

    def revoke(self, context: str, credential_id: str) -> bool:
        """Revoke an issued credential; once more changes nothing, and one that is gone needs none.

        Returns:
            False where the credential cannot be revoked, because it was issued without a place for that.

        Source: section 7.2.
        """
        answer = self._send("POST", f"/credentials/{segment(credential_id)}/revoke", context, expect=(400, 404))
        return answer.status != 400

    def status_of(self, context: str, *, holder_did: str, credential_id: str) -> str:
        """What the issuer says of a credential that it issued to a DID, in lower case; empty where it is not in its books.

        Args:
            credential_id: the credential's own id.

        Source: section 7.2.
        """
        for one in self.issued_credentials(context, holder_did=holder_did):
            if one.credential_id == credential_id:
                answer = self._send("GET", f"/credentials/{segment(one.id)}/status", context, expect=(404,))
                return "" if answer.status == 404 else str(answer.object().get("status") or "").lower()
        return ""

    def failure_of(self, context: str, holder_pid: str) -> str:
        """What the issuer says about a request that failed; empty where it says nothing. Source: section 7.4."""
        for process in self._pages(context, "/issuanceprocesses/query", "holderPid", holder_pid):
            detail = process.get("errorDetail") or process.get("state")
            if detail:
                return str(detail)
        return ""

    def _pages(self, context: str, path: str, field: str, value: str) -> Iterator[dict[str, Any]]:
        offset = 0
        while True:
            query = {"offset": offset, "limit": PAGE, "filterExpression": [filter_by(field, value)]}
            page = self._send("POST", path, context, json=query).objects()
            yield from page
            if len(page) < PAGE:
                return
            offset += PAGE

    def _send(self, method: str, path: str, context: str, *, json: Any = None, expect: tuple[int, ...] = ()) -> Answer:
        return self._api.send(method, self._base + path, context=context, scope=SCOPE, json=json, expect=expect)


def _holder(document: Mapping[str, Any]) -> Holder:
    return Holder(
        str(document.get("holderId", "")),
        str(document.get("did", "")),
        str(document.get("holderName") or document.get("name") or ""),
        document.get("properties") or {},
    )
