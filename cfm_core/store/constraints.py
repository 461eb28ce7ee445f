"""Turns the names of database constraints into errors of the domain: the one place that knows both.

Some are rules of the virtualization model, which triggers raise under such a name; then the message and the detail are ours too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence

from cfm_core.errors import CfmError, ConflictError, FieldError, RefusedError, ValidationError

_BY_NAME: dict[str, Callable[[], CfmError]] = {
    "cells_external_id_key": lambda: ConflictError("a cell with this externalId exists already"),
    "participant_profiles_identifier_key": lambda: ConflictError(
        "a participant profile with this identifier exists already and is not disposed"
    ),
    "participant_profiles_tenant_id_fkey": lambda: ValidationError(
        "Bad request: cannot delete tenant with participants"
    ),
    "roles_name_key": lambda: ConflictError("a role with this name exists already"),
    "users_first_administrator": lambda: ConflictError("there is a user already who may do everything"),
    "users_subject_key": lambda: ConflictError("a user with this subject exists already"),
}
RULES = frozenset({"participant_profiles_dataspaces", "participant_profiles_roles", "participant_profiles_cells"})
"""Their message says what is wrong with a participant profile that is to be deployed, their detail points at it."""
USES = frozenset(
    {
        *("cells_in_use", "cells_external_id_in_use", "dataspace_profiles_in_use", "dataspace_deployments_in_use"),
        "roles_in_use",
    }
)
"""Their message names what cannot go, their detail is an array of the kinds and ids of its users."""


class BrokenRuleError(RefusedError):
    """A rule of the model that whoever asked has seen hold, and that does not hold any more."""


def error_for(constraint: str, message: str = "", detail: str = "") -> CfmError | None:
    """The error that a violation of ``constraint`` means to a caller; None where none is expected to happen."""
    if constraint in RULES:
        return BrokenRuleError(message, [FieldError(detail, message)])
    if constraint in USES:
        return in_use(message, json.loads(detail))
    make = _BY_NAME.get(constraint)
    return make() if make else None


def in_use(what: str, users: Iterable[Sequence[str]]) -> ConflictError:
    """``what`` cannot go because of ``users``, each a kind and an id."""
    used_by = [{"kind": kind, "id": user} for kind, user in users]
    named = ", ".join(f"{user['kind']} {user['id']}" for user in used_by)
    return ConflictError(f"{what} is in use by {named}", {"usedBy": used_by})
