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
from cfm_core.tenancy.states import DeploymentState
from cfm_core.tenancy.texts import GivenText


def _without_vpa_state(properties: dict[str, Any]) -> dict[str, Any]:
    if VPA_STATE in properties:
        raise ValueError(f"must not contain {VPA_STATE}: it is set by the deployment")
    return properties


class VpaDocument(Document):
    """A virtual participant agent as it is shown."""

    id: str
    version: int
    state: DeploymentState
    state_timestamp: str = Field(json_schema_extra={"format": "date-time"})
    type: str
    cell_id: str
    properties: dict[str, Any] = Field(default_factory=dict)


class ParticipantProfileDocument(Document):
    """A participant profile as it is shown; ``properties`` and ``error_detail`` are left out where there are none."""

    id: str
    version: int
    identifier: str
    tenant_id: str
    participant_roles: dict[str, list[str]]
    vpas: list[VpaDocument]
    properties: dict[str, Any] = Field(default_factory=dict)
    error: bool
    error_detail: str = ""
    dataspace_profile_ids: list[str]


class DeployedParticipantProfileDocument(ParticipantProfileDocument):
    """A participant profile with the id of the orchestration that brings its services in line."""

    orchestration_id: str


class NewVpa(Document):
    """A VPA to be deployed; an empty ``cell_id`` leaves the cell to us."""

    type: GivenText
    cell_id: str = ""
    properties: dict[str, Any] = Field(default_factory=dict)


class NewParticipantProfileDeployment(Document):
    """An empty ``cell_id`` leaves the cell to us; no ``dataspace_profile_ids`` means all of the system.

    ``vpas`` has the VPAs of the types that it names; of the other types there is one each, as the dataspace profiles need it.
    """

    identifier: GivenText
    cell_id: str = ""
    dataspace_profile_ids: list[str] = Field(default_factory=list)
    participant_roles: dict[str, list[str] | None] = Field(default_factory=dict)
    vpa_properties: dict[str, dict[str, Any] | None] = Field(default_factory=dict)
    vpas: list[NewVpa] = Field(default_factory=list)
    properties: Annotated[dict[str, Any], AfterValidator(_without_vpa_state)] = Field(default_factory=dict)


class VpaDiff(Document):
    """With an ``id`` a VPA that is there already, and stays as it is; without one a VPA that is added."""

    id: str = ""
    type: GivenText
    cell_id: str = ""
    properties: dict[str, Any] = Field(default_factory=dict)


class ParticipantProfileDiff(Document):
    """What is to be otherwise; what is absent stays. A profile as it is shown is a change of nothing.

    ``participant_roles`` and ``dataspace_profile_ids`` are the whole new values, ``vpa_properties`` those of the types that
    it names; no dataspace profile at all means all of the system. ``removed`` wins over ``properties``.
    """

    participant_roles: dict[str, list[str] | None] | None = None
    dataspace_profile_ids: list[str] | None = None
    vpa_properties: dict[str, dict[str, Any] | None] = Field(default_factory=dict)
    vpas: list[VpaDiff] = Field(default_factory=list)
    properties: dict[str, Any] = Field(default_factory=dict)
    removed: list[str] = Field(default_factory=list)


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
    document["dataspaceProfileIds"] = document.pop("dataspaceProfileIds")
    for name in ("vpas", "properties", "errorDetail"):
        if not document[name]:
            del document[name]
    for vpa in document.get("vpas", ()):
        del vpa["externalCellId"]
    return document
