"""The stand-in control plane.

Source: dataspace service contracts, sections 5.1 to 5.4.
"""

from __future__ import annotations

import time
from typing import Any

from local.standins.edc import EdcService, conflict, document_of, error, invalid, not_found, page_of, text_of
from local.standins.http import Answer, Request
from local.standins.tokens import TokenSigner

_CONTEXT = "https://w3id.org/edc/connector/management/v2"
_CREATED = 100


class ControlPlane(EdcService):
    """Participant contexts, their configuration and data planes; neither of these goes with the context."""

    name = "controlplane"
    prefix = "/controlplane/api/mgmt"
    scope_prefix = "management-api"

    def __init__(self, signer: TokenSigner) -> None:
        super().__init__(signer)
        self._participants: dict[str, dict[str, Any]] = {}
        self._configs: dict[str, dict[str, dict[str, str]]] = {}
        self._data_planes: dict[tuple[str, str], dict[str, Any]] = {}
        base = "/v5beta/participants"
        self.route("POST", base, self._create)
        self.route("GET", base, self._list)
        self.route("GET", base + "/{context}", self._read)
        self.route("PUT", base + "/{context}", self._update)
        self.route("DELETE", base + "/{context}", self._delete)
        self.route("PATCH", base + "/{context}/config", self._merge_config)
        self.route("PUT", base + "/{context}/config", self._replace_config)
        self.route("GET", base + "/{context}/config", self._read_config)
        self.route("PUT", base + "/{context}/dataplanes", self._put_data_plane)
        self.route("DELETE", base + "/{context}/dataplanes/{data_plane}", self._delete_data_plane)

    def knows(self, context: str) -> bool:
        return context in self._participants

    def state(self) -> Any:
        return {
            "participants": self._participants,
            "configs": self._configs,
            "dataplanes": [
                {"participantContextId": context, **registration}
                for (context, _), registration in self._data_planes.items()
            ],
        }

    def _create(self, request: Request) -> Answer:
        self.authorize(request, "admin")
        participant = _participant(document_of(request))
        context = participant["@id"]
        if context in self._participants:
            raise conflict(f"Participant context {context} already exists")
        self._participants[context] = participant
        return Answer(200, {"@type": "IdResponse", "@id": context, "createdAt": int(time.time() * 1000)})

    def _list(self, request: Request) -> Answer:
        self.authorize(request, "admin")
        return Answer(200, page_of(self._participants.values(), request))

    def _read(self, request: Request, context: str) -> Answer:
        self.authorize(request, "participants:read", owner=context)
        return Answer(200, self._existing(context))

    def _update(self, request: Request, context: str) -> Answer:
        self.authorize(request, "admin")
        participant = _participant(document_of(request))
        state = self._existing(participant["@id"])["state"]
        self._participants[participant["@id"]] = participant | {"state": state}
        return Answer(204)

    def _delete(self, request: Request, context: str) -> Answer:
        self.authorize(request, "admin")
        self._existing(context)
        del self._participants[context]
        return Answer(204)

    def _merge_config(self, request: Request, context: str) -> Answer:
        self.authorize(request, "participants:write", owner=context)
        entries, private = _config(document_of(request), nulls=True)
        config = self._configs.setdefault(context, {"entries": {}, "privateEntries": {}})
        for stored, given in ((config["entries"], entries), (config["privateEntries"], private)):
            for key, value in given.items():
                if value is None:
                    stored.pop(key, None)
                else:
                    stored[key] = value
        return Answer(204)

    def _replace_config(self, request: Request, context: str) -> Answer:
        self.authorize(request, "participants:write", owner=context)
        entries, private = _config(document_of(request), nulls=False)
        self._configs[context] = {
            "entries": {key: str(value) for key, value in entries.items()},
            "privateEntries": {key: str(value) for key, value in private.items()},
        }
        return Answer(204)

    def _read_config(self, request: Request, context: str) -> Answer:
        self.authorize(request, "participants:read", owner=context)
        if context not in self._configs:
            raise not_found("ParticipantContextConfiguration", context)
        config = self._configs[context]
        return Answer(
            200,
            {
                "@type": "ParticipantContextConfig",
                "entries": config["entries"],
                "privateEntries": dict.fromkeys(config["privateEntries"], "(encrypted)"),
            },
        )

    def _put_data_plane(self, request: Request, context: str) -> Answer:
        self.authorize(request, "dataplanes:write", owner=context)
        registration = _registration(document_of(request))
        self._existing(context)
        self._data_planes[context, registration["dataplaneId"]] = registration
        return Answer(200)

    def _delete_data_plane(self, request: Request, context: str, data_plane: str) -> Answer:
        self.authorize(request, "dataplanes:write", owner=context)
        # One of somebody else is as good as absent.
        if self._data_planes.pop((context, data_plane), None) is None:
            raise not_found("DataPlaneInstance", data_plane)
        return Answer(200)

    def _existing(self, context: str) -> dict[str, Any]:
        if context not in self._participants:
            raise not_found("ParticipantContext", context)
        return self._participants[context]


def _check_type(document: dict[str, Any], kind: str) -> None:
    given = document.get("@context")
    if _CONTEXT not in (given if isinstance(given, list) else [given]):
        raise invalid("@context", f"must contain {_CONTEXT}")
    if document.get("@type") != kind:
        raise invalid("@type", f"must be {kind}")


def _participant(document: dict[str, Any]) -> dict[str, Any]:
    _check_type(document, "ParticipantContext")
    properties = document.get("properties", {})
    if not isinstance(properties, dict):
        raise invalid("properties", "must be an object")
    return {
        "@id": text_of(document, "@id"),
        "@type": "ParticipantContext",
        "identity": text_of(document, "identity"),
        "properties": properties,
        # Whatever the request says.
        "state": _CREATED,
    }


def _registration(document: dict[str, Any]) -> dict[str, Any]:
    transfer_types, labels = document.get("transferTypes"), document.get("labels", [])
    for field, value in (("transferTypes", transfer_types), ("labels", labels)):
        if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
            raise invalid(field, "must be a list of texts")
    authorization = document.get("authorization")
    if authorization is not None:
        if not isinstance(authorization, dict):
            raise invalid("authorization", "must be an object")
        text_of(authorization, "type")
    return {
        "dataplaneId": text_of(document, "dataplaneId"),
        "endpoint": text_of(document, "endpoint"),
        "transferTypes": transfer_types,
        "labels": labels,
        "authorization": authorization,
    }


def _config(document: dict[str, Any], *, nulls: bool) -> tuple[dict[str, str | None], dict[str, str | None]]:
    _check_type(document, "ParticipantContextConfig")
    if "entries" not in document:
        raise invalid("entries", "mandatory value 'entries' is missing")
    found = []
    for field in ("entries", "privateEntries"):
        entries = document.get(field, {})
        if not isinstance(entries, dict):
            raise invalid(field, "must be an object")
        for key, value in entries.items():
            if not (isinstance(value, str) or (value is None and nulls)):
                raise error(400, "InvalidRequest", f"{field}: the value of {key} must be a string")
        found.append(entries)
    return found[0], found[1]
