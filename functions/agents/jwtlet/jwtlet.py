"""The agent that gives a participant its context id, and the platform's services tokens for it.

Source: dataspace service contracts, section 11.2.
"""

from __future__ import annotations

import uuid
from datetime import timedelta

from pydantic import BaseModel, Field

from cfm_core.agent import ActivityContext, ActivityResult, Complete, Retry, activity
from cfm_core.clients.assembly import DATASPACE_SETTINGS, RESOURCE_MAPPINGS, TOKEN_EXCHANGE
from cfm_core.clients.jwtlet import NoTokenError, ResourceMapping, ResourceMappings, TokenExchange
from cfm_core.clients.settings import DataspaceSettings
from cfm_core.contracts.orchestration import PARTICIPANT_ID, compensated_id
from cfm_core.contracts.participant import CONTEXT_ID, recorded

AGENT_SCOPES = (
    "management-api:admin",
    "identity-api:admin",
    "identity-api:credentials:read",
    "identity-api:credentials:write",
    "issuer-admin-api:admin",
    "siglet-mgmt-api:read",
    "siglet-mgmt-api:write",
    "read",
    "write",
)
VAULT_LOGIN_SCOPES = ("read",)
SEEN_BY_ALL_REPLICAS_WITHIN = timedelta(seconds=1)

_NAMESPACE = uuid.UUID("5d9a7f0e-3d5b-5d0b-9a3a-6f6d2b7a5c11")


class Participant(BaseModel):
    did: str = Field(alias=PARTICIPANT_ID, min_length=1)


@activity(
    "jwtlet-activity",
    inputs=Participant,
    requires=[RESOURCE_MAPPINGS, TOKEN_EXCHANGE, DATASPACE_SETTINGS],
    timeout=timedelta(seconds=45),
    batch=16,
)
class JwtletActivity:
    """Maps the agents, the control plane and the IdentityHub to the participant's context; disposes of that as the last."""

    def __init__(self, mappings: ResourceMappings, tokens: TokenExchange, settings: DataspaceSettings) -> None:
        self._mappings = mappings
        self._tokens = tokens
        self._settings = settings

    def deploy(self, ctx: ActivityContext) -> ActivityResult:
        """Publish the context id, make the mappings, and prove that they work. Safe to repeat."""
        ctx.read(Participant)
        context = _context_id(ctx)
        # Published first: what is recorded survives a failure, and a later disposal has to know the id.
        ctx.set_value(CONTEXT_ID, context)
        ctx.set_output(CONTEXT_ID, context)
        for account, scopes in self._accounts().items():
            self._mappings.put(ResourceMapping(account, context, scopes, (self._settings.token_audience,)))
        try:
            self._tokens.token(context, AGENT_SCOPES)
        except NoTokenError as error:
            # The mapping was written this moment, perhaps to another replica.
            return Retry(str(error), after=SEEN_BY_ALL_REPLICAS_WITHIN)
        return Complete()

    def dispose(self, ctx: ActivityContext) -> ActivityResult:
        """Delete the mappings, also those of a deploy that did not get as far as publishing the id. Safe to repeat."""
        context = _context_id(ctx)
        for account in self._accounts():
            self._mappings.delete(account, context)
        self._tokens.forget(context, AGENT_SCOPES)
        return Complete()

    def _accounts(self) -> dict[str, tuple[str, ...]]:
        return {
            self._settings.agents_account: AGENT_SCOPES,
            self._settings.account("controlplane"): VAULT_LOGIN_SCOPES,
            self._settings.account("identityhub"): VAULT_LOGIN_SCOPES,
        }


def _context_id(ctx: ActivityContext) -> str:
    """The participant context's id: the recorded one, else derived from the deploy, so that each attempt finds the same."""
    return recorded(ctx.values, CONTEXT_ID) or uuid.uuid5(_NAMESPACE, compensated_id(ctx.orchestration_id)).hex
