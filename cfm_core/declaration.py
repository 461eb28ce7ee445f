"""What a function is declared to be, and the register of all that are declared in this process."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import flask
from pydantic import BaseModel

from cfm_core.access.model import Need
from cfm_core.assembly.service_type import ServiceType
from cfm_core.contracts.activity import ActivityTypeAnnouncement
from cfm_core.errors import FatalError


@dataclass(frozen=True, slots=True)
class HttpFunction:
    """A function that answers one method on one path.

    ``path`` names its variables in braces, in the handler's spelling: ``/api/v1alpha1/tenants/{tenant_id}``.
    ``scope`` is None for what needs no token. Who is a user, or carries roles, needs all of ``rights`` besides, with some
    at least of a kind; without any they cannot call it.
    """

    name: str
    source: Path
    handler: Callable[..., flask.Response]
    requires: tuple[ServiceType[Any], ...]
    method: str
    path: str
    scope: str | None
    rights: tuple[Need, ...]
    pattern: re.Pattern[str] = field(compare=False)
    body: type[BaseModel] | None = None
    """What the request's body has to be; None where it has none."""
    body_is_optional: bool = False
    """Whether no body at all stands for ``{}``."""
    lists: Any = None
    """The shape of the entries, for a function that answers with a page of a list; else None."""
    gives: Mapping[int, Any] = field(default_factory=dict, compare=False)
    """The shape of the answer for each status of a success; None for an empty one."""
    media: str = "application/json"
    """The content type of an answer of success."""
    query: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """What the handler reads from the URL by itself: the shape of each parameter. None of them is required."""
    acts: bool = False
    """Whether it changes the entity that the path names."""

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that it answers: HEAD beside GET."""
        return ("GET", "HEAD") if self.method == "GET" else (self.method,)

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
    """For an agent that runs activities: the type that it serves, with its defaults."""
    of_agent: bool = False
    """Whether it is part of an agent: such a function holds no credentials of the platform, and has no part in the outbox."""


Declaration = HttpFunction | EventFunction


_declared: dict[str, Declaration] = {}


def register(declaration: Declaration) -> None:
    """Take a declaration into the register.

    Raises:
        FatalError: a function declared in another file has the same name.
    """
    known = _declared.get(declaration.name)
    # functions-framework executes a function's file once more, under a name of its own: the same place, the same function.
    if known is not None and known.source != declaration.source:
        raise FatalError(f"two functions are named {declaration.name}: in {known.source} and in {declaration.source}")
    _declared[declaration.name] = declaration


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
