"""Runs the activities of a batch at the same time, each for so long and no longer.

A thread cannot be stopped from outside. One whose activity hangs is given up: the batch goes on without it, and when it
comes back after all, nobody is interested in its result. These threads are daemons, so that none of them keeps a process
from ending, and their number is limited.
"""

from __future__ import annotations

import functools
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from cfm_core.agent.results import ActivityResult, Retry
from cfm_core.errors import RecoverableError

AT_A_TIME = 16
"""So many activities of one batch run at a time."""
MOST_GIVEN_UP = 16
"""With so many hanging threads nothing more is accepted."""
START_WINDOW = timedelta(seconds=10)
"""What could not be started by then is given back: somebody else may have room."""

_ALONE = 0.001
"""A single thread has so many seconds to do the whole batch by itself; waking more would cost more than quick work itself."""


@dataclass(eq=False, slots=True)
class Job:
    """One attempt; ``result`` stays None where it was never started."""

    run: Callable[[], ActivityResult]
    limit: Callable[[], float]
    """How many seconds it may take, asked when it starts; at 0 or less ``too_late`` takes its place."""
    too_late: Callable[[], ActivityResult]
    result: ActivityResult | None = None
    seconds: float = 0.0
    ends: float = 0.0


@dataclass(eq=False, slots=True)
class _Batch:
    waiting: deque[Job]
    left: int
    changed: threading.Condition = field(default_factory=threading.Condition)
    running: set[Job] = field(default_factory=set)
    threads: int = 0
    looked_at: float = 0.0
    """When the one who waits for the batch looks at it next."""


class Threads:
    """The threads of one activity type in this process.

    Args:
        start_window: a job that has not begun by then is given back.
        exhausted: called when so many threads hang that no more work is taken.
    """

    def __init__(self, start_window: timedelta = START_WINDOW, exhausted: Callable[[], None] = lambda: None) -> None:
        self._exhausted = exhausted
        self._start_window = start_window.total_seconds()
        self._idle: list[queue.SimpleQueue[Callable[[], None]]] = []
        self._lock = threading.Lock()
        self._given_up = 0

    def run(self, jobs: Sequence[Job]) -> None:
        """Run ``jobs`` and give them their results; a job that hangs gets a Retry, one that never started none.

        Raises:
            RecoverableError: too many threads hang.
        """
        if self._given_up >= MOST_GIVEN_UP:
            self._exhausted()
            raise RecoverableError(f"{self._given_up} activities hang in this process", retry_after=10)
        batch = _Batch(deque(jobs), len(jobs))
        closes = time.monotonic() + self._start_window
        with batch.changed:
            self._add_threads(batch, 1)
            pause = _ALONE
            while batch.left:
                batch.looked_at = time.monotonic() + pause
                batch.changed.wait(pause)
                now = time.monotonic()
                self._give_up_overdue(batch, now)
                if now >= closes:
                    batch.left -= len(batch.waiting)
                    batch.waiting.clear()
                self._add_threads(batch, min(AT_A_TIME - batch.threads, len(batch.waiting)))
                ends = [job.ends for job in batch.running]
                pause = max(0.0, min(ends if not batch.waiting else [*ends, closes], default=now) - now)

    def _add_threads(self, batch: _Batch, count: int) -> None:
        for _ in range(count):
            batch.threads += 1
            self._start(functools.partial(self._work, batch))

    def _give_up_overdue(self, batch: _Batch, now: float) -> None:
        for job in [job for job in batch.running if job.ends <= now]:
            job.result = Retry(f"timed out after {_shown(job.seconds)} s")
            batch.running.remove(job)
            batch.left -= 1
            batch.threads -= 1
            with self._lock:
                self._given_up += 1

    def _work(self, batch: _Batch) -> None:
        while True:
            with batch.changed:
                if not batch.waiting:
                    batch.threads -= 1
                    return
                job = batch.waiting.popleft()
                try:
                    job.seconds = job.limit()
                    refused = None if job.seconds > 0 else job.too_late()
                except Exception as error:
                    # Whatever it is, it ends this job and not the thread that the whole batch waits for.
                    refused = Retry(f"{type(error).__name__}: {error}")
                if refused is not None:
                    self._finish(batch, job, refused)
                    continue
                job.ends = time.monotonic() + job.seconds
                batch.running.add(job)
                if job.ends < batch.looked_at:
                    batch.changed.notify()
            result = job.run()
            with batch.changed:
                if job.result is not None:
                    with self._lock:
                        self._given_up -= 1
                    return
                batch.running.remove(job)
                self._finish(batch, job, result)

    @staticmethod
    def _finish(batch: _Batch, job: Job, result: ActivityResult) -> None:
        job.result = result
        batch.left -= 1
        if not batch.left:
            batch.changed.notify()

    def _start(self, task: Callable[[], None]) -> None:
        with self._lock:
            inbox = self._idle.pop() if self._idle else None
        if inbox is None:
            threading.Thread(target=self._live, args=(task,), daemon=True, name="activity").start()
        else:
            inbox.put(task)

    def _live(self, task: Callable[[], None]) -> None:
        inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        while True:
            task()
            with self._lock:
                self._idle.append(inbox)
            task = inbox.get()


def _shown(seconds: float) -> str:
    return f"{seconds:.2f}".rstrip("0").rstrip(".")
