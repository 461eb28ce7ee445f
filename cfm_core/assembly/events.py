"""Provides the token by which the trigger proves itself to event functions."""

from __future__ import annotations

from cfm_core.assembly.assembler import InitContext, ServiceAssembly
from cfm_core.assembly.auth import refuse_others
from cfm_core.assembly.service_type import ServiceType
from cfm_core.errors import FatalError

EVENT_TOKEN: ServiceType[str] = ServiceType("event-token")


class EventTokenAssembly(ServiceAssembly):
    """The token of ``CFM_EVENT_TOKEN``; missing only where authentication is off, on one machine."""

    name = "event-token"
    provides = (EVENT_TOKEN,)

    def init(self, context: InitContext) -> None:
        settings = context.settings
        if not settings.event_token:
            if settings.auth != "off":
                raise FatalError("CFM_EVENT_TOKEN must be set: without it anybody could send events to this function")
            refuse_others()
        context.registry.register(EVENT_TOKEN, settings.event_token)
