"""Where the dataspace services are, as the environment of an agent's process says it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from cfm_core.clients.destinations import Destinations
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
    service_token_file: str = "/var/run/secrets/jwtlet/token"  # noqa: S105 - a path, and no secret
    """The service account's token; read again for every use, because it is replaced while the process runs."""
    token_audience: str = "edcv"  # noqa: S105 - a name, and no secret
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
    tenant_manager_url: str = ""
    """``http://tenant-manager:8080``; what participants should have is read there."""
    tenant_manager_token_file: str = ""
    """A token with the scope tenant-manager-api:read; read again for every use. Empty: the Tenant Manager asks for none."""
    outbound_networks: str = ""
    """Networks that addresses in data may lead to, though they are not public: see ``destinations``."""
    renewal_days: str = "0"
    """So many days before its end a credential is requested anew; 0: when a third of its life is left. Never more than half."""

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

    @property
    def destinations(self) -> Destinations:
        """Where addresses may lead that participants bring along.

        Raises:
            FatalError: ``CFM_OUTBOUND_NETWORKS`` names something that is no network.
        """
        return Destinations.of(self.outbound_networks)

    @property
    def renew_before(self) -> timedelta | None:
        """How long before its end a credential is requested anew; None leaves that to the credential's life.

        Raises:
            FatalError: it is not a number of days.
        """
        try:
            days = timedelta(days=float(self.renewal_days))
        except (ValueError, OverflowError):
            days = timedelta(days=-1)
        if days < timedelta(0):
            raise FatalError(f"CFM_RENEWAL_DAYS is {self.renewal_days!r}; it must be a number of days, at least 0")
        return days or None

    def tenant_manager_token(self) -> str:
        """What the Tenant Manager is shown, as it is now; empty where it asks for nothing.

        Raises:
            FatalError: the file cannot be read.
        """
        if not self.tenant_manager_token_file:
            return ""
        return _content("CFM_TENANT_MANAGER_TOKEN_FILE: the token", self.tenant_manager_token_file)

    def service_token(self) -> str:
        """The service account's token as it is now.

        Raises:
            FatalError: the file cannot be read.
        """
        return _content("CFM_SERVICE_TOKEN_FILE: the service account's token", self.service_token_file)


def _content(what: str, file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise FatalError(f"{what} cannot be read: {error}") from error
