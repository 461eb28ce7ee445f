"""The relay: takes rows of the outbox in hand, keeps them while their events are on the way, and deletes them.

The database driver blocks, so each of the three runs in a thread; everything else lives in the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Protocol

from cfm_core.contracts.reply import OutboxRow
from cfm_core.errors import CfmError
from cfm_core.store.outbox import LEASE

log = logging.getLogger(__name__)

_POLL_SECONDS = 1.0
"""How often the outbox is looked into although nobody has woken us."""
_MOST_CLAIMED = 200
_MOST_HELD = 2000
_MOST_EVENTS_HELD = 20_000
"""No further rows are claimed while so many rows, or so many events, are in hand."""
_RENEW_AFTER = LEASE.total_seconds() * 0.45
_RENEW_EVERY = LEASE.total_seconds() * 0.15
_RETRY_SECONDS = 0.5
_GATHER_SECONDS = 0.02
"""So long after a row is finished others may be, to be deleted with it: for a lone deployment that is one statement for five."""
_THREADS = 3


class Outbox(Protocol):
    """What the relay does with the outbox; each of it blocks."""

    def claim(self, most: int) -> list[OutboxRow]: ...

    def renew(self, ids: Iterable[int]) -> None: ...

    def delete(self, ids: Iterable[int]) -> None: ...


class Row:
    """A row in hand; as the origin of its events it is deleted once all of them have come to an end."""

    def __init__(self, relay: Relay, row_id: int, events: int) -> None:
        self.id = row_id
        self._relay = relay
        self._open = events
        if events == 0:
            relay.finish(row_id)

    def settled(self) -> None:
        self._open -= 1
        if self._open == 0:
            self._relay.finish(self.id)

    def buried(self) -> None:
        self.settled()

    def given_back(self, delay: float) -> None:
        """Let the lease run out: whoever claims the row then delivers all its events again."""
        self._relay.let_go(self.id)


class Relay:
    """The rows that this process has in hand.

    Args:
        outbox: where they are.
        take: is given the rows that were claimed, and says how many of them it has use for now.
    """

    def __init__(self, outbox: Outbox, take: Callable[[Sequence[OutboxRow]], int]) -> None:
        self._outbox = outbox
        self._take = take
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="outbox")
        self._held: dict[int, float] = {}
        self._events: dict[int, int] = {}
        self._events_held = 0
        self._finished: list[int] = []
        self._woken = asyncio.Event()
        self._finished_some = asyncio.Event()
        self._claiming = True
        self.reaches_database = False

    @property
    def held(self) -> int:
        """How many rows are in hand."""
        return len(self._held)

    @property
    def _is_full(self) -> bool:
        return len(self._held) >= _MOST_HELD or self._events_held >= _MOST_EVENTS_HELD

    def wake(self) -> None:
        """Claim what can be claimed; during a claim: once more afterwards."""
        self._woken.set()

    def take(self, row: OutboxRow) -> None:
        """Take a row in hand that somebody has brought; where there is no room for it, it stays where it is."""
        if self._claiming and not self._is_full:
            self._take([row])

    def hold(self, row: OutboxRow) -> Row | None:
        """Take a row in hand that a function has named, or that was claimed; None if it is in hand already."""
        if row.id in self._held:
            return None
        self._held[row.id] = time.monotonic()
        self._events[row.id] = len(row.events)
        self._events_held += len(row.events)
        return Row(self, row.id, len(row.events))

    def finish(self, row_id: int) -> None:
        """Delete a row with the next statement that deletes."""
        self._finished.append(row_id)
        self._finished_some.set()

    def let_go(self, row_id: int) -> None:
        """Renew the row no longer."""
        self._held.pop(row_id, None)
        self._events_held -= self._events.pop(row_id, 0)

    def stop_claiming(self) -> None:
        """Take no more rows."""
        self._claiming = False

    async def run(self) -> None:
        """Claim, renew and delete until cancelled; a database that is away is tried again."""
        self.wake()
        await asyncio.gather(self._claim_rows(), self._renew_rows(), self._delete_rows())

    async def close(self) -> None:
        """Delete what is finished; what is still in hand is left to its lease."""
        self._claiming = False
        if self._finished:
            with contextlib.suppress(CfmError):
                await self._call(partial(self._outbox.delete, self._finished))
        self._threads.shutdown(wait=False)

    async def _claim_rows(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), _POLL_SECONDS)
            self._woken.clear()
            if not self._claiming or self._is_full:
                continue
            most = min(_MOST_CLAIMED, _MOST_HELD - len(self._held))
            try:
                rows = await self._call(partial(self._outbox.claim, most))
            except CfmError as error:
                self._lost(error)
                continue
            self._found()
            if self._claiming and self._take_claimed(rows) and len(rows) == most:
                self.wake()

    def _take_claimed(self, rows: Sequence[OutboxRow]) -> int:
        now = time.monotonic()
        fresh = []
        for row in rows:
            if row.id in self._held:
                # Its lease had run out, because the database was slow or away; the claim has renewed it.
                self._held[row.id] = now
            else:
                fresh.append(row)
        return self._take(fresh) if fresh else 0

    async def _renew_rows(self) -> None:
        while True:
            await asyncio.sleep(_RENEW_EVERY)
            now = time.monotonic()
            old = [row_id for row_id, since in self._held.items() if now - since > _RENEW_AFTER]
            if not old:
                continue
            try:
                await self._call(partial(self._outbox.renew, old))
            except CfmError as error:
                self._lost(error)
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                self._found()
                self._held.update((row_id, now) for row_id in old if row_id in self._held)

    async def _delete_rows(self) -> None:
        while True:
            await self._finished_some.wait()
            await asyncio.sleep(_GATHER_SECONDS)
            self._finished_some.clear()
            going, self._finished = self._finished, []
            try:
                await self._call(partial(self._outbox.delete, going))
            except CfmError as error:
                self._lost(error)
                self._finished += going
                self._finished_some.set()
                await asyncio.sleep(_RETRY_SECONDS)
            except asyncio.CancelledError:
                # Whether it was carried out is not known; to delete once more does no harm.
                self._finished += going
                raise
            else:
                self._found()
                self._forget(going)

    def _forget(self, gone: Iterable[int]) -> None:
        was_full = self._is_full
        for row_id in gone:
            self.let_go(row_id)
        if was_full:
            self.wake()

    async def _call(self, work: Callable[[], list[OutboxRow] | None]) -> list[OutboxRow]:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work) or []

    def _lost(self, error: CfmError) -> None:
        if self.reaches_database:
            log.warning("the outbox cannot be reached: %s", error)
        self.reaches_database = False

    def _found(self) -> None:
        if not self.reaches_database:
            log.info("the outbox is reached")
        self.reaches_database = True
