"""Carries out the faults of a plan, each at its time, and mends at the end what has not been mended."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial

import psutil

from local.chaos.ground import Ground
from local.chaos.plan import Fault, Plan


class Faults:
    """A thread's work: ``run`` goes through the plan.

    Args:
        say: takes a line for each fault.
    """

    def __init__(self, plan: Plan, ground: Ground, say: Callable[[str], None]) -> None:
        self.counts: Counter[str] = Counter()
        self._plan = plan
        self._ground = ground
        self._say = say
        self._due: list[tuple[float, int, bool, Callable[[], object]]] = []
        self._numbers = itertools.count()

    def run(self, begun: float, stop: threading.Event) -> None:
        """Let everything happen at its time after ``begun``; when told to ``stop``, only mend."""
        for fault in self._plan.faults:
            self._add(fault.at, partial(self._happen, fault))
        while self._due:
            at, _, mends, action = heapq.heappop(self._due)
            stop.wait(max(0.0, begun + at - time.monotonic()))
            if mends or not stop.is_set():
                action()

    def _add(self, at: float, action: Callable[[], object], *, mends: bool = False) -> None:
        heapq.heappush(self._due, (at, next(self._numbers), mends, action))

    def _happen(self, fault: Fault) -> None:
        # A process that is being started again just now cannot be hit.
        with contextlib.suppress(psutil.NoSuchProcess):
            mend = self._inflict(fault)
            self.counts[f"{fault.kind} {fault.target}"] += 1
            self._say(f"{fault.at:6.2f} s  {fault.kind} {fault.target} {fault.seconds or ''}".rstrip())
            if mend is not None:
                self._add(fault.at + fault.seconds, mend, mends=True)

    def _inflict(self, fault: Fault) -> Callable[[], object] | None:
        """Make it happen; gives what ends it, if it lasts."""
        ground = self._ground
        match fault.kind:
            case "kill":
                ground.kill(fault.target)
            case "restart":
                ground.restart(fault.target)
            case "wipe":
                ground.wipe()
            case "cut":
                ground.cut(fault.target, True)
                return partial(ground.cut, fault.target, False)
            case "pause":
                return ground.pause(fault.target, fault.seconds)
            case other:
                raise ValueError(f"no fault {other!r}")
        return None
