"""The manifests that the Tenant Manager sends, and the events that carry them.

Source: CFM wire contract, section 8.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cfm_core import trace
from cfm_core.contracts.orchestration import (
    DEPLOY,
    DISPOSE,
    PARTICIPANT_ID,
    TENANT_ID,
    VPA_CREDENTIALS,
    VPA_DATA,
    VPA_STATE,
    OrchestrationManifest,
)
from cfm_core.contracts.reply import EventDict
from cfm_core.eventing.cloudevents import event
from cfm_core.tenancy.dataspace_profiles.model import CredentialSpec
from cfm_core.tenancy.participant_profiles.model import ParticipantProfile, VirtualParticipantAgent

EVENT_TYPE = "cfm.orchestration.manifest"
EVENT_SOURCE = "cfm.tmanager"


def deploy_manifest(
    profile: ParticipantProfile, manifest_id: str, credentials: Sequence[CredentialSpec]
) -> OrchestrationManifest:
    """Asks for the deployment of the profile's VPAs; for a live participant with what its deployment has left.

    By that the Provision Manager knows that a failure must not be compensated: it would end what is in use.
    """
    needed = [
        {"id": spec.id, "type": spec.type, "issuer": spec.issuer, "format": spec.format, "role": spec.role}
        for spec in credentials
    ]
    left = {VPA_STATE: profile.properties.get(VPA_STATE, {})} if profile.live else {}
    return _manifest(profile, manifest_id, DEPLOY, {VPA_CREDENTIALS: needed, **left})


def dispose_manifest(profile: ParticipantProfile, manifest_id: str) -> OrchestrationManifest:
    """Asks for the disposal of the profile's VPAs, with what their deployment has left."""
    return _manifest(profile, manifest_id, DISPOSE, {VPA_STATE: profile.properties.get(VPA_STATE, {})})


def manifest_event(manifest: OrchestrationManifest, belongs_to: trace.Context = trace.NONE) -> EventDict:
    """The event of the first sending; a repetition has an id of its own, as an equal one might be taken for a duplicate."""
    return event(
        type=EVENT_TYPE,
        source=EVENT_SOURCE,
        subject=manifest.correlation_id,
        data=manifest.to_json(),
        id=manifest.id,
        belongs_to=belongs_to,
    )


def _manifest(
    profile: ParticipantProfile, manifest_id: str, orchestration_type: str, payload: dict[str, Any]
) -> OrchestrationManifest:
    return OrchestrationManifest(
        id=manifest_id,
        correlation_id=profile.id,
        orchestration_type=orchestration_type,
        payload={
            TENANT_ID: profile.tenant_id,
            PARTICIPANT_ID: profile.identifier,
            VPA_DATA: [_vpa(vpa) for vpa in profile.vpas],
            **payload,
        },
    )


def _vpa(vpa: VirtualParticipantAgent) -> dict[str, Any]:
    document: dict[str, Any] = {
        "id": vpa.id,
        "vpaType": vpa.type,
        "cellId": vpa.cell_id,
        "externalCellId": vpa.external_cell_id,
    }
    return document | ({"properties": dict(vpa.properties)} if vpa.properties else {})
