"""Composes a process of self-contained modules that say what they provide and what they need."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from cfm_core.assembly.registry import ServiceRegistry
from cfm_core.assembly.service_type import ServiceType
from cfm_core.dag import CyclicGraphError, Graph
from cfm_core.errors import FatalError
from cfm_core.settings import Settings


class AssemblyError(FatalError):
    """The assemblies do not fit together, or one of them failed; the text names them."""


@dataclass(frozen=True, slots=True)
class InitContext:
    """What an assembly is given at each stage of its life."""

    registry: ServiceRegistry
    settings: Settings


class ServiceAssembly:
    """One module of a process. Subclasses name what they provide and require, and override the stages that they need.

    Up, in dependency order: ``init`` registers every service in ``provides``; ``prepare`` is secondary set-up once all
    services are registered; ``start`` begins active work. Down, in reverse order: ``finalize`` ends active work while
    everything is still there; ``shutdown`` releases resources. ``finalize`` and ``shutdown`` are called for every assembly
    whose ``init`` was called, even if that failed; they must bear a half-made assembly.

    Source: CFM system architecture, "System Modularity: The Service Assembler".
    """

    name: str = ""
    provides: Sequence[ServiceType[Any]] = ()
    requires: Sequence[ServiceType[Any]] = ()
    requires_optional: Sequence[ServiceType[Any]] = ()

    def init(self, context: InitContext) -> None:
        """Register the services of ``provides``."""

    def prepare(self, context: InitContext) -> None:
        """Secondary set-up, after all services are registered."""

    def start(self, context: InitContext) -> None:
        """Begin active work."""

    def finalize(self, context: InitContext) -> None:
        """End active work; all services are still there."""

    def shutdown(self, context: InitContext) -> None:
        """Release what is held."""


class ServiceAssembler:
    """Starts just those assemblies that are asked for, and stops what it started.

    Args:
        assemblies: all that may be used; nothing of them runs before it is needed.

    Raises:
        AssemblyError: two assemblies have one name or provide one service, a required service has no provider,
            or the requirements form a cycle. Found before anything starts.
    """

    def __init__(self, assemblies: Iterable[ServiceAssembly], settings: Settings | None = None) -> None:
        self._assemblies: dict[str, ServiceAssembly] = {}
        self._providers: dict[ServiceType[Any], ServiceAssembly] = {}
        for assembly in assemblies:
            self._add(assembly)
        self._graph = self._dependency_graph()
        self._context = InitContext(ServiceRegistry(), settings or Settings())
        self._initialized: list[ServiceAssembly] = []
        self._ready: frozenset[ServiceType[Any]] = frozenset()
        self._lock = threading.Lock()

    def _add(self, assembly: ServiceAssembly) -> None:
        if not assembly.name:
            raise AssemblyError(f"{type(assembly).__name__} has no name")
        if assembly.name in self._assemblies:
            raise AssemblyError(f"two assemblies are named {assembly.name!r}")
        self._assemblies[assembly.name] = assembly
        for key in assembly.provides:
            if (other := self._providers.get(key)) is not None:
                raise AssemblyError(f"{key} is provided twice: by {other.name!r} and by {assembly.name!r}")
            self._providers[key] = assembly

    def _dependency_graph(self) -> Graph[str]:
        missing = [
            f"{assembly.name!r} requires {key}, which no assembly provides"
            for assembly in self._assemblies.values()
            for key in assembly.requires
            if key not in self._providers
        ]
        if missing:
            raise AssemblyError("; ".join(missing))
        dependencies = {
            name: [
                self._providers[key].name
                for key in (*assembly.requires, *assembly.requires_optional)
                if key in self._providers
            ]
            for name, assembly in self._assemblies.items()
        }
        try:
            return Graph(dependencies)
        except CyclicGraphError as error:
            raise AssemblyError(f"assemblies require each other in a circle: {error}") from None

    @property
    def registry(self) -> ServiceRegistry:
        return self._context.registry

    def ensure(self, keys: Iterable[ServiceType[Any]]) -> ServiceRegistry:
        """Start the providers of ``keys`` and what those need; what runs already is left alone.

        Raises:
            AssemblyError: nobody provides one of the keys, or an assembly failed to start. What this call had
                started is finalized and shut down again.
        """
        wanted = list(keys)
        if self._ready.issuperset(wanted):
            return self.registry
        with self._lock:
            for key in wanted:
                if key not in self._providers:
                    raise AssemblyError(f"no assembly provides {key}")
            needed = self._graph.ancestors(self._providers[key].name for key in wanted)
            running = {assembly.name for assembly in self._initialized}
            fresh = [
                self._assemblies[name]
                for name in self._graph.topological_order()
                if name in needed and name not in running
            ]
            self._bring_up(fresh)
        return self.registry

    def start_all(self) -> ServiceRegistry:
        """Start every assembly."""
        return self.ensure(self._providers)

    def _bring_up(self, fresh: Sequence[ServiceAssembly]) -> None:
        begun: list[ServiceAssembly] = []
        try:
            for assembly in fresh:
                begun.append(assembly)
                self._stage(assembly, "init", assembly.init)
                for key in assembly.provides:
                    if self.registry.resolve_optional(key) is None:
                        raise AssemblyError(f"{assembly.name!r} provides {key} and has not registered it")
            for assembly in fresh:
                self._stage(assembly, "prepare", assembly.prepare)
            for assembly in fresh:
                self._stage(assembly, "start", assembly.start)
        except AssemblyError as error:
            for failure in self._bring_down(begun):
                error.add_note(str(failure))
            raise
        self._initialized.extend(fresh)
        self._ready = self._ready.union(*(assembly.provides for assembly in fresh))

    def stop(self) -> None:
        """Finalize, then shut down, all that runs, in reverse order; a failing one does not keep the others from it.

        Raises:
            AssemblyError: at least one assembly failed; the notes hold the others.
        """
        with self._lock:
            running, self._initialized, self._ready = self._initialized, [], frozenset()
            failures = self._bring_down(running)
        if failures:
            first, *others = failures
            for other in others:
                first.add_note(str(other))
            raise first

    def _bring_down(self, assemblies: Sequence[ServiceAssembly]) -> list[AssemblyError]:
        failures: list[AssemblyError] = []
        for stage in ("finalize", "shutdown"):
            for assembly in reversed(assemblies):
                try:
                    self._stage(assembly, stage, getattr(assembly, stage))
                except AssemblyError as error:
                    failures.append(error)
        for assembly in assemblies:
            for key in assembly.provides:
                self.registry.remove(key)
        return failures

    def _stage(self, assembly: ServiceAssembly, stage: str, action: Callable[[InitContext], None]) -> None:
        try:
            action(self._context)
        except AssemblyError:
            raise
        except Exception as error:
            raise AssemblyError(f"assembly {assembly.name!r} failed in {stage}: {error}") from error
