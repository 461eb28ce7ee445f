"""The agent that gets a participant its credentials.

Source: dataspace service contracts, section 11.6.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from datetime import UTC, datetime, timedelta

from pydantic import BaseModel, Field

from cfm_core.agent import ActivityContext, ActivityResult, Complete, Fatal, Schedule, activity
from cfm_core.agent.polling import done_looking, look_again
from cfm_core.clients.assembly import DATASPACE_SETTINGS, IDENTITY_HUB, ISSUER_SERVICE
from cfm_core.clients.edc import TornDownError
from cfm_core.clients.identity_hub import CredentialSpec, IdentityHub, RequestState
from cfm_core.clients.issuer_service import IssuerService
from cfm_core.clients.settings import DataspaceSettings
from cfm_core.contracts.orchestration import PARTICIPANT_ID, VPA_CREDENTIALS
from cfm_core.contracts.participant import CONTEXT_ID, HOLDER_PID, recorded
from cfm_core.errors import CfmError
from cfm_core.reconciliation.credentials import renewal_of

CREDENTIAL_REQUEST = "credentialRequest"
REQUESTED = "credentialRequests"
"""The value that holds the ids of all requests; only what undoes a deploy needs it."""
ISSUED_WITHIN = timedelta(minutes=5)
"""So long a disposal waits for credentials that are on their way, because they can be revoked only when they are there."""

_ON_THE_WAY = frozenset({RequestState.CREATED, RequestState.REQUESTING, RequestState.REQUESTED})

_NAMESPACE = uuid.UUID("0c4e2f7a-97a8-5d55-8f2e-5b1b6c0d9e33")


class Credential(BaseModel):
    id: str = Field(min_length=1)
    type: str = Field(min_length=1)
    issuer: str = Field(min_length=1)
    format: str = Field(min_length=1)


class Inputs(BaseModel):
    context: str = Field(alias=CONTEXT_ID, min_length=1)
    credentials: list[Credential] = Field(alias=VPA_CREDENTIALS, min_length=1)


@activity(
    "onboarding-activity",
    inputs=Inputs,
    requires=[IDENTITY_HUB, ISSUER_SERVICE, DATASPACE_SETTINGS],
    timeout=timedelta(seconds=45),
    batch=16,
)
class OnboardingActivity:
    """Requests the participant's credentials and looks until they are issued; disposes by revoking them."""

    def __init__(self, identity_hub: IdentityHub, issuer: IssuerService, settings: DataspaceSettings) -> None:
        self._identity_hub = identity_hub
        self._issuer = issuer
        self._destinations = settings.destinations
        self._renewed_before = settings.renew_before

    def deploy(self, ctx: ActivityContext) -> ActivityResult:
        """Request the credentials of each issuer once, then look until all are there. Safe to repeat."""
        inputs = ctx.read(Inputs)
        by_issuer: dict[str, list[CredentialSpec]] = defaultdict(list)
        for one in inputs.credentials:
            # The IdentityHub is going to ask for its document.
            self._destinations.check_did(one.issuer)
            by_issuer[one.issuer].append(CredentialSpec(one.id, one.type, one.format))

        first_pid = _holder_pid(ctx, inputs.credentials[0].issuer)
        # Recorded before it is used, and its address built and not taken from an answer, since an answer may be lost.
        recorded_request = {
            HOLDER_PID: first_pid,
            CREDENTIAL_REQUEST: self._identity_hub.request_path(inputs.context, first_pid),
        }
        for key, value in recorded_request.items():
            ctx.set_value(key, value)
        pending = []
        for issuer_did, credentials in by_issuer.items():
            holder_pid = _holder_pid(ctx, issuer_did)
            ctx.set_value(REQUESTED, list(dict.fromkeys([*_requested(ctx), holder_pid])))
            state = self._identity_hub.request_state(inputs.context, holder_pid)
            if state is None:
                # Never asked, or forgotten: the id is the same, so that asking twice cannot issue twice.
                self._identity_hub.request_credentials(inputs.context, issuer_did, holder_pid, credentials)
                pending.append(issuer_did)
                continue
            match state:
                case RequestState.ISSUED:
                    pass
                case RequestState.ERROR | RequestState.REJECTED:
                    return self._failed(ctx, inputs.context, issuer_did, holder_pid)
                case _:
                    pending.append(issuer_did)
        if pending:
            return look_again(ctx, f"the credentials of {', '.join(pending)}")
        done_looking(ctx)
        for key, value in recorded_request.items():
            ctx.set_output(key, value)
        ctx.set_output(CONTEXT_ID, inputs.context)
        return Complete()

    def dispose(self, ctx: ActivityContext) -> ActivityResult:
        """Revoke all credentials that were issued to the participant, also those on their way. Safe to repeat."""
        context = recorded(ctx.values, CONTEXT_ID)
        if context is None:
            return Complete()
        did = recorded(ctx.values, PARTICIPANT_ID)
        if did is None:
            ctx.log.warning("without %s nobody knows whose credentials to revoke", PARTICIPANT_ID)
            return Complete()
        try:
            if requests := self._on_the_way(ctx, context):
                again = look_again(ctx, "the credentials on their way", give_up_after=ISSUED_WITHIN)
                if isinstance(again, Schedule):
                    return again
                ctx.log.warning("nobody will revoke what may yet be issued for %s", ", ".join(requests))
            for credential in self._issuer.issued_credentials(context, holder_did=did):
                if not self._issuer.revoke(context, credential.id):
                    ctx.log.warning(
                        "credential %s cannot be revoked: it was issued without a status entry", credential.id
                    )
        except TornDownError as gone:
            ctx.log.warning("nothing to dispose of: %s", gone)
        done_looking(ctx)
        return Complete()

    def _on_the_way(self, ctx: ActivityContext, context: str) -> list[str]:
        """The requests of this deploy, and those for renewal, that may still end in credentials."""
        if self._identity_hub.find_participant(context) is None:
            return []
        requests = [*_requested(ctx), *self._renewals(ctx, context)]
        return [one for one in requests if self._identity_hub.request_state(context, one) in _ON_THE_WAY]

    def _renewals(self, ctx: ActivityContext, context: str) -> list[str]:
        """The ids under which somebody may just have asked for what the participant holds anew."""
        now = datetime.now(UTC)
        left = {HOLDER_PID: recorded(ctx.values, HOLDER_PID), CONTEXT_ID: context}
        return [
            renewal.request_id(left, attempt)
            for held in self._identity_hub.credentials(context)
            if (renewal := renewal_of(held, self._renewed_before)) is not None
            for attempt in renewal.awaited(now)
        ]

    def _failed(self, ctx: ActivityContext, context: str, issuer_did: str, holder_pid: str) -> Fatal:
        try:
            detail = self._issuer.failure_of(context, holder_pid)
        except CfmError:
            # It would only have explained the failure.
            detail = ""
        # A request that failed stays so; should an operator retry this activity, it has to ask under a new id.
        ctx.set_value(_round_key(ctx), _round(ctx) + 1)
        done_looking(ctx)
        return Fatal(f"{issuer_did} refused credential request {holder_pid}" + (f": {detail}" if detail else ""))


def _holder_pid(ctx: ActivityContext, issuer_did: str) -> str:
    """The id of the request to one issuer, the same for each attempt."""
    return str(uuid.uuid5(_NAMESPACE, f"{ctx.orchestration_id}/{ctx.activity_id}/{_round(ctx)}/{issuer_did}"))


def _requested(ctx: ActivityContext) -> list[str]:
    found = ctx.values.get(REQUESTED)
    return [one for one in found if isinstance(one, str)] if isinstance(found, list) else []


def _round_key(ctx: ActivityContext) -> str:
    return f"activity.{ctx.activity_id}.round"


def _round(ctx: ActivityContext) -> int:
    value = ctx.values.get(_round_key(ctx), 0)
    return value if isinstance(value, int) else 0
