"""The agent of the control plane.

Source: dataspace service contracts, section 11.3.
"""

from __future__ import annotations

import json
from datetime import timedelta

from pydantic import BaseModel, Field

from cfm_core.agent import ActivityContext, ActivityResult, Complete, activity
from cfm_core.clients.assembly import CONTROL_PLANE, DATASPACE_SETTINGS
from cfm_core.clients.control_plane import ControlPlane
from cfm_core.clients.edc import TornDownError
from cfm_core.clients.settings import DataspaceSettings
from cfm_core.contracts.orchestration import PARTICIPANT_ID
from cfm_core.contracts.participant import CONTEXT_ID, recorded

ISSUER_ID = "edc.iam.issuer.id"
PARTICIPANT = "edc.participant.id"
VAULT_CONFIG = "edc.vault.hashicorp.config"


class Participant(BaseModel):
    did: str = Field(alias=PARTICIPANT_ID, min_length=1)
    context: str = Field(alias=CONTEXT_ID, min_length=1)


@activity(
    "edcv-activity",
    inputs=Participant,
    requires=[CONTROL_PLANE, DATASPACE_SETTINGS],
    timeout=timedelta(seconds=45),
    batch=16,
)
class EdcvActivity:
    """Makes a participant context at the control plane and configures it; disposes of both."""

    def __init__(self, control_plane: ControlPlane, settings: DataspaceSettings) -> None:
        self._control_plane = control_plane
        self._vault_url = settings.participant_vault_url

    def deploy(self, ctx: ActivityContext) -> ActivityResult:
        """Create the context, and set its DID and vault. Safe to repeat."""
        participant = ctx.read(Participant)
        if not participant.did.startswith("did:web:"):
            ctx.log.warning("the DID %s is not of the method web", participant.did)
        self._control_plane.create_participant(participant.context, participant.did)
        private: dict[str, str | None] = {}
        if self._vault_url:
            private[VAULT_CONFIG] = json.dumps(
                {
                    "config": {
                        "vaultUrl": self._vault_url,
                        "secretPath": "v1/participants",
                        "folderPath": f"{participant.context}/controlplane",
                    }
                }
            )
        self._control_plane.merge_config(
            participant.context, {ISSUER_ID: participant.did, PARTICIPANT: participant.did}, private
        )
        return Complete()

    def dispose(self, ctx: ActivityContext) -> ActivityResult:
        """Take back this agent's part of the configuration, then delete the context. Safe to repeat."""
        context = recorded(ctx.values, CONTEXT_ID)
        if context is None:
            return Complete()
        try:
            config = self._control_plane.find_config(context)
            if config is not None:
                # What others configured is theirs. An absent configuration would be made by the attempt to empty it.
                entries = dict.fromkeys({ISSUER_ID, PARTICIPANT} & set(config.entries))
                private = dict.fromkeys({VAULT_CONFIG} & config.private_entries)
                if entries or private:
                    self._control_plane.merge_config(context, entries, private)
            self._control_plane.delete_participant(context)
        except TornDownError as gone:
            ctx.log.warning("nothing to dispose of: %s", gone)
        return Complete()
