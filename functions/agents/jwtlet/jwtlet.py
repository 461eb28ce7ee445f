"""The agent that gives a participant its context id, and the platform's services tokens for it.

Source: dataspace service contracts, section 11.2.
"""

from __future__ import annotations

from datetime import timedelta

from pydantic import BaseModel, Field

from cfm_core.agent import ActivityContext, ActivityResult, Complete, Retry, activity
from cfm_core.clients.assembly import DATASPACE_SETTINGS, RESOURCE_MAPPINGS, TOKEN_EXCHANGE
from cfm_core.clients.jwtlet import NoTokenError, ResourceMapping, ResourceMappings, TokenExchange
from cfm_core.clients.settings import DataspaceSettings
from cfm_core.contracts.orchestration import PARTICIPANT_ID
from cfm_core.contracts.participant import CONTEXT_ID, context_id

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
        context = context_id(ctx.values, ctx.orchestration_id)
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
        context = context_id(ctx.values, ctx.orchestration_id)
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
