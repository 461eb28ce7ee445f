"""Answers that are kept, so that a request which is repeated with its key takes effect once."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from cfm_core.errors import ClientError, ConflictError, RefusedError

KEPT = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class RequestKey:
    """What makes two requests the same one: who sends it, where to, and the key that they gave it."""

    issuer: str
    subject: str
    method: str
    path: str
    key: str

    def __str__(self) -> str:
        return json.dumps([self.issuer, self.subject, self.method, self.path, self.key])


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """An answer as it was given the first time."""

    status: int
    headers: Mapping[str, str]
    text: str


class IdempotentAnswers(Protocol):
    """Keeps the answers of requests for ``KEPT``."""

    def once(
        self,
        key: RequestKey,
        fingerprint: str,
        work: Callable[[], KeptAnswer],
        refused: Callable[[ClientError], KeptAnswer],
    ) -> tuple[KeptAnswer, bool]:
        """Do the work and keep its answer, both or nothing; or give the answer that is kept.

        Args:
            fingerprint: of what is asked; the same key with another one is refused.
            refused: gives the answer to a request that cannot succeed; what the work has done till then is undone.

        Returns:
            The answer, and whether it was kept before.

        Raises:
            ConflictError: the first request is still being worked on.
            RefusedError: the key belongs to a request that asks for something else.
            CfmError: the work failed in a way that a repetition may mend; nothing is kept.
        """
        ...

    def forget(self) -> None:
        """Forget the answers that have been kept long enough."""
        ...


def still_running() -> ConflictError:
    return ConflictError("the first request with this Idempotency-Key is still being worked on", {"retryable": True})


def check_same(kept: str, fingerprint: str) -> None:
    """Raises RefusedError where two requests with one key ask for different things."""
    if kept != fingerprint:
        raise RefusedError("this Idempotency-Key belongs to a request with another body")
