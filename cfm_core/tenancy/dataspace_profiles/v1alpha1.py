"""Dataspace profiles as API version v1alpha1 reads and shows them.

Source: CFM wire contract, section 5.3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from pydantic import Field

from cfm_core.contracts.documents import Document
from cfm_core.tenancy.cells.model import CellId
from cfm_core.tenancy.dataspace_profiles.model import CredentialSpec, DataspaceDeployment, DataspaceProfile
from cfm_core.tenancy.instants import shown_instant


class CredentialSpecDocument(Document):
    """A credential as it is shown; without a ``role`` it is for everybody."""

    id: str
    type: str
    issuer: str
    format: str
    role: str = ""


class DataspaceSpecDocument(Document):
    """What a dataspace asks for, as it is shown; what is empty is left out."""

    protocol_stack: list[str] = Field(default_factory=list)
    credential_specs: list[CredentialSpecDocument] = Field(default_factory=list)


class DataspaceDeploymentDocument(Document):
    """A cell that serves a dataspace, as it is shown."""

    id: str
    version: int
    state: Literal["active"]
    state_timestamp: str = Field(json_schema_extra={"format": "date-time"})
    cell_id: str
    external_cell_id: str


class DataspaceProfileDocument(Document):
    """A dataspace profile as it is shown; what is empty is left out, but not the ``dataspace_spec``."""

    id: str
    version: int
    dataspace_spec: DataspaceSpecDocument
    artifacts: list[str] = Field(default_factory=list)
    deployments: list[DataspaceDeploymentDocument] = Field(default_factory=list)
    properties: dict[str, Any] = Field(default_factory=dict)


class NewCredentialSpec(Document):
    id: str = ""
    type: str = ""
    issuer: str = ""
    format: str = ""
    role: str = ""


class NewDataspaceSpec(Document):
    protocol_stack: list[str] = Field(default_factory=list)
    credential_specs: list[NewCredentialSpec] = Field(default_factory=list)


class NewDataspaceProfile(Document):
    dataspace_spec: NewDataspaceSpec = Field(default_factory=NewDataspaceSpec)
    artifacts: list[str] = Field(default_factory=list)
    properties: dict[str, Any] = Field(default_factory=dict)


class NewDataspaceProfileDeployment(Document):
    """``profile_id`` repeats the path, or is absent."""

    profile_id: str = ""
    cell_id: str = ""


def shown_spec(profile: DataspaceProfile) -> dict[str, Any]:
    document: dict[str, Any] = {}
    if profile.protocol_stack:
        document["protocolStack"] = list(profile.protocol_stack)
    if profile.credential_specs:
        document["credentialSpecs"] = [_shown_credential(spec) for spec in profile.credential_specs]
    return document


def _shown_credential(spec: CredentialSpec) -> dict[str, str]:
    document = {"id": spec.id, "type": spec.type, "issuer": spec.issuer, "format": spec.format}
    return document | ({"role": spec.role} if spec.role else {})


def shown(profile: DataspaceProfile, external_id_of: Callable[[CellId], str]) -> dict[str, Any]:
    """``profile`` as the API shows it; the database's ``dataspace_profile_json`` gives the same."""
    document: dict[str, Any] = {"id": profile.id, "version": profile.version, "dataspaceSpec": shown_spec(profile)}
    if profile.artifacts:
        document["artifacts"] = list(profile.artifacts)
    if profile.deployments:
        document["deployments"] = [shown_deployment(one, external_id_of) for one in profile.deployments]
    if profile.properties:
        document["properties"] = dict(profile.properties)
    return document


def shown_deployment(deployment: DataspaceDeployment, external_id_of: Callable[[CellId], str]) -> dict[str, Any]:
    """``deployment`` as the API shows it; the database's ``dataspace_deployment_json`` gives the same."""
    return {
        "id": deployment.id,
        "version": 0,
        "state": "active",
        "stateTimestamp": shown_instant(deployment.state_at),
        "cellId": deployment.cell_id,
        "externalCellId": external_id_of(deployment.cell_id),
    }
