"""Agents in files."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from cfm_core.agent.declaration import ActivityDeclaration
from cfm_core.declaration import discover
from cfm_core.errors import FatalError, ValidationError


def declaration_of(cls: type[Any]) -> ActivityDeclaration:
    """What the decorator of an activity was told."""
    declaration: ActivityDeclaration = cls.__activity__
    return declaration


def activities_in(file: Path, activity_type: str = "") -> tuple[type[Any], ...]:
    """The activities that a file declares, in its order; of one type only, if that is given.

    Raises:
        FatalError: the file is none of Python, or declares no activity.
        ValidationError: it declares none of that type.
    """
    from local.server import functions_of

    functions_of(file)
    found = _declared_in(sys.modules[file.resolve().stem])
    if not found:
        raise FatalError(f"{file} declares no activity; an agent is a class decorated with @activity(...)")
    chosen = tuple(cls for cls in found if activity_type in {"", declaration_of(cls).activity_type})
    if not chosen:
        known = ", ".join(declaration_of(cls).activity_type for cls in found)
        raise ValidationError(f"{file} declares no activity type {activity_type!r}; there is {known}")
    return chosen


def project_activities() -> dict[str, type[Any]]:
    """The activities of the project's own agents, by type."""
    import functions.agents

    modules = {one.handler.__module__ for one in discover(functions.agents)}
    found: Iterable[type[Any]] = (cls for name in sorted(modules) for cls in _declared_in(sys.modules[name]))
    return {declaration_of(cls).activity_type: cls for cls in found}


def _declared_in(module: ModuleType) -> tuple[type[Any], ...]:
    return tuple(
        value
        for value in vars(module).values()
        if isinstance(value, type) and "__activity__" in vars(value) and value.__module__ == module.__name__
    )
