"""Who asks for what is being done: told by the edge, and handed on by the store to whatever keeps record of changes."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Whose request it is that changes something.

    Attributes:
        actor: the subject of the token.
        issuer: of the token; empty where none is asked for.
        address: from which the request came; empty where nobody knows.
        reason: why, without secrets; empty where none was given.
    """

    actor: str
    issuer: str = ""
    request_id: str
    address: str = ""
    reason: str = ""

    def __str__(self) -> str:
        """JSON, as the database is told."""
        return json.dumps(
            {
                "actor": self.actor,
                "issuer": self.issuer,
                "requestId": self.request_id,
                "address": self.address,
                "reason": self.reason,
            }
        )


_caller: ContextVar[tuple[Caller, str] | None] = ContextVar("caller", default=None)


def current() -> Caller | None:
    """Who asks; None where nobody does, as for what is done on behalf of an event."""
    asking = _caller.get()
    return asking and asking[0]


def current_text() -> str:
    """Who asks, as JSON; empty where nobody does."""
    asking = _caller.get()
    return asking[1] if asking else ""


@contextlib.contextmanager
def acting(caller: Caller) -> Iterator[None]:
    """Do what is in the block for ``caller``."""
    token = _caller.set((caller, str(caller)))
    try:
        yield
    finally:
        _caller.reset(token)
