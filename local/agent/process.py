"""An agent's process: its instance, and services of its own."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from cfm_core import deployment
from cfm_core.assembly import ServiceAssembler
from cfm_core.assembly.assembler import InitContext, ServiceAssembly
from cfm_core.assembly.http_client import HTTP_CLIENT, HttpClientAssembly
from cfm_core.assembly.secrets import SECRETS
from cfm_core.clients.http import HttpClient
from cfm_core.contracts.secrets import is_beginning
from cfm_core.settings import Settings
from local.agent.files import declaration_of


class _OneHttpClient(ServiceAssembly):
    """Lets all processes have the connections of one: they remember nothing, and a pool of them takes 20 ms to make."""

    name = HttpClientAssembly.name
    provides = HttpClientAssembly.provides

    def __init__(self, client: HttpClient) -> None:
        self._client = client

    def init(self, context: InitContext) -> None:
        context.registry.register(HTTP_CLIENT, self._client)


class Process:
    """An agent as a process of its own would have it: with services that remember nothing of another one's."""

    def __init__(self, cls: type[Any], http: HttpClient) -> None:
        settings = Settings.from_environ()
        others = (one for one in deployment.assemblies(settings) if one.name != _OneHttpClient.name)
        self._assembler = ServiceAssembler([*others, _OneHttpClient(http)], settings)
        requires = declaration_of(cls).requires
        try:
            registry = self._assembler.ensure(requires)
            self.agent: Any = cls(*(registry.resolve(key) for key in requires))
        except BaseException:
            self.end()
            raise

    def __enter__(self) -> Any:
        return self.agent

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        self._assembler.stop()


def secrets_of(cls: type[Any]) -> dict[str, str]:
    """The secrets that an activity declares, from the store that the environment names.

    Raises:
        CfmError: the environment names none, or it lacks one of them.
    """
    # Which references a deployment gives to an activity that may read all of a mount is not known here.
    names = [name for name in declaration_of(cls).secrets if not is_beginning(name)]
    if not names:
        return {}
    settings = Settings.from_environ()
    assembler = ServiceAssembler(deployment.assemblies(settings), settings)
    try:
        store = assembler.ensure([SECRETS]).resolve(SECRETS)
        return {name: store.get(name) for name in names}
    finally:
        assembler.stop()
