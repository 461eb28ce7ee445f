"""Participant profiles as API version v1alpha1 reads and shows them.

Source: CFM wire contract, section 5.4.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field

from cfm_core.contracts.documents import Document
from cfm_core.contracts.orchestration import VPA_STATE
from cfm_core.tenancy.instants import shown_instant
from cfm_core.tenancy.participant_profiles.model import ParticipantProfile, VirtualParticipantAgent
from cfm_core.tenancy.texts import ShortText


def _given(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be empty")
    return text


def _without_vpa_state(properties: dict[str, Any]) -> dict[str, Any]:
    if VPA_STATE in properties:
        raise ValueError(f"must not contain {VPA_STATE}: it is set by the deployment")
    return properties


class NewParticipantProfileDeployment(Document):
    """An empty ``cell_id`` leaves the cell to us; no ``dataspace_profile_ids`` means all of the system."""

    identifier: Annotated[ShortText, AfterValidator(_given)]
    cell_id: str = ""
    dataspace_profile_ids: list[str] = Field(default_factory=list)
    participant_roles: dict[str, list[str] | None] = Field(default_factory=dict)
    vpa_properties: dict[str, dict[str, Any] | None] = Field(default_factory=dict)
    properties: Annotated[dict[str, Any], AfterValidator(_without_vpa_state)] = Field(default_factory=dict)


def stored_vpa(vpa: VirtualParticipantAgent) -> dict[str, Any]:
    """``vpa`` as it is kept and queried."""
    document: dict[str, Any] = {
        "id": vpa.id,
        "version": vpa.version,
        "state": vpa.state,
        "stateTimestamp": shown_instant(vpa.state_at),
        "type": vpa.type,
        "cellId": vpa.cell_id,
        "externalCellId": vpa.external_cell_id,
    }
    return document | ({"properties": dict(vpa.properties)} if vpa.properties else {})


def stored(profile: ParticipantProfile) -> dict[str, Any]:
    """``profile`` with all that a predicate may name."""
    return {
        "id": profile.id,
        "version": profile.version,
        "identifier": profile.identifier,
        "tenantId": profile.tenant_id,
        "dataspaceProfileIds": list(profile.dataspace_profile_ids),
        "participantRoles": {key: list(roles) for key, roles in profile.participant_roles.items()},
        "vpas": [stored_vpa(vpa) for vpa in profile.vpas],
        "properties": dict(profile.properties),
        "error": profile.error,
        "errorDetail": profile.error_detail,
    }


def shown(profile: ParticipantProfile) -> dict[str, Any]:
    """``profile`` as the API shows it; the database's ``participant_profile_json`` gives the same."""
    document = stored(profile)
    del document["dataspaceProfileIds"]
    for name in ("vpas", "properties", "errorDetail"):
        if not document[name]:
            del document[name]
    for vpa in document.get("vpas", ()):
        del vpa["externalCellId"]
    return document
