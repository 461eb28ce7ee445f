"""Provides the HTTP client: one for all calls of a process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfm_core.assembly.assembler import InitContext, ServiceAssembly
from cfm_core.assembly.service_type import ServiceType

if TYPE_CHECKING:
    from cfm_core.clients.http import HttpClient

HTTP_CLIENT: ServiceType[HttpClient] = ServiceType("http-client")


class HttpClientAssembly(ServiceAssembly):
    """The client with the timeout of ``CFM_REQUEST_TIMEOUT``."""

    name = "http-client"
    provides = (HTTP_CLIENT,)

    def __init__(self) -> None:
        self._client: HttpClient | None = None

    def init(self, context: InitContext) -> None:
        from cfm_core.clients.http import HttpClient

        self._client = HttpClient(context.settings.request_timeout)
        context.registry.register(HTTP_CLIENT, self._client)

    def shutdown(self, context: InitContext) -> None:
        if self._client is not None:
            self._client.close()
