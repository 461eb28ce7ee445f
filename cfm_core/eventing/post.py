"""The trigger's HTTP side: batches of events to functions, over connections that are kept."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import aiohttp

from cfm_core.contracts.reply import Reply
from cfm_core.eventing.cloudevents import BATCH
from cfm_core.eventing.targets import Target
from cfm_core.eventing.verdicts import NO_CONNECTION, TIMEOUT

_GRACE = timedelta(seconds=1)
"""A function that uses up its whole time has so much more to get its answer to us."""
_CONNECT_SECONDS = 5.0
_KEPT_SECONDS = 25.0


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
    """Sends batches with the trigger's token. Made and used inside the event loop."""

    def __init__(self, token: str) -> None:
        headers = {"Content-Type": BATCH}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEPT_SECONDS),
            headers=headers,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def post(self, target: Target, body: bytes) -> Answer:
        """Send one batch and wait for the answer, no longer than the target's timeout and a little. Never raises."""
        seconds = (target.timeout + _GRACE).total_seconds()
        try:
            async with self._session.post(
                target.url,
                data=body,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=seconds, sock_connect=min(seconds, _CONNECT_SECONDS)),
            ) as response:
                return Answer(response.status, await response.read(), _retry_after(response.headers))
        except aiohttp.ConnectionTimeoutError:
            return Answer(NO_CONNECTION, problem="the connection was not accepted in time")
        except TimeoutError:
            return Answer(TIMEOUT, problem=f"no answer within {target.timeout.total_seconds():g} s")
        except (aiohttp.ClientError, OSError) as error:
            return Answer(NO_CONNECTION, problem=f"not reached: {error}")

    async def close(self) -> None:
        await self._session.close()


def _retry_after(headers: Any) -> float | None:
    # The other form, a date, is left to our own backoff.
    text: str = headers.get("Retry-After", "")
    return float(text) if text.isdecimal() else None
