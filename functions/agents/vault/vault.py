"""The agent that gives a participant a space of its own in the vault.

Source: dataspace service contracts, section 10.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

from cfm_core.agent import ActivityContext, ActivityResult, Complete, activity
from cfm_core.clients.assembly import DATASPACE_SETTINGS, VAULT
from cfm_core.clients.settings import DataspaceSettings
from cfm_core.clients.vault_login import JwtRole
from cfm_core.contracts.participant import CONTEXT_ID, recorded
from cfm_core.errors import FatalError

if TYPE_CHECKING:
    from cfm_core.clients.vault import Vault

PATH = "vault.path"
ROLE = "vault.role"
TOKEN_LIFETIME = timedelta(hours=1)

_CONTEXT = re.compile(r"[A-Za-z0-9_-]{1,128}")
"""What stands in a policy as it is: nothing that ends a text, and nothing that stands for more than itself."""
_POLICY = """\
path "{mount}/data/{context}/*" {{
  capabilities = ["create", "read", "update", "delete", "list"]
}}
path "{mount}/metadata/{context}/*" {{
  capabilities = ["read", "list", "delete"]
}}
path "transit/keys/participant_{context}_*" {{
  capabilities = ["create", "read", "update"]
}}
path "transit/sign/participant_{context}_*" {{
  capabilities = ["create", "update"]
}}
"""


class Inputs(BaseModel):
    context: str = Field(alias=CONTEXT_ID, min_length=1)


@activity("vault-activity", requires=[VAULT, DATASPACE_SETTINGS], timeout=timedelta(seconds=45), batch=16)
class VaultActivity:
    """Makes a policy for the participant's part of the vault, and a role for its services; disposes of both, and of the part."""

    def __init__(self, vault: Vault, settings: DataspaceSettings) -> None:
        self._vault = vault
        self._mount = settings.participant_vault_mount
        self._logins = settings.participant_vault_auth_mount
        self._audience = settings.token_audience

    def deploy(self, ctx: ActivityContext) -> ActivityResult:
        """Write the policy, then the role that gives it. Safe to repeat."""
        context = _checked(ctx.read(Inputs).context)
        name = _name(context)
        self._vault.put_policy(name, _POLICY.format(mount=self._mount, context=context))
        self._vault.put_jwt_role(self._logins, name, JwtRole(context, [self._audience], [name], TOKEN_LIFETIME))
        for key, value in ((PATH, f"{self._mount}/{context}"), (ROLE, name)):
            ctx.set_value(key, value)
            ctx.set_output(key, value)
        return Complete()

    def dispose(self, ctx: ActivityContext) -> ActivityResult:
        """Let nobody in any more, make the tokens that are in use worthless, then delete all secrets. Safe to repeat."""
        context = recorded(ctx.values, CONTEXT_ID)
        if context is None:
            return Complete()
        name = _name(_checked(context))
        self._vault.delete_jwt_role(self._logins, name)
        self._vault.delete_policy(name)
        self._vault.delete_folder(self._mount, context)
        return Complete()


def _name(context: str) -> str:
    return f"participant-{context}"


def _checked(context: str) -> str:
    if not _CONTEXT.fullmatch(context):
        raise FatalError(f"value {CONTEXT_ID!r} is {context!r:.150}; the vault takes letters, digits, '_' and '-' only")
    return context
