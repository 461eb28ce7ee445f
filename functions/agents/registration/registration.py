"""The agent that registers participants with the issuer.

Source: dataspace service contracts, section 11.5.
"""

from __future__ import annotations

from datetime import timedelta

from pydantic import BaseModel, Field

from cfm_core.agent import ActivityContext, ActivityResult, Complete, activity
from cfm_core.clients.assembly import DATASPACE_SETTINGS, ISSUER_SERVICE
from cfm_core.clients.edc import TornDownError
from cfm_core.clients.issuer_service import Holder, IssuerService
from cfm_core.clients.settings import DataspaceSettings
from cfm_core.contracts.orchestration import PARTICIPANT_ID
from cfm_core.contracts.participant import CONTEXT_ID, recorded

ISSUER_VPA = "cfm.issuer"


class Participant(BaseModel):
    did: str = Field(alias=PARTICIPANT_ID, min_length=1)
    context: str = Field(alias=CONTEXT_ID, min_length=1)
    name: str = Field(alias="cfm.participant.holdername", default="")


class Disposal(BaseModel):
    did: str = Field(alias=PARTICIPANT_ID, min_length=1)


@activity(
    "registration-activity",
    inputs=Participant,
    requires=[ISSUER_SERVICE, DATASPACE_SETTINGS],
    timeout=timedelta(seconds=45),
    batch=16,
)
class RegistrationActivity:
    """Registers the participant as a holder of credentials; disposes of the holder."""

    def __init__(self, issuer: IssuerService, settings: DataspaceSettings) -> None:
        self._issuer = issuer
        self._settings = settings

    def deploy(self, ctx: ActivityContext) -> ActivityResult:
        """Make sure that the issuer knows the participant. Safe to repeat."""
        participant = ctx.read(Participant)
        # The issuer is going to ask for its document.
        self._settings.destinations.check_did(participant.did)
        properties = ctx.vpa_properties(ISSUER_VPA)
        # The id must be one that fits into a path, which a DID with a port is not; the issuer finds holders by their DID.
        holder = Holder(participant.context, participant.did, participant.name or participant.did, properties)
        self._issuer.register_holder(participant.context, holder)
        return Complete()

    def dispose(self, ctx: ActivityContext) -> ActivityResult:
        """Delete the holder. Safe to repeat."""
        context = recorded(ctx.values, CONTEXT_ID)
        if context is None:
            return Complete()
        did = ctx.read(Disposal).did
        try:
            for holder in self._issuer.find_holders(context, did=did):
                if not self._issuer.delete_holder(context, holder.id):
                    ctx.log.warning("holder %s stays: its id cannot stand in a path", holder.id)
        except TornDownError as gone:
            ctx.log.warning("nothing to dispose of: %s", gone)
        return Complete()
