"""The demonstration fabric: definitions, a cell and a dataspace profile, as documents for the public API.

The orchestrations are the platform chart's, without Siglet; those that dispose run in an order in which nothing loses what
it still needs: credentials are revoked before their holder goes, and jwtlet's mappings, without which nobody gets a token,
go last.

Source: dataspace service contracts, sections 13.3 to 13.5.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cfm_core.contracts.orchestration import DEPLOY, DISPOSE
from local.standins import ISSUER_DID

_ACTIVITY_TYPES = {
    "jwtlet-activity": "Gives the participant a context id, and services tokens for it",
    "edcv-activity": "Sets up the participant at the control plane",
    "identityhub-activity": "Sets up the participant at the IdentityHub",
    "registration-activity": "Registers the participant with the issuer",
    "onboarding-activity": "Gets the participant its credentials",
}

ACTIVITY_DEFINITIONS: list[dict[str, Any]] = [
    {"type": kind, "description": description, "inputSchema": {}, "outputSchema": {}}
    for kind, description in _ACTIVITY_TYPES.items()
]


def _activity(activity_id: str, kind: str, *depends_on: str) -> dict[str, Any]:
    return {"id": activity_id, "type": kind, "dependsOn": list(depends_on)}


ORCHESTRATION_TEMPLATE: dict[str, Any] = {
    "description": "Deploys and disposes of a participant's virtual participant agents",
    "schema": {},
    "activities": {
        DEPLOY: [
            _activity("jwtlet-tokenexchange-agent", "jwtlet-activity"),
            _activity("registration-agent", "registration-activity", "jwtlet-tokenexchange-agent"),
            _activity("connector-provisioner", "edcv-activity", "jwtlet-tokenexchange-agent"),
            _activity("identityhub-provisioner", "identityhub-activity", "jwtlet-tokenexchange-agent"),
            _activity(
                "onboarding-agent",
                "onboarding-activity",
                "jwtlet-tokenexchange-agent",
                "connector-provisioner",
                "identityhub-provisioner",
                "registration-agent",
            ),
        ],
        DISPOSE: [
            _activity("offboarding-agent", "onboarding-activity"),
            _activity("registration-rollback", "registration-activity", "offboarding-agent"),
            _activity("connector-rollback", "edcv-activity"),
            _activity("identityhub-rollback", "identityhub-activity", "registration-rollback", "connector-rollback"),
            _activity(
                "jwtlet-rollback",
                "jwtlet-activity",
                "offboarding-agent",
                "registration-rollback",
                "connector-rollback",
                "identityhub-rollback",
            ),
        ],
    },
}

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


CELL: dict[str, Any] = {
    "state": "active",
    "stateTimestamp": "2026-01-01T00:00:00Z",
    "properties": {"name": "demonstration"},
}


def traces(state: Mapping[str, Any], context: str, did: str) -> dict[str, list[str]]:
    """What each stand-in holds about a participant; takes the answer of the stand-ins' /_control/state.

    An empty configuration is no trace, because the control plane cannot delete it; nor is a revoked credential.

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
