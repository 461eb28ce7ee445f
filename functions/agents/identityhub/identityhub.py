"""The agent of the IdentityHub.

Source: dataspace service contracts, section 11.4.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import timedelta

from pydantic import BaseModel, Field

from cfm_core.agent import ActivityContext, ActivityResult, Complete, Fatal, activity
from cfm_core.agent.polling import done_looking, look_again
from cfm_core.clients.assembly import DATASPACE_SETTINGS, IDENTITY_HUB
from cfm_core.clients.edc import TornDownError
from cfm_core.clients.identity_hub import IdentityHub, Participant, ServiceEndpoint
from cfm_core.clients.settings import DataspaceSettings
from cfm_core.contracts.orchestration import PARTICIPANT_ID
from cfm_core.contracts.participant import CONTEXT_ID, recorded

KEY_READY_WITHIN = timedelta(minutes=5)

_NAMESPACE = uuid.UUID("b0c52d1b-0f0c-5c07-8a1f-0d4c9a5e7f42")


class Inputs(BaseModel):
    did: str = Field(alias=PARTICIPANT_ID, min_length=1)
    context: str = Field(alias=CONTEXT_ID, min_length=1)
    credential_service: str = Field(alias="cfm.participant.credentialservice", default="")
    protocol_service: str = Field(alias="cfm.participant.protocolservice", default="")
    data_service: str = Field(alias="cfm.participant.dataservice", default="")


@activity(
    "identityhub-activity",
    inputs=Inputs,
    requires=[IDENTITY_HUB, DATASPACE_SETTINGS],
    timeout=timedelta(seconds=45),
    batch=16,
)
class IdentityhubActivity:
    """Makes a participant with a DID document and a key at the IdentityHub; disposes of it."""

    def __init__(self, identity_hub: IdentityHub, settings: DataspaceSettings) -> None:
        self._identity_hub = identity_hub
        self._settings = settings

    def deploy(self, ctx: ActivityContext) -> ActivityResult:
        """Create the participant, and look until it and its key are active. Safe to repeat."""
        inputs = ctx.read(Inputs)
        context = inputs.context
        endpoints = self._endpoints(inputs)
        missing = [one.type for one in endpoints if not one.url]
        if missing:
            return Fatal(f"no address is configured, or among the values, for {', '.join(missing)}")
        self._check_addresses(inputs, endpoints)
        self._identity_hub.create_participant(
            Participant(
                context,
                inputs.did,
                # The same for each attempt, so that a repeated one asks for the same; the server allows no underscore.
                key_alias=str(uuid.uuid5(_NAMESPACE, context)),
                endpoints=endpoints,
                vault=(self._settings.participant_vault_url, "v1/participants", f"{context}/identityhub")
                if self._settings.participant_vault_url
                else None,
            )
        )
        participant = self._identity_hub.find_participant(context)
        if participant is None or not participant.active or not self._identity_hub.has_active_key(context):
            return look_again(ctx, f"participant {context} with an active key", give_up_after=KEY_READY_WITHIN)
        done_looking(ctx)
        return Complete()

    def dispose(self, ctx: ActivityContext) -> ActivityResult:
        """Delete the participant, and with it keys, DID document and credentials. Safe to repeat."""
        context = recorded(ctx.values, CONTEXT_ID)
        if context is None:
            return Complete()
        try:
            self._identity_hub.delete_participant(context)
        except TornDownError as gone:
            ctx.log.warning("nothing to dispose of: %s", gone)
        return Complete()

    def _check_addresses(self, inputs: Inputs, endpoints: Iterable[ServiceEndpoint]) -> None:
        """Raises FatalError where what the participant brings along would send others to what the platform alone reaches."""
        destinations = self._settings.destinations
        destinations.check_did(inputs.did)
        for one in endpoints:
            if one.url in (inputs.credential_service, inputs.protocol_service, inputs.data_service):
                destinations.check(one.url)

    def _endpoints(self, inputs: Inputs) -> list[ServiceEndpoint]:
        context, settings = inputs.context, self._settings
        return [
            ServiceEndpoint(kind, f"{context}-{suffix}", template.replace("%s", context) or given)
            for kind, suffix, template, given in (
                (
                    "CredentialService",
                    "credentialservice",
                    settings.identityhub_credentials_url,
                    inputs.credential_service,
                ),
                ("ProtocolEndpoint", "dsp", settings.controlplane_protocol_url, inputs.protocol_service),
                ("DataService", "dataservice", settings.controlplane_dataservice_url, inputs.data_service),
            )
        ]
