"""The answer to whoever deletes what others use."""

from __future__ import annotations

from collections.abc import Sequence

from cfm_core.errors import ConflictError
from cfm_core.tenancy.cells.model import Cell


def in_use(what: str, users: Sequence[tuple[str, str]]) -> ConflictError:
    """``what`` cannot go because of ``users``, each a kind and an id."""
    named = ", ".join(f"{kind} {user}" for kind, user in users)
    return ConflictError(
        f"{what} is in use by {named}", {"usedBy": [{"kind": kind, "id": user} for kind, user in users]}
    )


def check_external_id(before: Cell, after: Cell, users: Sequence[Sequence[str]]) -> None:
    """Raises ConflictError where participants' agents know a cell by an external id that would not be its any more."""
    knowing = [(kind, user) for kind, user in users if kind == "participantProfile"]
    if before.external_id != after.external_id and knowing:
        raise in_use(f"the external id of cell {before.id}", knowing)
