"""What a stack costs when nobody asks it for anything."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable

import psutil


def at_rest(supervisor: int, seconds: float) -> dict[str, object]:
    """Memory (sum of proportional set sizes) and CPU of a process and all below it.

    Args:
        supervisor: the process that started the others.
        seconds: how long to watch.
    """
    watched = [psutil.Process(supervisor), *psutil.Process(supervisor).children(recursive=True)]
    before = _cpu_seconds(watched)
    begun = time.monotonic()
    time.sleep(seconds)  # the measurement is of doing nothing for so long
    elapsed = time.monotonic() - begun
    after = _cpu_seconds(watched)
    sizes = {}
    for process in watched:
        with contextlib.suppress(psutil.NoSuchProcess):
            sizes[f"{process.name()} {process.pid}"] = process.memory_full_info().pss
    return {
        "megabytes": round(sum(sizes.values()) / 1e6, 1),
        "cpuPercent": round(100 * sum(after[pid] - before[pid] for pid in after) / elapsed, 2),
        "processes": len(sizes),
        "largest": {name: round(size / 1e6, 1) for name, size in sorted(sizes.items(), key=lambda one: -one[1])[:8]},
    }


def _cpu_seconds(processes: Iterable[psutil.Process]) -> dict[int, float]:
    """What each of those that are still there has used."""
    used = {}
    for process in processes:
        # Postgres lets a worker go now and then.
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            used[process.pid] = times.user + times.system
    return used
