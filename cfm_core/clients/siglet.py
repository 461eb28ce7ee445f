"""Siglet's management API: which transfers its data plane serves for a participant, and with which key it signs tokens.

Source: dataspace service contracts, section 8.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cfm_core.clients.edc import EdcApi, required
from cfm_core.clients.http import Answer, segment
from cfm_core.errors import FatalError, RecoverableError

READ = "siglet-mgmt-api:read"
WRITE = "siglet-mgmt-api:write"
"""Does not imply reading."""

_TRANSFER_TYPES = "/transfer-type-mappings"
_KEYS = "/key-mappings"


@dataclass(frozen=True, slots=True)
class KeyMapping:
    """The key that signs a participant's tokens."""

    key_name: str
    """In the vault's transit engine."""
    key_id: str
    """What the tokens' headers name it."""


class Siglet:
    """Mappings of participant contexts; each can be written again and again."""

    def __init__(self, api: EdcApi) -> None:
        self._api = api
        self._found = False

    def put_transfer_types(self, context: str, mappings: Mapping[str, Mapping[str, Any]]) -> None:
        """Set the transfer types of a participant, by name; what was there is replaced as a whole. Source: section 8.1."""
        wrapped = {"participantContextId": context, "mappings": dict(mappings)}
        self._put(_TRANSFER_TYPES, context, create=wrapped, replace=dict(mappings))

    def find_transfer_types(self, context: str) -> dict[str, Any] | None:
        """The transfer types of a participant, by name; None where none were set. Source: section 8.1."""
        answer = self._send("GET", _TRANSFER_TYPES, context)
        if answer.status == 404:
            return None
        mappings = answer.object().get("mappings")
        if not isinstance(mappings, dict):
            raise FatalError(f"{answer.call} answered without 'mappings'")
        return mappings

    def delete_transfer_types(self, context: str) -> None:
        """Forget the transfer types of a participant; no matter if there are none. Source: section 8.1."""
        self._send("DELETE", _TRANSFER_TYPES, context)

    def put_key(self, context: str, key: KeyMapping) -> None:
        """Let a participant's tokens be signed with this key. Source: section 8.2."""
        body = {"keyName": key.key_name, "kid": key.key_id}
        self._put(_KEYS, context, create={"participantContextId": context, **body}, replace=body)

    def find_key(self, context: str) -> KeyMapping | None:
        """The key that signs a participant's tokens; None where there is none. Source: section 8.2."""
        answer = self._send("GET", _KEYS, context)
        if answer.status == 404:
            return None
        document = answer.object()
        return KeyMapping(required(document, "keyName", answer), required(document, "kid", answer))

    def delete_key(self, context: str) -> None:
        """Let a participant's tokens be signed no more; no matter if they are not. Source: section 8.2."""
        self._send("DELETE", _KEYS, context)

    def _put(self, kind: str, context: str, *, create: dict[str, Any], replace: dict[str, Any]) -> None:
        # Replaced, else created; and once more, should somebody else have created it between the two.
        for _ in range(2):
            if self._send("PUT", kind, context, replace).status != 404:
                return
            answer = self._api.send("POST", kind, context=context, scope=WRITE, json=create, expect=(409,))
            if answer.status != 409:
                return
        raise RecoverableError(f"{answer.call}: what there is for {context} comes and goes")

    def _send(self, method: str, kind: str, context: str, json: Any = None) -> Answer:
        """Send a request about one mapping, which may be absent."""
        scope = READ if method == "GET" else WRITE
        path = f"{kind}/{segment(context)}"
        answer = self._api.send(method, path, context=context, scope=scope, json=json, expect=(404,))
        if answer.status == 404 and not self._found:
            self._check_address(context)
        self._found = True
        return answer

    def _check_address(self, context: str) -> None:
        """Make sure that 404 speaks of a mapping: behind a wrong address nothing is ever found.

        Raises:
            FatalError: this path, at which any Siglet can only be asked with another method, does not exist.
        """
        probe = self._api.send("GET", _TRANSFER_TYPES, context=context, scope=READ, expect=(404, 405))
        if probe.status == 404:
            raise FatalError(f"{probe.call} answered 404: no Siglet is there; check CFM_SIGLET_MANAGEMENT_URL")
