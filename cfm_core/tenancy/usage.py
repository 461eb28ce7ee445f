"""The answer to whoever deletes what others use."""

from __future__ import annotations

from collections.abc import Sequence

from cfm_core.errors import ConflictError


def in_use(what: str, users: Sequence[tuple[str, str]]) -> ConflictError:
    """``what`` cannot go because of ``users``, each a kind and an id."""
    named = ", ".join(f"{kind} {user}" for kind, user in users)
    return ConflictError(
        f"{what} is in use by {named}", {"usedBy": [{"kind": kind, "id": user} for kind, user in users]}
    )
