"""What a stack costs when nobody asks it for anything."""

from __future__ import annotations

import time

import psutil


def at_rest(supervisor: int, seconds: float) -> dict[str, object]:
    """Memory (sum of proportional set sizes) and CPU of a process and all below it.

    Args:
        supervisor: the process that started the others.
        seconds: how long to watch.
    """
    processes = [psutil.Process(supervisor), *psutil.Process(supervisor).children(recursive=True)]
    before = {process.pid: sum(process.cpu_times()[:2]) for process in processes}
    begun = time.monotonic()
    time.sleep(seconds)  # the measurement is of doing nothing for so long
    elapsed = time.monotonic() - begun
    used = sum(sum(process.cpu_times()[:2]) - before[process.pid] for process in processes)
    sizes = {process.pid: process.memory_full_info().pss for process in processes}
    return {
        "megabytes": round(sum(sizes.values()) / 1e6, 1),
        "cpuPercent": round(100 * used / elapsed, 2),
        "processes": len(processes),
        "largest": {
            f"{process.name()} {process.pid}": round(sizes[process.pid] / 1e6, 1)
            for process in sorted(processes, key=lambda one: -sizes[one.pid])[:8]
        },
    }
