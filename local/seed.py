"""The demonstration fabric: definitions, a cell and a dataspace profile, as documents for the public API.

The definitions are those that the agents come with, the standard orchestration.

Source: dataspace service contracts, sections 13.3 to 13.5.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from functions import agents
from local.standins import ISSUER_DID

STANDARD: list[dict[str, Any]] = json.loads(
    Path(agents.__file__).with_name("standard.json").read_text(encoding="utf-8")
)
"""The standard orchestration: a definition for each of its activity types, and the template."""
ACTIVITY_DEFINITIONS = [one for one in STANDARD if "type" in one]
(ORCHESTRATION_TEMPLATE,) = (one for one in STANDARD if "activities" in one)

DATASPACE_PROFILE: dict[str, Any] = {
    "dataspaceSpec": {
        "protocolStack": ["dsp-2025-1", "dcp-2025-1"],
        "credentialSpecs": [
            {
                "id": "membership-credential-def",
                "type": "MembershipCredential",
                "issuer": ISSUER_DID,
                "format": "VC1_0_JWT",
                "role": "",
            },
            {
                "id": "manufacturer-credential-def",
                "type": "ManufacturerCredential",
                "issuer": ISSUER_DID,
                "format": "VC1_0_JWT",
                "role": "manufacturer",
            },
        ],
    },
    "properties": {"name": "demonstration"},
}

VPA_PROPERTIES: dict[str, Any] = {
    "cfm.issuer": {"membership": {"since": "2026-01-01T00:00:00Z"}},
    "cfm.dataplane": {
        "transferTypeMappings": {
            "HttpData-PULL": {
                "transferType": "HttpData-PULL",
                "endpointType": "HTTP",
                "endpoint": "https://data.example/offers",
            }
        }
    },
}
"""Of a participant who has something to show for each agent."""

CELL: dict[str, Any] = {
    "state": "active",
    "stateTimestamp": "2026-01-01T00:00:00Z",
    "properties": {"name": "demonstration"},
}


def traces(state: Mapping[str, Any], context: str, did: str) -> dict[str, list[str]]:
    """What each stand-in holds about a participant; takes the answer of the stand-ins' /_control/state.

    What counts as gone is no trace: an empty configuration, and a revoked credential.

    Args:
        context: the participant context's id.
    """
    control_plane, hub, issuer = state["controlplane"], state["identityhub"], state["issuerservice"]
    config = control_plane["configs"].get(context, {"entries": {}, "privateEntries": {}})
    requests = [one for one in hub["credentialRequests"] if one["participantContextId"] == context]
    return {
        "jwtlet": [
            f"a mapping of {one['clientIdentifier'].rpartition(':')[2]}"
            for one in state["jwtlet"]["mappings"]
            if one["participantContext"] == context
        ],
        "controlplane": [
            *(["a participant context"] if context in control_plane["participants"] else []),
            *(["its configuration"] if config["entries"] or config["privateEntries"] else []),
            *("a data plane" for one in control_plane["dataplanes"] if one["participantContextId"] == context),
        ],
        "identityhub": [
            *(
                "a participant"
                for one in hub["participants"].values()
                if one["participantContextId"] == context or one["did"] == did
            ),
            *(f"a credential request that is {one['status']}" for one in requests),
            *(
                f"a {one['verifiableCredential']['credential']['type'][-1]}"
                for one in hub["credentials"]
                if one["holderId"] == did
            ),
        ],
        "issuerservice": [
            *("a holder" for one in issuer["holders"] if one["did"] == did),
            *(
                f"a {one['type'][-1]} that is {one['status']}"
                for one in issuer["credentials"]
                if one["holderId"] == did and one["status"] != "revoked"
            ),
        ],
        "siglet": [
            *(["its transfer types"] if context in state["siglet"]["transferTypes"] else []),
            *(["its signing key"] if context in state["siglet"]["keys"] else []),
        ],
    }


def left_behind(state: Mapping[str, Any], context: str, did: str) -> list[str]:
    """What the stand-ins hold of a participant after its disposal, of whatever kind, but what no call of a service deletes.

    Takes the answer of the stand-ins' /_control/state.

    Args:
        context: the participant context's id; empty: it has never had one.
    """
    found = []
    for service, held in state.items():
        for kind, entries in (held if isinstance(held, dict) else {"entries": held}).items():
            for entry in [{name: one} for name, one in entries.items()] if isinstance(entries, dict) else entries:
                text = json.dumps(entry)
                is_of_participant = f'"{did}"' in text or f'"{did}#' in text or (context and context in text)
                if is_of_participant and not _stays(service, kind, entry):
                    found.append(f"{service} {kind}: {text}")
    return found


def _stays(service: str, kind: str, entry: dict[str, Any]) -> bool:
    match service, kind:
        case "controlplane", "configs":
            return all(config == {"entries": {}, "privateEntries": {}} for config in entry.values())
        case "issuerservice", "credentials":
            return bool(entry["status"] == "revoked")
        case "issuerservice", "issuanceProcesses":
            return True
    return False
