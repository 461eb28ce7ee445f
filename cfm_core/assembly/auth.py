"""Provides the authentication hook: what turns an Authorization header into a principal."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

from cfm_core.assembly import listeners
from cfm_core.assembly.assembler import InitContext, ServiceAssembly
from cfm_core.assembly.service_type import ServiceType
from cfm_core.errors import FatalError
from cfm_core.settings import Settings

if TYPE_CHECKING:
    from cfm_core.web.auth import Authenticator
    from cfm_core.web.tokens import TrustedIssuer

log = logging.getLogger(__name__)

AUTHENTICATOR: ServiceType[Authenticator] = ServiceType("authenticator")


class JwtAssembly(ServiceAssembly):
    """Bearer tokens of the issuers that are configured."""

    name = "auth-jwt"
    provides = (AUTHENTICATOR,)

    def init(self, context: InitContext) -> None:
        from cfm_core.clients.destinations import Destinations
        from cfm_core.web.tokens import JwtAuthenticator

        try:
            elsewhere = Destinations.of(context.settings.outbound_networks)
            authenticator = JwtAuthenticator(trusted_issuers(context.settings), elsewhere=elsewhere)
        except ValueError as error:
            raise FatalError(f"the issuers of CFM_AUTH_ISSUER and CFM_AUTH_ISSUERS cannot be used: {error}") from error
        context.registry.register(AUTHENTICATOR, authenticator)


class NoAuthAssembly(ServiceAssembly):
    """Everybody may do everything; for a laptop.

    Raises:
        FatalError: the process can be reached from elsewhere, as far as it knows.
    """

    name = "auth-off"
    provides = (AUTHENTICATOR,)

    def init(self, context: InitContext) -> None:
        from cfm_core.web.auth import Anybody

        refuse_others()
        log.warning("CFM_AUTH=off: whoever reaches this process may do everything, without a token")
        context.registry.register(AUTHENTICATOR, Anybody())


def refuse_others() -> None:
    """Raises FatalError where this process takes connections of other machines: for one that asks for no tokens."""
    if where := listeners.beyond_loopback():
        raise FatalError(
            f"CFM_AUTH=off, and this process listens at {', '.join(where)}, where others reach it: "
            "set CFM_AUTH=jwt, or listen at 127.0.0.1"
        )


def trusted_issuers(settings: Settings) -> list[TrustedIssuer]:
    """The issuers that are configured.

    Raises:
        FatalError: there is none, or what is said of one is not complete.
    """
    import pydantic

    from cfm_core.web.tokens import TrustedIssuer

    try:
        described = json.loads(settings.auth_issuers or "[]")
        found = pydantic.TypeAdapter(list[TrustedIssuer]).validate_python(described)
    except pydantic.ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise FatalError(f"CFM_AUTH_ISSUERS is not an array of issuers: {problems}") from None
    except ValueError as error:
        raise FatalError(f"CFM_AUTH_ISSUERS is not JSON: {error}") from None
    if settings.auth_issuer and settings.auth_audience:
        first = TrustedIssuer(
            issuer=settings.auth_issuer,
            audience=settings.auth_audience,
            audience_claim=settings.auth_audience_claim,
            jwks_url=settings.auth_jwks_url,
        )
        found.insert(0, first)
    elif settings.auth_issuer or settings.auth_audience or settings.auth_jwks_url or not found:
        raise FatalError(
            "CFM_AUTH_ISSUER and CFM_AUTH_AUDIENCE must both be set, or CFM_AUTH_ISSUERS (or CFM_AUTH=off on a laptop)"
        )
    return found


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
