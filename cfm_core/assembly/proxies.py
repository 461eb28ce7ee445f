"""Provides how many proxies stand in front of the API, whose word about where a request comes from is believed."""

from __future__ import annotations

from cfm_core.assembly.assembler import InitContext, ServiceAssembly
from cfm_core.assembly.service_type import ServiceType

TRUSTED_PROXIES: ServiceType[int] = ServiceType("trusted-proxies")


class ProxiesAssembly(ServiceAssembly):
    """The number of ``CFM_TRUSTED_PROXIES``."""

    name = "proxies"
    provides = (TRUSTED_PROXIES,)

    def init(self, context: InitContext) -> None:
        context.registry.register(TRUSTED_PROXIES, context.settings.trusted_proxies)
