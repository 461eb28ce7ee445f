"""Tells the engine that an attempt is at work."""

from __future__ import annotations

import logging
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from cfm_core.contracts.activity import Address
from cfm_core.errors import CfmError

if TYPE_CHECKING:
    from cfm_core.clients.http import HttpClient

_TIMEOUT = timedelta(seconds=5)
_SUPERSEDED = frozenset({404, 409})

log = logging.getLogger(__name__)


class Heartbeats:
    """The way of signs of life from this process; safe to share between threads."""

    def __init__(self, client: HttpClient | None = None) -> None:
        self._client = client
        self._lock = threading.Lock()

    def send(self, address: Address | None, progress: Any) -> bool:
        """Send one; False where nobody waits for the attempt any more. What does not arrive is no failure: the next one may."""
        if address is None:
            return True
        try:
            answer = self._http().send(
                "POST", address.url, json={"token": address.token, "progress": progress}, expect=_SUPERSEDED
            )
        except CfmError as error:
            log.warning("a heartbeat has not arrived: %s", error)
            return True
        return answer.status not in _SUPERSEDED

    def _http(self) -> HttpClient:
        with self._lock:
            if self._client is None:
                # Most agents never send any, and need not pay for the library.
                from cfm_core.clients.destinations import Destinations
                from cfm_core.clients.http import HttpClient

                # The address has come with the activity.
                self._client = HttpClient(_TIMEOUT, only_to=Destinations.from_environ())
            return self._client
