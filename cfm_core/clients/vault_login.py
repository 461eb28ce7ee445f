"""As whom a process logs in to the vault, and whom a role there lets in; without hvac, which takes its time to import.

Source: dataspace service contracts, sections 10.2 and 10.4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from cfm_core.errors import FatalError
from cfm_core.settings import Settings


@dataclass(frozen=True, slots=True)
class TokenLogin:
    """A token that somebody else keeps in a file; read anew when it is not accepted any more."""

    file: Path


@dataclass(frozen=True, slots=True)
class JwtLogin:
    """A token of the cluster, or of another issuer, kept in a file, for one of the vault.

    ``mount`` is where the method is: of type kubernetes or jwt, both take the same.
    """

    role: str
    file: Path
    mount: str


@dataclass(frozen=True, slots=True)
class AppRoleLogin:
    """The id of a role, and a secret id kept in a file."""

    role_id: str
    file: Path
    mount: str


Login = TokenLogin | JwtLogin | AppRoleLogin


@dataclass(frozen=True, slots=True)
class JwtRole:
    """Whoever shows a JWT of ``subject`` for one of ``audiences`` is given a token with ``policies``."""

    subject: str
    audiences: Sequence[str]
    policies: Sequence[str]
    lifetime: timedelta


def login_of(settings: Settings) -> Login:
    """How a process with these settings logs in.

    Raises:
        FatalError: something is not set, or makes no sense.
    """
    mount = settings.vault_auth_mount or settings.vault_auth
    match settings.vault_auth:
        case "token":
            return TokenLogin(Path(required(settings, "vault_token_file")))
        case "kubernetes" | "jwt":
            return JwtLogin(required(settings, "vault_role"), Path(required(settings, "vault_jwt_file")), mount)
        case "approle":
            secret_id = Path(required(settings, "vault_secret_id_file"))
            return AppRoleLogin(required(settings, "vault_role"), secret_id, mount)
        case other:
            raise FatalError(f"CFM_VAULT_AUTH is {other!r}; it must be token, kubernetes, jwt or approle")


def required(settings: Settings, name: str) -> str:
    """The value of a field.

    Raises:
        FatalError: it is not set.
    """
    value: str = getattr(settings, name)
    if not value:
        raise FatalError(f"CFM_{name.upper()} is not set, and CFM_VAULT_AUTH={settings.vault_auth} needs it")
    return value
