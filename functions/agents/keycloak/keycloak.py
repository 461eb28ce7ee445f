"""The agent of Keycloak, for platforms whose participants have clients there.

Source: dataspace service contracts, section 11.1.
"""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import TYPE_CHECKING

from cfm_core.agent import ActivityContext, ActivityResult, Complete, activity
from cfm_core.clients.assembly import DATASPACE_SETTINGS, KEYCLOAK, VAULT
from cfm_core.clients.keycloak import ClientRegistry, Keycloak, ServiceClient
from cfm_core.clients.settings import DataspaceSettings
from cfm_core.contracts.participant import CONTEXT_ID, context_id
from cfm_core.contracts.secrets import CONTENT, SecretReference
from cfm_core.errors import FatalError, RecoverableError

if TYPE_CHECKING:
    from cfm_core.clients.vault import Vault

ADMIN = "keycloak/admin"
"""The secret that is the administrator's password."""
CONTEXT_CLAIM = "participant_context_id"


@activity(
    "keycloak-activity",
    requires=[KEYCLOAK, VAULT, DATASPACE_SETTINGS],
    secrets=[ADMIN],
    timeout=timedelta(seconds=45),
    batch=16,
)
class KeycloakActivity:
    """Makes a participant's clients, and puts their secrets into the vault; disposes of both."""

    def __init__(self, keycloak: Keycloak, vault: Vault, settings: DataspaceSettings) -> None:
        self._keycloak = keycloak
        self._vault = vault
        self._mount = settings.keycloak_vault_mount

    def deploy(self, ctx: ActivityContext) -> ActivityResult:
        """Make the clients, and tell their ids and where their secrets are. Safe to repeat."""
        context = context_id(ctx.values, ctx.orchestration_id)
        # Published first: what is recorded survives a failure, and a later disposal has to know the id.
        ctx.set_value(CONTEXT_ID, context)
        ctx.set_output(CONTEXT_ID, context)
        clients = self._keycloak.administered(ctx.secrets[ADMIN])
        for purpose, client_id in _clients_of(context).items():
            kept = {CONTENT: self._secret_of(clients, client_id, context)}
            if self._vault.find_secret(self._mount, client_id) != kept:
                self._vault.write_secret(self._mount, client_id, kept)
            for key, value in (
                (f"clientID.{purpose}", client_id),
                (f"clientSecret.{purpose}", str(SecretReference(self._mount, client_id))),
            ):
                ctx.set_value(key, value)
                ctx.set_output(key, value)
        return Complete()

    def dispose(self, ctx: ActivityContext) -> ActivityResult:
        """Delete the clients, then what the vault has of them. Safe to repeat."""
        context = context_id(ctx.values, ctx.orchestration_id)
        clients = self._keycloak.administered(ctx.secrets[ADMIN])
        for client_id in _clients_of(context).values():
            clients.delete(client_id)
            self._vault.delete_secret(self._mount, client_id)
        return Complete()

    @staticmethod
    def _secret_of(clients: ClientRegistry, client_id: str, context: str) -> str:
        """The secret of a client, which is made if it is not there."""
        client = ServiceClient(
            client_id,
            secrets.token_hex(32),
            f"Participant context {context}",
            {CONTEXT_CLAIM: context, "role": "participant"},
        )
        if clients.create(client):
            return client.secret
        found = clients.find(client_id)
        if found is not None and found.claims.get(CONTEXT_CLAIM) != context:
            owner = found.claims.get(CONTEXT_CLAIM)
            raise FatalError(f"conflict: client {client_id!r} exists at Keycloak for the context {owner!r}")
        # Made by an earlier attempt, or by another at this moment: its secret is the one that counts.
        secret = None if found is None else clients.find_secret(found.key)
        if secret is None:
            raise RecoverableError(f"the client {client_id!r} comes and goes at Keycloak")
        return secret


def _clients_of(context: str) -> dict[str, str]:
    return {"apiAccess": context, "vaultAccess": f"{context}-vault"}
