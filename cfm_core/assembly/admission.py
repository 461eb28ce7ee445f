"""Provides who is let in how often, and which pages of other origins may ask: what the edge protects itself with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfm_core.assembly.assembler import InitContext, ServiceAssembly
from cfm_core.assembly.service_type import ServiceType
from cfm_core.errors import FatalError

if TYPE_CHECKING:
    from cfm_core.web.admission import Limits
    from cfm_core.web.cors import Origins

LIMITS: ServiceType[Limits] = ServiceType("limits")
ORIGINS: ServiceType[Origins] = ServiceType("origins")


class AdmissionAssembly(ServiceAssembly):
    """The limits of ``CFM_RATE_LIMIT`` and its companions, and the origins of ``CFM_CORS_ORIGINS``.

    Raises:
        FatalError: an origin is none, or a limit allows nothing at once.
    """

    name = "admission"
    provides = (LIMITS, ORIGINS)

    def init(self, context: InitContext) -> None:
        from cfm_core.web.admission import Limits
        from cfm_core.web.cors import Origins
        from cfm_core.web.rates import Buckets

        settings = context.settings
        for name in ("rate_limit", "stranger_rate_limit"):
            rate, burst = getattr(settings, name), getattr(settings, f"{name}_burst")
            if not 0 <= rate < float("inf") or not 1 <= burst < float("inf"):
                raise FatalError(f"CFM_{name.upper()} must be at least 0 (no limit), its burst at least 1")
        try:
            origins = Origins.of(settings.cors_origins)
        except ValueError as error:
            raise FatalError(f"CFM_CORS_ORIGINS: {error}") from None
        limits = Limits(
            Buckets("subject", settings.rate_limit, settings.rate_limit_burst),
            Buckets("stranger", settings.stranger_rate_limit, settings.stranger_rate_limit_burst),
            settings.trusted_proxies,
        )
        context.registry.register(LIMITS, limits)
        context.registry.register(ORIGINS, origins)
