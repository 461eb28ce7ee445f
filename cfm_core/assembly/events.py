"""Provides who tells whether events come from the trigger."""

from __future__ import annotations

from cfm_core.assembly.assembler import InitContext, ServiceAssembly
from cfm_core.assembly.auth import refuse_others
from cfm_core.assembly.service_type import ServiceType
from cfm_core.contracts.event_tokens import Doorkeeper
from cfm_core.errors import FatalError

DOORKEEPER: ServiceType[Doorkeeper] = ServiceType("event-doorkeeper")


class DoorkeeperAssembly(ServiceAssembly):
    """The tokens of ``CFM_EVENT_TOKENS_FILE`` or of ``CFM_EVENT_TOKEN``; missing only where authentication is off, on one
    machine."""

    name = "event-doorkeeper"
    provides = (DOORKEEPER,)

    def init(self, context: InitContext) -> None:
        settings = context.settings
        if not (settings.event_tokens_file or settings.event_token):
            if settings.auth != "off":
                raise FatalError(
                    "CFM_EVENT_TOKENS_FILE or CFM_EVENT_TOKEN must be set: without it anybody could send events to this function"
                )
            refuse_others()
        context.registry.register(DOORKEEPER, Doorkeeper(settings.event_tokens_file, settings.event_token))
