"""The control plane's management API: participant contexts, their configuration and their data planes.

Source: dataspace service contracts, section 5.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from cfm_core.clients.edc import EdcApi, required
from cfm_core.clients.http import segment
from cfm_core.errors import FatalError

SCOPE = "management-api:admin"

_CONTEXT = ["https://w3id.org/edc/connector/management/v2"]
_PARTICIPANTS = "/v5beta/participants"


@dataclass(frozen=True, slots=True)
class ParticipantConfig:
    """A participant context's configuration; of ``private_entries`` only the names can be read."""

    entries: Mapping[str, str]
    private_entries: frozenset[str]


class ControlPlane:
    """Participant contexts at the control plane."""

    def __init__(self, api: EdcApi) -> None:
        self._api = api

    def create_participant(self, context: str, did: str) -> None:
        """Create the participant context; one that is there already and has the same identity will do.

        Raises:
            FatalError: it is there with another identity.

        Source: section 5.1.
        """
        body = {
            "@context": _CONTEXT,
            "@type": "ParticipantContext",
            "@id": context,
            "identity": did,
            "properties": {},
            "state": "ACTIVATED",
        }
        answer = self._api.send("POST", _PARTICIPANTS, context=context, scope=SCOPE, json=body, expect=(409,))
        if answer.status == 409:
            found = self.find_identity(context)
            if found != did:
                raise FatalError(
                    f"conflict: participant context {context} exists at the control plane for {found}, not {did}"
                )

    def find_identity(self, context: str) -> str | None:
        """The DID of a participant context; None where there is no such context. Source: section 5.2."""
        answer = self._api.send("GET", self._path(context), context=context, scope=SCOPE, expect=(404,))
        return None if answer.status == 404 else required(answer.object(), "identity", answer)

    def delete_participant(self, context: str) -> None:
        """Delete the participant context; its configuration stays. No matter if there is none. Source: section 5.2."""
        self._api.send("DELETE", self._path(context), context=context, scope=SCOPE, expect=(404,))

    def find_config(self, context: str) -> ParticipantConfig | None:
        """The configuration of a participant context; None where there is none. Source: section 5.3."""
        answer = self._api.send("GET", self._path(context) + "/config", context=context, scope=SCOPE, expect=(404,))
        if answer.status == 404:
            return None
        document = answer.object()
        return ParticipantConfig(dict(document.get("entries") or {}), frozenset(document.get("privateEntries") or {}))

    def merge_config(
        self, context: str, entries: Mapping[str, str | None], private_entries: Mapping[str, str | None]
    ) -> None:
        """Set the given keys, remove those with None, keep the others, which may be somebody else's. Source: section 5.3."""
        body = {
            "@context": _CONTEXT,
            "@type": "ParticipantContextConfig",
            "entries": dict(entries),
            "privateEntries": dict(private_entries),
        }
        self._api.send("PATCH", self._path(context) + "/config", context=context, scope=SCOPE, json=body)

    def put_data_plane(self, context: str, data_plane_id: str, endpoint: str, transfer_types: Collection[str]) -> None:
        """Register a data plane of a participant, or bring its registration up to date.

        Args:
            endpoint: where the data plane is told of data flows.
            transfer_types: which transfers it can be used for.

        Raises:
            FatalError: there is no such participant context.

        Source: section 5.4.
        """
        body = {
            "dataplaneId": data_plane_id,
            "endpoint": endpoint,
            # In a certain order, so that equal registrations look equal.
            "transferTypes": sorted(transfer_types),
            "labels": [],
        }
        self._api.send("PUT", self._path(context) + "/dataplanes", context=context, scope=SCOPE, json=body)

    def delete_data_plane(self, context: str, data_plane_id: str) -> None:
        """Delete a registration: no new data flow begins. No matter if there is none. Source: section 5.4."""
        path = f"{self._path(context)}/dataplanes/{segment(data_plane_id)}"
        self._api.send("DELETE", path, context=context, scope=SCOPE, expect=(404,))

    @staticmethod
    def _path(context: str) -> str:
        return f"{_PARTICIPANTS}/{segment(context)}"
