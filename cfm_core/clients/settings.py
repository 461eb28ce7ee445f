"""Where the dataspace services are, as the environment of an agent's process says it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cfm_core.errors import FatalError


@dataclass(frozen=True, slots=True, kw_only=True)
class DataspaceSettings:
    """The addresses of the dataspace services. Every field is an environment variable: ``CFM_`` + upper case.

    A process needs only what its agents use. Addresses hold the path that the chart deploys a service with, without the
    version, and no slash at the end.

    Source: dataspace service contracts, sections 1.5 and 2.
    """

    jwtlet_url: str = ""
    """The token exchange, ``http://jwtlet:8080``."""
    jwtlet_management_url: str = ""
    """Its management API, ``http://jwtlet:8081``."""
    service_token_file: str = "/var/run/secrets/jwtlet/token"
    """The service account's token; read again for every use, because it is replaced while the process runs."""
    token_audience: str = "edcv"
    service_account_namespace: str = "edc-v"
    """The namespace of the service accounts cfm-agents, controlplane and identityhub."""
    controlplane_url: str = ""
    """The management API, ``http://controlplane:8081/api/mgmt``."""
    controlplane_protocol_url: str = ""
    """Where other participants find the control plane; ``%s`` stands for the participant context."""
    controlplane_dataservice_url: str = ""
    """Where they find what it offers; ``%s`` as above."""
    identityhub_url: str = ""
    """The Identity API, ``http://identityhub:7081/api/identity``."""
    identityhub_credentials_url: str = ""
    """Where others ask for presentations; ``%s`` as above."""
    issuerservice_url: str = ""
    """The admin API, ``http://issuerservice:10013/api/admin``."""
    issuer_id: str = "issuer"
    """The issuer's own participant context."""
    siglet_management_url: str = ""
    """Siglet's management API, ``http://siglet:8083``."""
    siglet_signaling_url: str = ""
    """Where the control plane tells Siglet of data flows, ``http://siglet:8081``."""
    participant_vault_url: str = ""
    """The vault that control plane and IdentityHub are told to keep a participant's secrets in; empty: they have their own."""

    participant_vault_mount: str = "participants"
    """The engine, of version 2, in which each participant has a folder."""
    participant_vault_auth_mount: str = "jwt"
    """Where that vault's login method is that takes the token exchange's tokens."""
    keycloak_url: str = ""
    """``http://keycloak:8080``; in platforms whose participants have clients there."""
    keycloak_realm: str = "edcv"
    """The realm of those clients."""
    keycloak_username: str = "admin"
    """The administrator, in the realm ``master``; the password is the agent's secret ``keycloak/admin``."""
    keycloak_vault_mount: str = "secret"
    """The engine, of version 2, that the clients' secrets are put into."""

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] | None = None) -> DataspaceSettings:
        """Read ``environ`` (the process's own by default)."""
        source = os.environ if environ is None else environ
        found = {name: source.get(f"CFM_{name.upper()}") for name in cls.__dataclass_fields__}
        return cls(**{name: value for name, value in found.items() if value is not None})

    @property
    def agents_account(self) -> str:
        """The service account that the agents run as."""
        return self.account("cfm-agents")

    def account(self, name: str) -> str:
        """The service account of this name, as jwtlet knows it."""
        return f"system:serviceaccount:{self.service_account_namespace}:{name}"

    def required(self, name: str) -> str:
        """The value of a field, without a slash at the end.

        Raises:
            FatalError: it is not set.
        """
        value: str = getattr(self, name)
        if not value:
            raise FatalError(f"CFM_{name.upper()} is not set, and this agent needs it")
        return value.rstrip("/")

    def service_token(self) -> str:
        """The service account's token as it is now.

        Raises:
            FatalError: the file cannot be read.
        """
        try:
            return Path(self.service_token_file).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise FatalError(f"CFM_SERVICE_TOKEN_FILE: the service account's token cannot be read: {error}") from error
