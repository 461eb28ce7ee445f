"""Declaring a function: one declaration gives its target, route or subject, scope and services; everything else reads it.

    @http_function("POST", "/api/v1alpha1/tenants", scope=TM_WRITE, requires=[TENANTS])
    def create_tenant(request: Request, tenants: Tenants) -> Response: ...

    @event_function(subject=subjects.MANIFESTS, data=OrchestrationManifest, batch=256, requires=[ENGINE])
    def start_orchestrations(events: Sequence[CloudEvent[OrchestrationManifest]], engine: Engine) -> Reply: ...

What the decorator leaves in the module is a target for functions-framework: a plain function of a Flask request. The
handler itself stays reachable as ``create_tenant.declaration.handler``.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import flask
from pydantic import BaseModel

from cfm_core.assembly.service_type import ServiceType
from cfm_core.contracts.activity import ActivityTypeAnnouncement
from cfm_core.errors import FatalError


@dataclass(frozen=True, slots=True)
class HttpFunction:
    """A function that answers one method on one path.

    ``path`` names its variables in braces, in the handler's spelling: ``/api/v1alpha1/tenants/{tenant_id}``.
    ``scope`` is None for what needs no token.
    """

    name: str
    source: Path
    handler: Callable[..., flask.Response]
    requires: tuple[ServiceType[Any], ...]
    method: str
    path: str
    scope: str | None
    pattern: re.Pattern[str] = field(compare=False)

    def match(self, path: str) -> dict[str, str] | None:
        """The path's variables, or None where this function does not answer that path. A trailing slash is no matter."""
        found = self.pattern.fullmatch(path)
        return found.groupdict() if found else None


@dataclass(frozen=True, slots=True)
class EventFunction:
    """A function that takes batches of CloudEvents.

    Either ``subject`` says where its events come from, or ``every`` how often it is woken with an empty one.
    """

    name: str
    source: Path
    handler: Callable[..., Any]
    requires: tuple[ServiceType[Any], ...]
    subject: str
    data: type[BaseModel] | None
    """What each event's data has to be; None for a woken function, whose events carry nothing."""
    batch: int
    """The greatest number of events in one call."""
    slots: int
    """The greatest number of calls at a time."""
    timeout: timedelta
    """How long a caller waits for the answer."""
    every: timedelta | None = None
    activity: ActivityTypeAnnouncement | None = None
    """For an agent: the activity type that it serves, with its defaults."""


Declaration = HttpFunction | EventFunction


class Target(Protocol):
    """What a decorator leaves in the module."""

    declaration: Declaration
    __name__: str

    def __call__(self, request: flask.Request) -> flask.Response: ...


_declared: dict[str, Declaration] = {}


def http_function(
    method: str, path: str, *, scope: str | None, requires: Sequence[ServiceType[Any]] = ()
) -> Callable[[Callable[..., flask.Response]], Target]:
    """Declare a function that answers ``method`` on ``path``.

    The handler is called with the request, then the required services, then the path's variables by name.
    """

    def declare(handler: Callable[..., flask.Response]) -> Target:
        pattern = re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(path).rstrip("/")) + "/?")
        return target_of(
            HttpFunction(handler.__name__, _source(handler), handler, tuple(requires), method, path, scope, pattern)
        )

    return declare


def event_function(
    *,
    subject: str = "",
    every: timedelta | None = None,
    data: type[BaseModel] | None = None,
    batch: int = 256,
    slots: int = 2,
    timeout: timedelta = timedelta(seconds=30),
    requires: Sequence[ServiceType[Any]] = (),
) -> Callable[[Callable[..., Any]], Target]:
    """Declare a function that takes the CloudEvents of ``subject``, or is woken ``every`` so often.

    The handler is called with the events, their data checked against ``data``, then the required services; it returns a
    ``Reply``. What it raises fails the whole batch.
    """

    def declare(handler: Callable[..., Any]) -> Target:
        return target_of(
            EventFunction(
                handler.__name__,
                _source(handler),
                handler,
                tuple(requires),
                subject,
                data,
                batch,
                slots,
                timeout,
                every,
            )
        )

    return declare


def target_of(declaration: Declaration) -> Target:
    """Register a declaration and make the function that functions-framework serves for it.

    Raises:
        FatalError: another function has the same name or answers the same route.
    """
    known = _declared.get(declaration.name)
    # functions-framework executes a function's file once more, under a name of its own: the same place, the same function.
    if known is not None and known.source != declaration.source:
        raise FatalError(f"two functions are named {declaration.name}: in {known.source} and in {declaration.source}")
    _declared[declaration.name] = declaration

    if isinstance(declaration, HttpFunction):
        http = declaration

        def target(request: flask.Request) -> flask.Response:
            from cfm_core.web import edge

            return edge.answer(http, request)
    else:
        takes_events = declaration

        def target(request: flask.Request) -> flask.Response:
            from cfm_core.eventing import edge

            return edge.answer(takes_events, request)

    target.__name__ = target.__qualname__ = declaration.name
    target.__doc__ = declaration.handler.__doc__
    target.__module__ = declaration.handler.__module__
    target.declaration = declaration  # type: ignore[attr-defined]
    return target  # type: ignore[return-value]


def declared() -> tuple[Declaration, ...]:
    """Every function declared so far in this process."""
    return tuple(_declared.values())


def discover(package: ModuleType) -> tuple[Declaration, ...]:
    """Import every module of ``package``, and give the functions declared below it, in the order of their files."""
    root = Path(inspect.getfile(package)).parent
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
    return tuple(
        declaration
        for declaration in sorted(declared(), key=lambda one: str(one.source))
        if root in declaration.source.parents
    )


def _source(handler: Callable[..., Any]) -> Path:
    return Path(inspect.getfile(handler)).resolve()
