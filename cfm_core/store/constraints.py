"""Turns the names of database constraints into errors of the domain: the one place that knows both."""

from __future__ import annotations

from collections.abc import Callable

from cfm_core.errors import CfmError, ConflictError, ValidationError

_BY_NAME: dict[str, Callable[[], CfmError]] = {
    "cells_external_id_key": lambda: ConflictError("a cell with this externalId exists already"),
    "participant_profiles_identifier_key": lambda: ConflictError(
        "a participant profile with this identifier exists already and is not disposed"
    ),
    "participant_profiles_tenant_id_fkey": lambda: ValidationError(
        "Bad request: cannot delete tenant with participants"
    ),
}


def error_for(constraint: str) -> CfmError | None:
    """The error that a violation of ``constraint`` means to a caller; None where none is expected to happen."""
    make = _BY_NAME.get(constraint)
    return make() if make else None
