"""Runs with one seed after the other, on one stack, until the time is over or a rule is broken."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from local.chaos.ground import Ground
from local.chaos.plan import draw
from local.chaos.run import Report, run
from local.chaos.workload import prepare


def repeatedly(
    seed: int,
    minutes: float,
    seconds: float,
    rate: float,
    every: float,
    spared: Sequence[str],
    patience: float,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Make runs and give their summary; the directory of the last one stays if it has broken a rule.

    Args:
        seconds: how long each run makes requests and faults.
        rate: how many orchestrations it asks for in a second.
        every: how many seconds there are on average between faults.
        spared: processes that no fault is done to.
        patience: how many seconds everything may take to come to rest afterwards.
        say: takes lines about what happens, the plans among them.
    """
    home = Path(tempfile.mkdtemp(prefix="cfm-chaos-"))
    home.chmod(0o711)  # so that PostgreSQL, which does not run as root, reaches its data in it
    reports: list[Report] = []
    end = time.monotonic() + minutes * 60
    try:
        with Ground(home, say) as ground:
            fabric = prepare(ground.url)
            while not reports or (time.monotonic() < end and not reports[-1].violations):
                plan = draw(seed + len(reports), seconds, rate, spared, every)
                say(f"run with seed {plan.seed}: {len(plan.work)} orchestrations, {len(plan.faults)} faults")
                for fault in plan.faults:
                    say(f"  planned {fault.at:6.2f} s  {fault.kind} {fault.target} {fault.seconds or ''}".rstrip())
                reports.append(run(plan, ground, fabric, patience, say))
                say(f"  at rest after {reports[-1].rest_seconds} s; {reports[-1].executions}")
                say(f"  looked at in {reports[-1].check_seconds} s")
    finally:
        if reports and reports[-1].violations:
            say(f"the directory of the run stays: {home}")
        else:
            shutil.rmtree(home, ignore_errors=True)
    return summary_of(reports)


def summary_of(reports: list[Report]) -> dict[str, Any]:
    """What came of all runs, as a JSON object."""
    needed = sum(report.executions["needed"] for report in reports)
    total = sum(report.executions["total"] for report in reports)
    return {
        "runs": [report.seed for report in reports],
        "faults": _sum(report.faults for report in reports),
        "messages": _sum(report.messages for report in reports),
        "orchestrations": _sum(report.orchestrations for report in reports),
        "orchestrationsPerSecond": round(
            sum(sum(report.orchestrations.values()) for report in reports) / sum(report.seconds for report in reports),
            1,
        ),
        "operations": _sum(report.operations for report in reports),
        "fenced": sum(report.fenced for report in reports),
        "executionsPerActivity": round(total / needed, 4) if needed else 0.0,
        "executions": _sum(
            {name: count for name, count in report.executions.items() if name != "perActivity"} for report in reports
        ),
        "longestRestSeconds": max((report.rest_seconds for report in reports), default=0.0),
        "violations": reports[-1].violations if reports else {},
    }


def _sum(parts: Any) -> dict[str, int]:
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part)
    return dict(sorted(total.items()))
