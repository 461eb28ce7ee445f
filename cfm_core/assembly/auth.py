"""Provides the authentication hook: what turns an Authorization header into a principal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfm_core.assembly.assembler import InitContext, ServiceAssembly
from cfm_core.assembly.service_type import ServiceType
from cfm_core.errors import FatalError
from cfm_core.settings import Settings

if TYPE_CHECKING:
    from cfm_core.web.auth import Authenticator

AUTHENTICATOR: ServiceType[Authenticator] = ServiceType("authenticator")


class JwtAssembly(ServiceAssembly):
    """Bearer tokens, signed by the issuer whose key set is configured."""

    name = "auth-jwt"
    provides = (AUTHENTICATOR,)

    def init(self, context: InitContext) -> None:
        from cfm_core.web.auth import JwtAuthenticator

        settings = context.settings
        missing = [
            name
            for name, value in (
                ("CFM_AUTH_ISSUER", settings.auth_issuer),
                ("CFM_AUTH_AUDIENCE", settings.auth_audience),
                ("CFM_AUTH_JWKS_URL", settings.auth_jwks_url),
            )
            if not value
        ]
        if missing:
            raise FatalError(f"{', '.join(missing)} must be set (or CFM_AUTH=off on a laptop)")
        context.registry.register(
            AUTHENTICATOR, JwtAuthenticator(settings.auth_issuer, settings.auth_audience, settings.auth_jwks_url)
        )


class NoAuthAssembly(ServiceAssembly):
    """Everybody may do everything; for a laptop."""

    name = "auth-off"
    provides = (AUTHENTICATOR,)

    def init(self, context: InitContext) -> None:
        from cfm_core.web.auth import Anybody

        context.registry.register(AUTHENTICATOR, Anybody())


def auth_assembly(settings: Settings) -> ServiceAssembly:
    """The assembly for ``CFM_AUTH``.

    Raises:
        FatalError: it is neither ``jwt`` nor ``off``.
    """
    match settings.auth:
        case "jwt":
            return JwtAssembly()
        case "off":
            return NoAuthAssembly()
        case other:
            raise FatalError(f"CFM_AUTH is {other!r}; it must be jwt or off")
