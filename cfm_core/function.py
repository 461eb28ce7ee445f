"""Declaring a function: one declaration gives its target, route or subject, scope and services; everything else reads it.

    @http_function("POST", "/api/v1alpha1/tenants", scope=TM_WRITE, rights=["create tenant"],
                   requires=[TENANTS], body=NewTenant, gives={201: TenantDocument})
    def create_tenant(request: Request, tenants: Tenants, new: NewTenant) -> Response: ...

    @event_function(subject=subjects.MANIFESTS, data=OrchestrationManifest, batch=256, requires=[ENGINE])
    def start_orchestrations(events: Sequence[CloudEvent[OrchestrationManifest]], engine: Engine) -> Reply: ...

What the decorator leaves in the module is a target for functions-framework: a plain function of a Flask request. The
handler itself stays reachable as ``create_tenant.declaration.handler``.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import flask
from pydantic import BaseModel

from cfm_core.access.model import need_of
from cfm_core.assembly.service_type import ServiceType
from cfm_core.declaration import Declaration, EventFunction, HttpFunction, register


class Target(Protocol):
    """What a decorator leaves in the module."""

    declaration: Declaration
    __name__: str

    def __call__(self, request: flask.Request) -> flask.Response: ...


def http_function(
    method: str,
    path: str,
    *,
    scope: str | None,
    rights: Sequence[str] = (),
    requires: Sequence[ServiceType[Any]] = (),
    body: type[BaseModel] | None = None,
    body_is_optional: bool = False,
    lists: Any = None,
    gives: Mapping[int, Any] | None = None,
    media: str = "application/json",
    query: Mapping[str, Any] = MappingProxyType({}),
    acts: bool = False,
) -> Callable[[Callable[..., flask.Response]], Target]:
    """Declare a function that answers ``method`` on ``path``.

    The handler is called with the request, then the required services, then the body as ``body``, or for a list what is
    asked for (``Asked``), then the path's variables by name.

    Args:
        rights: what users, and clients with roles, have to have a right for beside the scope, such as ``read tenant``; where a
            service knows bounds it looks at them, else the right must have none.
        body_is_optional: no body at all stands for ``{}``.
        lists: the shape of the entries of a list. It is asked for by the URL, or in a POST by a ``QueryRequest``.
        gives: the shape of the answer for each status of a success, None for an empty one; a list's is known.
        media: the content type of an answer of success.
        query: the shapes of what the handler itself reads from the URL, by name; none of them is required.
        acts: for a POST, that it changes the entity which the path names, as PUT, PATCH and DELETE do: in the version that
            the caller has in mind.
    """

    def declare(handler: Callable[..., flask.Response]) -> Target:
        pattern = re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/\n]+)", re.escape(path).rstrip("/")) + "/?")
        return target_of(
            HttpFunction(
                handler.__name__,
                _source(handler),
                handler,
                tuple(requires),
                method,
                path,
                scope,
                tuple(map(need_of, rights)),
                pattern,
                body,
                body_is_optional,
                lists,
                gives if gives is not None else {200: list[lists] if lists is not None else None},
                media,
                query,
                acts or method in {"PUT", "PATCH", "DELETE"},
            )
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
        FatalError: a function declared in another file has the same name.
    """
    register(declaration)

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


def _source(handler: Callable[..., Any]) -> Path:
    return Path(inspect.getfile(handler)).resolve()
