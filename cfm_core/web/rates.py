"""How often somebody may ask: a token bucket for each key, in the memory of this process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable

from cfm_core.errors import TooManyRequestsError

MOST_KEYS = 10_000
"""So many keys are remembered; one is forgotten when as many others have asked since."""


class Buckets:
    """A bucket for each key: ``burst`` requests at once, and ``rate`` a second from then on. Safe between threads.

    Of a bucket only the instant is kept at which it will be full again, so that nothing has to be done as time goes by, and
    what has been forgotten is as good as full.

    Args:
        name: what the limit is called, for those who meet it.
        rate: requests a second; 0 allows any number.
        clock: seconds since any beginning.
    """

    def __init__(
        self,
        name: str,
        rate: float,
        burst: float,
        *,
        most: int = MOST_KEYS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._rate = rate
        self._burst = burst
        self._window = burst / rate if rate else 0.0
        self._most = most
        self._clock = clock
        self._lock = threading.Lock()
        self._full_at: dict[Hashable, float] = {}
        self._before: dict[Hashable, float] = {}

    def take(self, key: Hashable) -> None:
        """Count a request of ``key``.

        Raises:
            TooManyRequestsError: it is one too many, and is not counted.
        """
        if not self._rate:
            return
        now = self._clock()
        with self._lock:
            full_at = max(self._of(key), now) + 1 / self._rate
            missing = full_at - now - self._window
            # What is missing by rounding alone is there.
            if missing <= 1e-9:
                self._keep(key, full_at)
                return
        raise self._error(missing)

    def require(self, key: Hashable) -> None:
        """Raises TooManyRequestsError where ``take`` would; counts nothing."""
        if not self._rate:
            return
        missing = self._of(key) - self._clock() + 1 / self._rate - self._window
        if missing > 1e-9:
            raise self._error(missing)

    def _of(self, key: Hashable) -> float:
        return self._full_at.get(key) or self._before.get(key, 0.0)

    def _keep(self, key: Hashable, full_at: float) -> None:
        self._full_at[key] = full_at
        if len(self._full_at) >= self._most:
            self._before, self._full_at = self._full_at, {}

    def _error(self, missing: float) -> TooManyRequestsError:
        return TooManyRequestsError(self._name, self._rate, self._burst, missing)
