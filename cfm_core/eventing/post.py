"""The trigger's HTTP side: batches of events to functions, over connections that are kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from cfm_core.contracts.reply import Reply
from cfm_core.errors import RecoverableError
from cfm_core.eventing.cloudevents import BATCH
from cfm_core.eventing.connections import Connections
from cfm_core.eventing.targets import Target
from cfm_core.eventing.verdicts import NO_CONNECTION, TIMEOUT

_GRACE = timedelta(seconds=1)
"""A function that uses up its whole time has so much more to get its answer to us."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a POST. ``status`` is an HTTP status, ``NO_CONNECTION`` or ``TIMEOUT``."""

    status: int
    body: bytes = b""
    retry_after: float | None = None
    problem: str = ""
    """Why there is no answer."""

    def reply(self) -> Reply | None:
        """The report in the body; None where the body is not one."""
        try:
            return Reply.from_json(json.loads(self.body))
        except (KeyError, TypeError, AttributeError, ValueError, RecursionError):
            return None


class Poster:
    """Sends batches, each with the token that opens its function. Made and used inside the event loop.

    Args:
        authorization: gives what to show to a function, by its name; empty: nothing.
    """

    def __init__(self, authorization: Callable[[str], str]) -> None:
        self._authorization = authorization
        self._connections = Connections({"Content-Type": BATCH})

    async def post(self, target: Target, body: bytes) -> Answer:
        """Send one batch and wait for the answer, no longer than the target's timeout and a little. Never raises."""
        try:
            authorization = self._authorization(target.name)
            seconds = (target.timeout + _GRACE).total_seconds()
            response = await self._connections.post(target.url, body, seconds, authorization)
        except RecoverableError as error:
            return Answer(NO_CONNECTION, problem=f"nothing to show to it: {error}")
        except TimeoutError:
            return Answer(TIMEOUT, problem=f"no answer within {target.timeout.total_seconds():g} s")
        except OSError as error:
            return Answer(NO_CONNECTION, problem=f"not reached: {error}")
        return Answer(response.status, response.body, _retry_after(response.headers))

    def close(self) -> None:
        self._connections.close()


def _retry_after(headers: Mapping[str, str]) -> float | None:
    # The other form, a date, is left to our own backoff.
    text = headers.get("retry-after", "")
    return float(text) if text.isdecimal() else None
