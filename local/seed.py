"""The demonstration fabric: definitions, a cell and a dataspace profile, as documents for the public API.

The orchestrations are the platform chart's, without Siglet; those that dispose run in an order in which nothing loses what
it still needs: credentials are revoked before their holder goes, and jwtlet's mappings, without which nobody gets a token,
go last.

Source: dataspace service contracts, sections 13.3 to 13.5.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cfm_core.contracts.orchestration import DEPLOY, DISPOSE
from local.standins import ISSUER_DID

BASE = "/api/v1alpha1"

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


def cell(now: datetime | None = None) -> dict[str, Any]:
    """A cell that takes deployments as of ``now``."""
    since = (now or datetime.now(UTC)).isoformat().replace("+00:00", "Z")
    return {"state": "active", "stateTimestamp": since, "properties": {"name": "demonstration"}}


@dataclass(frozen=True, slots=True)
class Seeded:
    """What a participant's deployment refers to."""

    cell_id: str
    dataspace_profile_id: str


def apply(call: Callable[[str, str, Any], Any]) -> Seeded:
    """Apply the fabric through the public API; what is there already is used, so it can be repeated.

    Args:
        call: sends a method, a path and a document or None, and gives the answer's JSON, None without a body; raises
            for any status of 400 and above.
    """
    for definition in ACTIVITY_DEFINITIONS:
        call("POST", f"{BASE}/activity-definitions", definition)
    call("POST", f"{BASE}/orchestration-definitions", ORCHESTRATION_TEMPLATE)
    cell_entity = _demonstration(call("GET", f"{BASE}/cells", None)) or call("POST", f"{BASE}/cells", cell())
    profile = _demonstration(call("GET", f"{BASE}/dataspace-profiles", None))
    if profile is None:
        profile = call("POST", f"{BASE}/dataspace-profiles", DATASPACE_PROFILE)
    cell_id, profile_id = str(cell_entity["id"]), str(profile["id"])
    if not any(deployment.get("cellId") == cell_id for deployment in profile.get("deployments") or ()):
        call(
            "POST",
            f"{BASE}/dataspace-profiles/{profile_id}/deployments",
            {"profileId": profile_id, "cellId": cell_id},
        )
    return Seeded(cell_id, profile_id)


def _demonstration(entities: Any) -> Any:
    """The entity that an earlier run has made; None where there is none."""
    for entity in entities or ():
        if (entity.get("properties") or {}).get("name") == "demonstration":
            return entity
    return None
