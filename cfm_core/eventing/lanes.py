"""A lane: the way of events to one function, with its queue, its slots and what is done with each answer.

Whatever waits goes at once, as many events in one POST as the target takes and as many POSTs at a time as it has slots;
nothing lingers for company. A lane never loses an entry: it ends by telling the entry's origin, or by handing it to the
exchange.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cfm_core.contracts.reply import EventDict, Failure, OutboxRow, Reply
from cfm_core.errors import CfmError
from cfm_core.eventing import outcomes
from cfm_core.eventing.entries import Entry, batch_body
from cfm_core.eventing.post import Answer
from cfm_core.eventing.targets import Target
from cfm_core.eventing.verdicts import CRASHED, TIMEOUT, TOO_LARGE, Verdict, delay, is_overload, jitter, verdict

log = logging.getLogger(__name__)

_MOST_BYTES = 4 * 1024 * 1024
"""A POST is not made larger than this by adding a further event."""
_BOUND = 4
"""A lane holds at most so many times what its slots take at once."""
_HAND_OVER_AFTER = 6
"""Failed attempts (about six seconds) after which an event is put into JetStream, where another replica may take it."""
_SUCCESSES_PER_SLOT = 4
_FIRST_BAR = 1.0
_LONGEST_BAR = 60.0

Post = Callable[[Target, bytes], Coroutine[Any, Any, Answer]]


class Exchange(Protocol):
    """What a lane needs of the others."""

    def take_rows(self, rows: Sequence[OutboxRow]) -> None:
        """Hand on the events of outbox rows that a function has named in its answer."""
        ...

    def take_outcomes(self, entries: Sequence[Entry]) -> None:
        """Hand on the outcomes of activities."""
        ...

    async def to_stream(self, subject: str, entries: Sequence[Entry]) -> list[Entry]:
        """Put events into JetStream, and give those that could not be; the origins of the others are told."""
        ...

    async def bury(self, target: Target, entry: Entry, reason: str) -> None:
        """Make a dead letter of an event; the origin is not told.

        Raises:
            RecoverableError: not now.
        """
        ...


@dataclass(frozen=True, slots=True)
class LaneState:
    """What a lane looks like from outside, for health reports."""

    waiting: int
    in_flight: int
    slots: int
    barred: bool


class Lane:
    """The way to one target. Lives in one event loop and is used from there only.

    Args:
        room_made: called whenever the lane may have become able to take more.
        addressed: what becomes of an event in the POST alone, and nowhere else that it may go.
    """

    def __init__(
        self,
        target: Target,
        post: Post,
        exchange: Exchange,
        room_made: Callable[[], None] = lambda: None,
        addressed: Callable[[EventDict], EventDict] | None = None,
    ) -> None:
        self.target = target
        self.room_made = room_made
        self._addressed = addressed
        self._post = post
        self._exchange = exchange
        self._queue: deque[Entry] = deque()
        self._parked: dict[Entry, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._in_flight = 0
        self._slots = target.slots
        self._successes = 0
        self._most = target.batch
        self._bar = 0.0
        self._bar_timer: asyncio.TimerHandle | None = None
        self._pump_due = False
        self._draining = False

    # What others ask

    @property
    def state(self) -> LaneState:
        return LaneState(self._waiting, self._in_flight, self._slots, self._bar > 0)

    def takes(self, count: int) -> bool:
        """Whether the lane should be given ``count`` more events, or is so full that others had better take them."""
        if self._draining:
            return False
        return self._waiting == 0 or self._waiting + count <= _BOUND * self.target.batch * self.target.slots

    @property
    def free(self) -> int:
        """How many events could be sent right now."""
        if self._draining or self._bar_timer is not None:
            return 0
        slots, most = (1, 1) if self._bar else (self._slots, self._most)
        return max(0, (slots - self._in_flight) * most - len(self._queue))

    @property
    def _waiting(self) -> int:
        return len(self._queue) + len(self._parked)

    @property
    def is_idle(self) -> bool:
        return not self._queue and not self._tasks and not self._parked

    # What others do

    def offer(self, entries: Iterable[Entry]) -> None:
        """Take events; they leave with what else arrives in this turn of the loop."""
        if self._draining:
            for entry in entries:
                self._leave(entry)
            return
        self._queue.extend(entries)
        self._pump_soon()

    def drain(self) -> None:
        """Send nothing more but outcomes, which exist nowhere else, and give back what JetStream can bring again."""
        self._draining = True
        self._stop_bar_timer()
        for timer in self._parked.values():
            timer.cancel()
        kept = [*self._queue, *self._parked]
        self._queue.clear()
        self._parked.clear()
        for entry in kept:
            self._leave(entry)
        self._pump_soon()

    def cancel(self) -> None:
        """Give up the POSTs that are still in flight; their events are brought again by whoever holds them."""
        for task in self._tasks:
            task.cancel()

    # Sending

    def _pump_soon(self) -> None:
        if not self._pump_due:
            self._pump_due = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        self._pump_due = False
        slots = 1 if self._bar else self._slots
        while self._queue and self._in_flight < slots and self._bar_timer is None:
            batch = self._next_batch()
            self._in_flight += 1
            self._run(self._deliver(batch))
        self.room_made()

    def _next_batch(self) -> list[Entry]:
        most = 1 if self._bar else self._most
        batch = [self._queue.popleft()]
        size = len(self._encoded(batch[0]))
        while not batch[0].alone and self._queue and len(batch) < most:
            following = self._queue[0]
            size += len(self._encoded(following))
            if following.alone or size > _MOST_BYTES:
                break
            batch.append(self._queue.popleft())
        return batch

    def _encoded(self, entry: Entry) -> bytes:
        return entry.encoded if self._addressed is None else entry.encoded_as(self._addressed)

    async def _deliver(self, batch: list[Entry]) -> None:
        try:
            try:
                answer = await self._post(self.target, batch_body(map(self._encoded, batch)))
            finally:
                self._in_flight -= 1
                self._pump_soon()
            self._conclude(batch, answer)
        except Exception:
            # A mistake of ours must not keep events in hand for ever: they are brought again.
            log.exception("a batch for %s could not be concluded", self.target.name)
            for entry in batch:
                entry.origin.given_back(delay(entry.attempts + 1, spread=jitter()))

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("the lane of %s failed", self.target.name, exc_info=error)

    # Concluding

    def _conclude(self, batch: list[Entry], answer: Answer) -> None:
        found = verdict(answer.status)
        if found is Verdict.BARRED:
            self._close(batch, answer)
            return
        self._open()
        if found is Verdict.DONE:
            self._succeeded(batch, answer)
            return
        if is_overload(answer.status):
            self._slots = max(1, self._slots // 2)
            self._successes = 0
        if answer.status in {TOO_LARGE, TIMEOUT}:
            self._most = max(1, len(batch) // 2)
        if len(batch) > 1 and (found is Verdict.DEAD or answer.status == CRASHED):
            # Halves for what is too large; else one at a time, since one event may be to blame for all.
            for entry in batch:
                entry.alone = answer.status != TOO_LARGE
            self._queue.extendleft(reversed(batch))
            if self._draining:
                self.drain()
            return
        failure = Failure(answer.status, _reason(answer), answer.retry_after)
        spread = jitter()
        for entry in batch:
            self._failed(entry, failure, spread)

    def _succeeded(self, batch: list[Entry], answer: Answer) -> None:
        self._grow()
        reply = answer.reply()
        if self.target.runs_activities:
            # An agent has no part in the outbox: what it says of rows is not believed.
            self._outcomes(batch, reply, answer)
            return
        spread = jitter()
        for entry in batch:
            failure = reply.failures.get(entry.id) if reply else None
            if failure is None:
                entry.origin.settled()
            else:
                self._failed(entry, failure, spread)
        if reply is not None and reply.outbox and not self.target.of_agent:
            self._exchange.take_rows(reply.outbox)

    def _outcomes(self, batch: list[Entry], reply: Reply | None, answer: Answer) -> None:
        found = outcomes.matched((entry.event for entry in batch), reply.events) if reply else {}
        ready: list[Entry] = []
        spread = jitter()
        for entry in batch:
            token = outcomes.token_of(entry.event)
            if token is not None and (outcome := found.get(token)) is not None:
                ready.append(Entry(outcome, entry.origin, is_outcome=True))
            elif reply is not None and (failure := reply.failures.get(entry.id)) is not None:
                self._failed(entry, failure, spread)
            elif reply is None:
                self._blame(entry, f"the agent's function gave an unreadable answer: {outcomes.quoted(answer.body)}")
            else:
                self._blame(entry, "the agent's function gave no proper outcome for this activity")
        if ready:
            self._exchange.take_outcomes(ready)

    def _failed(self, entry: Entry, failure: Failure, spread: float) -> None:
        """One event was not delivered, whether alone, or with all of its batch, or by the answer's own report."""
        found = verdict(failure.status)
        entry.attempts += 1
        if found is Verdict.DEAD:
            self._run(self._bury(entry, f"{failure.status}: {failure.reason}", kept=failure.kept))
        elif self.target.runs_activities and failure.status in {CRASHED, TIMEOUT}:
            self._blame(entry, _blamed(failure))
        elif found is Verdict.DONE:
            entry.origin.settled()
        else:
            least = _FIRST_BAR if found is Verdict.BARRED else failure.retry_after
            least = least if isinstance(least, int | float) else None
            self._again(entry, delay(entry.attempts, least, spread), failure)

    def _again(self, entry: Entry, seconds: float, failure: Failure) -> None:
        if entry.in_stream:
            if entry.last:
                self._run(self._bury(entry, f"not delivered at the last attempt: {failure.status}: {failure.reason}"))
            else:
                entry.origin.given_back(seconds)
        elif self._draining:
            self._leave(entry)
        elif entry.attempts >= _HAND_OVER_AFTER:
            self._run(self._hand_over(entry, seconds))
        else:
            self._park(entry, seconds)

    def _park(self, entry: Entry, seconds: float) -> None:
        self._parked[entry] = asyncio.get_running_loop().call_later(seconds, self._unpark, entry)

    def _unpark(self, entry: Entry) -> None:
        if self._parked.pop(entry, None) is not None:
            self._queue.append(entry)
            self._pump_soon()

    async def _hand_over(self, entry: Entry, seconds: float) -> None:
        for left in await self._exchange.to_stream(self.target.subject, [entry]):
            if self._draining:
                self._leave(left)
            else:
                self._park(left, seconds)

    def _blame(self, entry: Entry, reason: str) -> None:
        """The agent's function has failed on a dispatched activity: the engine is told, and decides about a retry."""
        if outcomes.token_of(entry.event) is None:
            self._run(self._bury(entry, f"not a dispatched activity; {reason}"))
            return
        outcome = outcomes.retry(entry.event, reason)
        self._exchange.take_outcomes([Entry(outcome, entry.origin, is_outcome=True)])

    async def _bury(self, entry: Entry, reason: str, *, kept: bool = False) -> None:
        try:
            if not kept:
                await self._exchange.bury(self.target, entry, reason)
        except CfmError as error:
            log.warning("%s: event %s stays, it cannot be made a dead letter: %s", self.target.name, entry.id, error)
            if entry.in_stream:
                entry.origin.given_back(delay(max(entry.attempts, 6), spread=jitter()))
            elif self._draining:
                entry.origin.given_back(0)
            else:
                self._park(entry, delay(max(entry.attempts, 6), spread=jitter()))
            return
        if self.target.runs_activities and outcomes.token_of(entry.event) is not None:
            self._blame(entry, f"the agent's function refuses this activity: {reason}")
        elif entry.is_outcome and entry.event.get("source") != outcomes.SOURCE:
            refused = outcomes.retry(entry.event, f"the agent's outcome was refused: {reason}")
            self._exchange.take_outcomes([Entry(refused, entry.origin, is_outcome=True)])
        else:
            entry.origin.buried()

    def _leave(self, entry: Entry) -> None:
        """Part with an entry while draining."""
        if entry.is_outcome and not entry.in_stream and entry.attempts == 0:
            self._queue.append(entry)
            self._pump_soon()
        elif entry.is_outcome and not entry.in_stream:
            self._run(self._leave_in_stream(entry))
        else:
            entry.origin.given_back(0)

    async def _leave_in_stream(self, entry: Entry) -> None:
        for left in await self._exchange.to_stream(self.target.subject, [entry]):
            left.origin.given_back(0)

    # Adapting

    def _grow(self) -> None:
        self._successes += 1
        if self._most < self.target.batch:
            self._most += 1
        if self._slots < self.target.slots and self._successes >= _SUCCESSES_PER_SLOT * self._slots:
            self._slots += 1
            self._successes = 0

    def _close(self, batch: list[Entry], answer: Answer) -> None:
        """Stop sending: the function refuses our token. One event is tried again after a while, then after a longer one."""
        if self._bar_timer is None:
            self._bar = min(_LONGEST_BAR, self._bar * 2 or _FIRST_BAR)
            log.error(
                "%s does not accept the trigger's token (%s): nothing is sent to it for %.0f s; check CFM_EVENT_TOKEN",
                self.target.name,
                _reason(answer),
                self._bar,
            )
        waiting = [*batch, *self._queue]
        self._queue.clear()
        for entry in waiting:
            if entry.in_stream:
                entry.origin.given_back(self._bar)
            elif self._draining:
                self._leave_barred(entry)
            else:
                self._queue.append(entry)
        if not self._draining and self._bar_timer is None:
            self._bar_timer = asyncio.get_running_loop().call_later(self._bar, self._probe)

    def _leave_barred(self, entry: Entry) -> None:
        entry.attempts += 1
        self._leave(entry)

    def _probe(self) -> None:
        self._bar_timer = None
        self._pump()

    def _open(self) -> None:
        if self._bar:
            log.warning("%s accepts the trigger's token again", self.target.name)
            self._bar = 0.0
            self._stop_bar_timer()

    def _stop_bar_timer(self) -> None:
        if self._bar_timer is not None:
            self._bar_timer.cancel()
            self._bar_timer = None


def _reason(answer: Answer) -> str:
    return answer.problem or outcomes.quoted(answer.body) or "no reason given"


def _blamed(failure: Failure) -> str:
    if failure.status == TIMEOUT:
        return f"the agent's function gave {failure.reason}"
    return f"the agent's function answered {failure.status}: {failure.reason[:300]}"
