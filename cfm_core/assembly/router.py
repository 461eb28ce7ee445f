"""Provides HTTP routing: the route table of the functions that are declared in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfm_core.assembly.assembler import InitContext, ServiceAssembly
from cfm_core.assembly.service_type import ServiceType

if TYPE_CHECKING:
    from cfm_core.web.router import Router

ROUTER: ServiceType[Router] = ServiceType("router")


class RouterAssembly(ServiceAssembly):
    """The table of all HTTP functions declared by the time it starts; whoever serves them discovers them first."""

    name = "router"
    provides = (ROUTER,)

    def init(self, context: InitContext) -> None:
        from cfm_core.declaration import HttpFunction, declared
        from cfm_core.web.router import Router

        context.registry.register(ROUTER, Router(one for one in declared() if isinstance(one, HttpFunction)))
