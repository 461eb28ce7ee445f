"""What the answer to a delivery means for the event: the delivery contract, as functions without state."""

from __future__ import annotations

import random
from enum import Enum

NO_CONNECTION = 0
"""Stands where a status would: the function was not reached, or the connection broke."""
TIMEOUT = -1
"""Stands where a status would: no answer in time."""

TOO_LARGE = 413
CRASHED = 500

_AGAIN = frozenset({NO_CONNECTION, TIMEOUT, 404, 408, 409, 425, 429})
_BARRED = frozenset({401, 403})
_OVERLOADED = frozenset({NO_CONNECTION, 429, 503, 504})

_FIRST_DELAY = 0.1
_LONGEST_DELAY = 30.0
_LONGEST_ASKED_FOR = 300.0


class Verdict(Enum):
    DONE = "done"
    AGAIN = "again"
    """The same event may succeed later."""
    BARRED = "barred"
    """The function does not accept our token: no fault of the event."""
    DEAD = "dead"
    """No repetition will help."""


def verdict(status: int) -> Verdict:
    """What a status, or what stands for one, means for the event."""
    if 200 <= status < 300:
        return Verdict.DONE
    if status in _BARRED:
        return Verdict.BARRED
    if status in _AGAIN or status >= 500:
        return Verdict.AGAIN
    return Verdict.DEAD


def is_overload(status: int) -> bool:
    """Whether the function asks for less at a time."""
    return status in _OVERLOADED


def backoff(attempts: int) -> float:
    """Seconds to wait after so many failed attempts, without jitter."""
    return float(min(_LONGEST_DELAY, _FIRST_DELAY * 2 ** min(attempts - 1, 30)))


def jitter() -> float:
    """What ``delay`` is spread by: drawn once for events that should stay together."""
    return random.random()  # noqa: S311 - spreads calls over time, and is no secret


def delay(attempts: int, retry_after: float | None = None, spread: float = 0.0) -> float:
    """Seconds to wait before the next attempt: the backoff or what the function asked for, and up to a quarter more."""
    return max(backoff(attempts), min(retry_after or 0.0, _LONGEST_ASKED_FOR)) * (1 + spread / 4)
