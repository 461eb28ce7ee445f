"""One row of the tables: what is sent, and how it has to be refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.security.ground import BASE, Ground
from tests.security.wire import Answer, Headers

Token = Callable[[Ground], str]
"""Makes what stands behind ``Bearer`` in the header ``Authorization``."""


@dataclass(frozen=True)
class Attack:
    """Something hostile, and its refusal.

    Args:
        status: of the answer; 0: the connection is closed without one.
        says: a piece of the answer's text.
        noted: the tables that keep a note of it; all others must be as they were.
    """

    name: str
    send: Callable[[Ground], Answer]
    status: int
    says: str = ""
    noted: frozenset[str] = frozenset()


def good(ground: Ground) -> str:
    """A token with all scopes."""
    return ground.good


def request(
    name: str,
    method: str,
    path: str,
    status: int,
    says: str = "",
    *,
    token: Token | None = good,
    headers: Headers = (),
    body: Any = b"",
) -> Attack:
    """A request to the gateway; ``path`` is below the API's, or a whole one after ``//``; its variables are filled in."""

    def send(ground: Ground) -> Answer:
        whole = path[1:] if path.startswith("//") else BASE + path
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        shown = [("Authorization", f"Bearer {token(ground)}")] if token is not None else []
        return ground.api.request(method, ground.fill(whole), [*shown, *headers], raw)

    return Attack(f"{name}: {method} {path}"[:150], send, status, says)
