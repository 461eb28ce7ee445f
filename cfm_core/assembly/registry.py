"""Where assemblies leave the services that they provide, and find those that they require."""

from __future__ import annotations

from typing import Any, TypeVar

from cfm_core.assembly.service_type import ServiceType
from cfm_core.errors import FatalError

T = TypeVar("T")


class ServiceRegistry:
    """The services of one process by their keys."""

    def __init__(self) -> None:
        self._services: dict[ServiceType[Any], Any] = {}

    def register(self, key: ServiceType[T], service: T) -> None:
        """Make ``service`` available under ``key``.

        Raises:
            FatalError: the key has a service already.
        """
        if key in self._services:
            raise FatalError(f"service {key} is registered already")
        self._services[key] = service

    def resolve(self, key: ServiceType[T]) -> T:
        """Give the service of ``key``.

        Raises:
            FatalError: no assembly has registered it; an assembly that needs it must name it in ``requires``.
        """
        try:
            service: T = self._services[key]
        except KeyError:
            raise FatalError(f"service {key} is not registered; does the one who needs it require it?") from None
        return service

    def resolve_optional(self, key: ServiceType[T]) -> T | None:
        """Give the service of ``key``, or None where no assembly provides it."""
        service: T | None = self._services.get(key)
        return service

    def remove(self, key: ServiceType[Any]) -> None:
        """Forget the service of ``key``, if there is one."""
        self._services.pop(key, None)
