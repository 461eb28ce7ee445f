"""Provides the clients of the dataspace services, for the addresses of the environment."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from cfm_core.assembly.assembler import InitContext, ServiceAssembly
from cfm_core.assembly.http_client import HTTP_CLIENT as HTTP_CLIENT  # for agents, which call services of their own
from cfm_core.assembly.service_type import ServiceType

if TYPE_CHECKING:
    from cfm_core.clients.control_plane import ControlPlane
    from cfm_core.clients.edc import EdcApi
    from cfm_core.clients.identity_hub import IdentityHub
    from cfm_core.clients.issuer_service import IssuerService
    from cfm_core.clients.jwtlet import ResourceMappings, TokenExchange
    from cfm_core.clients.keycloak import Keycloak
    from cfm_core.clients.settings import DataspaceSettings
    from cfm_core.clients.siglet import Siglet
    from cfm_core.clients.vault import Vault

DATASPACE_SETTINGS: ServiceType[DataspaceSettings] = ServiceType("dataspace-settings")
TOKEN_EXCHANGE: ServiceType[TokenExchange] = ServiceType("token-exchange")
RESOURCE_MAPPINGS: ServiceType[ResourceMappings] = ServiceType("resource-mappings")
CONTROL_PLANE: ServiceType[ControlPlane] = ServiceType("control-plane")
IDENTITY_HUB: ServiceType[IdentityHub] = ServiceType("identity-hub")
ISSUER_SERVICE: ServiceType[IssuerService] = ServiceType("issuer-service")
SIGLET: ServiceType[Siglet] = ServiceType("siglet")
KEYCLOAK: ServiceType[Keycloak] = ServiceType("keycloak")
VAULT: ServiceType[Vault] = ServiceType("vault")


class DataspaceSettingsAssembly(ServiceAssembly):
    """Reads the environment."""

    name = "dataspace-settings"
    provides = (DATASPACE_SETTINGS,)

    def init(self, context: InitContext) -> None:
        from cfm_core.clients.settings import DataspaceSettings

        context.registry.register(DATASPACE_SETTINGS, DataspaceSettings.from_environ())


class JwtletAssembly(ServiceAssembly):
    """The token exchange of ``CFM_JWTLET_URL``."""

    name = "jwtlet"
    provides = (TOKEN_EXCHANGE,)
    requires = (HTTP_CLIENT, DATASPACE_SETTINGS)

    def init(self, context: InitContext) -> None:
        from cfm_core.clients.jwtlet import TokenExchange

        settings = context.registry.resolve(DATASPACE_SETTINGS)
        http = context.registry.resolve(HTTP_CLIENT)
        context.registry.register(
            TOKEN_EXCHANGE,
            TokenExchange(http, settings.required("jwtlet_url"), settings.service_token, settings.token_audience),
        )


class JwtletManagementAssembly(ServiceAssembly):
    """jwtlet's management API at ``CFM_JWTLET_MANAGEMENT_URL``."""

    name = "jwtlet-management"
    provides = (RESOURCE_MAPPINGS,)
    requires = (HTTP_CLIENT, DATASPACE_SETTINGS)

    def init(self, context: InitContext) -> None:
        from cfm_core.clients.jwtlet import ResourceMappings

        settings = context.registry.resolve(DATASPACE_SETTINGS)
        http = context.registry.resolve(HTTP_CLIENT)
        context.registry.register(
            RESOURCE_MAPPINGS,
            ResourceMappings(http, settings.required("jwtlet_management_url"), settings.service_token),
        )


class ControlPlaneAssembly(ServiceAssembly):
    """The control plane at ``CFM_CONTROLPLANE_URL``."""

    name = "control-plane"
    provides = (CONTROL_PLANE,)
    requires = (HTTP_CLIENT, DATASPACE_SETTINGS, TOKEN_EXCHANGE)

    def init(self, context: InitContext) -> None:
        from cfm_core.clients.control_plane import ControlPlane

        context.registry.register(CONTROL_PLANE, ControlPlane(_edc_api(context, "controlplane_url")))


class IdentityHubAssembly(ServiceAssembly):
    """The IdentityHub at ``CFM_IDENTITYHUB_URL``."""

    name = "identity-hub"
    provides = (IDENTITY_HUB,)
    requires = (HTTP_CLIENT, DATASPACE_SETTINGS, TOKEN_EXCHANGE)

    def init(self, context: InitContext) -> None:
        from cfm_core.clients.identity_hub import IdentityHub

        context.registry.register(IDENTITY_HUB, IdentityHub(_edc_api(context, "identityhub_url")))


class IssuerServiceAssembly(ServiceAssembly):
    """The IssuerService at ``CFM_ISSUERSERVICE_URL``."""

    name = "issuer-service"
    provides = (ISSUER_SERVICE,)
    requires = (HTTP_CLIENT, DATASPACE_SETTINGS, TOKEN_EXCHANGE)

    def init(self, context: InitContext) -> None:
        from cfm_core.clients.issuer_service import IssuerService

        settings = context.registry.resolve(DATASPACE_SETTINGS)
        context.registry.register(
            ISSUER_SERVICE, IssuerService(_edc_api(context, "issuerservice_url"), settings.required("issuer_id"))
        )


class SigletAssembly(ServiceAssembly):
    """Siglet's management API at ``CFM_SIGLET_MANAGEMENT_URL``."""

    name = "siglet"
    provides = (SIGLET,)
    requires = (HTTP_CLIENT, DATASPACE_SETTINGS, TOKEN_EXCHANGE)

    def init(self, context: InitContext) -> None:
        from cfm_core.clients.siglet import Siglet

        context.registry.register(SIGLET, Siglet(_edc_api(context, "siglet_management_url")))


class KeycloakAssembly(ServiceAssembly):
    """The Keycloak at ``CFM_KEYCLOAK_URL``."""

    name = "keycloak"
    provides = (KEYCLOAK,)
    requires = (HTTP_CLIENT, DATASPACE_SETTINGS)

    def init(self, context: InitContext) -> None:
        from cfm_core.clients.keycloak import Keycloak

        settings = context.registry.resolve(DATASPACE_SETTINGS)
        http = context.registry.resolve(HTTP_CLIENT)
        context.registry.register(
            KEYCLOAK,
            Keycloak(
                http,
                settings.required("keycloak_url"),
                settings.required("keycloak_realm"),
                settings.required("keycloak_username"),
            ),
        )


class VaultAssembly(ServiceAssembly):
    """The vault at ``CFM_VAULT_ADDR``; it is logged in to at the first use."""

    name = "vault"
    provides = (VAULT,)

    def __init__(self) -> None:
        self._vault: Vault | None = None

    def init(self, context: InitContext) -> None:
        from cfm_core.clients.vault import Vault
        from cfm_core.clients.vault_login import login_of, required

        settings = context.settings
        self._vault = Vault(
            required(settings, "vault_addr"),
            login_of(settings),
            namespace=settings.vault_namespace,
            timeout=settings.request_timeout,
        )
        context.registry.register(VAULT, self._vault)

    def shutdown(self, context: InitContext) -> None:
        if self._vault is not None:
            self._vault.close()


def _edc_api(context: InitContext, address: str) -> EdcApi:
    from cfm_core.clients.edc import EdcApi
    from cfm_core.clients.jwtlet import ResourceMappings

    settings = context.registry.resolve(DATASPACE_SETTINGS)
    http = context.registry.resolve(HTTP_CLIENT)
    tokens = context.registry.resolve(TOKEN_EXCHANGE)
    if not settings.jwtlet_management_url:
        return EdcApi(http, tokens, settings.required(address))
    mappings = ResourceMappings(http, settings.required("jwtlet_management_url"), settings.service_token)
    return EdcApi(http, tokens, settings.required(address), partial(mappings.exists, settings.agents_account))


def dataspace_assemblies() -> tuple[ServiceAssembly, ...]:
    """The assemblies of all dataspace services."""
    return (
        DataspaceSettingsAssembly(),
        JwtletAssembly(),
        JwtletManagementAssembly(),
        ControlPlaneAssembly(),
        IdentityHubAssembly(),
        IssuerServiceAssembly(),
        SigletAssembly(),
        KeycloakAssembly(),
        VaultAssembly(),
    )
