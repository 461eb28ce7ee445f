"""What the engine achieves and costs: through real functions and JetStream, with no-op activities."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import psutil

from cfm_core.store.database import Database, connect
from local import state
from local.bench.fabric import BASE, DIAMOND, Fabric, deployment_latency, deployment_rate
from local.bench.load import Connection
from local.stack import Stack

_WIDE, _ONE, _DIAMOND = "bench.wide", "bench.one", "bench.diamond"
_WIDTH = 62
_CLIENTS = 8
_LATENCIES = 60
_IN_FLIGHT = 24
"""Wide runs at a time: enough that no step is ever without work."""
_LOOK_SECONDS = 0.01
_QUIET_SECONDS = 30

_FILL_ENDED = """
WITH def AS (
  SELECT id FROM provision_manager.definition WHERE type = 'bench.diamond' AND is_current
), run AS (
  INSERT INTO provision_manager.orchestration (id, def_id, type, correlation_id, state, remaining, state_at, created_at)
  SELECT 'ended-' || i, def.id, 'bench.diamond', 'ended-' || i, 'COMPLETED', 0, now(), now()
    FROM def, generate_series(1, :count::integer) i
  RETURNING id
), data AS (
  INSERT INTO provision_manager.orchestration_data (orch_id, input) SELECT id, '{}' FROM run
), activity AS (
  INSERT INTO provision_manager.activity (orch_id, phase, ord, state, deps_left, dispatches, token, dispatched_at)
  SELECT id, 0, ord, 'DONE', 0, 1, gen_random_uuid(), now() FROM run, generate_series(0, 3) ord)
INSERT INTO provision_manager.history (at, orch_id, phase, ord, kind, dispatch, attempt, dispatched_at)
SELECT now(), id, 0, ord, 'complete', 1, 1, now() FROM run, generate_series(0, 3) ord
"""
_FILL_WAITING = """
WITH def AS (
  SELECT id FROM provision_manager.definition WHERE type = 'bench.one' AND is_current
), run AS (
  INSERT INTO provision_manager.orchestration (id, def_id, type, correlation_id, remaining, state_at, created_at)
  SELECT 'waiting-' || i, def.id, 'bench.one', 'waiting-' || i, 1, now(), now() FROM def, generate_series(1, :count::integer) i
  RETURNING id
), data AS (
  INSERT INTO provision_manager.orchestration_data (orch_id, input) SELECT id, '{}' FROM run)
INSERT INTO provision_manager.activity
  (orch_id, phase, ord, state, deps_left, dispatches, token, dispatched_at, due_at)
SELECT id, 0, 0, 'WAITING', 0, 1, gen_random_uuid(), now(), now() + interval '1 day' + random() * interval '1 day' FROM run
"""
_COMPLETED = "SELECT count(*) FROM provision_manager.history WHERE kind = 'complete' AND at >= :begun AND at < :ended"
_OVERHEAD = """
SELECT round((percentile_cont(share) WITHIN GROUP (ORDER BY extract(epoch FROM at - dispatched_at) * 1000))::numeric, 1)::float
  FROM provision_manager.history, unnest(ARRAY[0.5, 0.99]) share
 WHERE kind = 'complete' AND at >= :begun AND at < :ended
 GROUP BY share
 ORDER BY share
"""
_UNDER_WAY = "SELECT count(*) FROM provision_manager.activity WHERE due_at < now() + interval '1 hour'"
"""What waits is due much later."""


def figures(stack: Stack, deployments: int, runs: int, seconds: float, say: Callable[[str], None]) -> dict[str, Any]:
    """Rates, overheads, and CPU microseconds of each process for one activity; with few runs stored, and with ``runs``.

    Args:
        runs: how many ended runs, and afterwards how many waiting ones, are stored for the comparison.
        seconds: how long the sustained rate is taken; each look at rest takes a quarter of it, each comparison an eighth.
    """
    prepared = Fabric(stack.url, "")
    deployment_latency(prepared, stack.database_url, 10)  # the first ones start assemblies and prepare statements
    _define(prepared.connect())
    database = Database(stack.database_url, size=2)
    with contextlib.closing(database):
        found: dict[str, Any] = {}
        say("  one deployment after the other")
        found["deploymentLatency"] = deployment_latency(prepared, stack.database_url, _LATENCIES)
        say(f"  {deployments} deployments at once")
        found["deploymentRate"] = deployment_rate(prepared, deployments, _CLIENTS)
        say(f"  wide runs for {seconds:.0f} s")
        found["sustained"] = _under_load(stack, database, _WIDE, _IN_FLIGHT, seconds)
        say("  100 diamonds in flight")
        found["hundredInFlight"] = _under_load(stack, database, _DIAMOND, 100, seconds / 4)
        say("  at rest")
        found["atRestPercent"] = {"withFewRuns": _at_rest(stack, database, seconds / 4)}
        short = seconds / 8
        found["cost"] = {"withFewRuns": _under_load(stack, database, _WIDE, _IN_FLIGHT, short)}
        say(f"  the same with {runs} ended runs")
        _fill(stack, _FILL_ENDED, runs)
        found["cost"]["withEndedRuns"] = _under_load(stack, database, _WIDE, _IN_FLIGHT, short)
        say(f"  the same with {runs} waiting runs")
        _fill(stack, _FILL_WAITING, runs)
        found["cost"]["withWaitingRuns"] = _under_load(stack, database, _WIDE, _IN_FLIGHT, short)
        say("  at rest with all of them")
        found["atRestPercent"]["withWaitingRuns"] = _at_rest(stack, database, seconds / 4)
        found["runs"] = runs
        return found


def _define(connection: Connection) -> None:
    wide = [{"id": "first", "type": "bench-noop"}]
    wide += [{"id": f"m{n}", "type": "bench-noop", "dependsOn": ["first"]} for n in range(_WIDTH)]  # type: ignore[dict-item]
    wide += [{"id": "last", "type": "bench-noop", "dependsOn": [f"m{n}" for n in range(_WIDTH)]}]  # type: ignore[dict-item]
    activities = {_WIDE: wide, _ONE: wide[:1], _DIAMOND: DIAMOND}
    connection.json("POST", f"{BASE}/orchestration-definitions", {"activities": activities}, expect=201)
    connection.close()


def _fill(stack: Stack, statement: str, runs: int) -> None:
    with contextlib.closing(connect(stack.database_url, answer_seconds=0)) as connection:
        connection.run(statement, count=runs)
        # What autovacuum does before long, done now so that every figure is one of the same state.
        for table in ("orchestration", "orchestration_data", "activity", "history"):
            connection.run(f"VACUUM (ANALYZE) provision_manager.{table}")


def _under_load(stack: Stack, database: Database, type_: str, in_flight: int, seconds: float) -> dict[str, Any]:
    """Keeps so many runs going for so long."""
    done = threading.Event()
    numbers = count()
    prefix = f"{type_}-{time.time_ns()}"

    def keep_going() -> None:
        connection = Connection(stack.url)
        while not done.is_set():
            going = database.value(
                "SELECT count(*) FROM provision_manager.orchestration"
                " WHERE state_number = 1 AND state_number <> 2 AND id >= :first AND id < :last",
                first=prefix,
                last=prefix + "~",
            )
            for _ in range(in_flight - going):
                id_ = f"{prefix}-{next(numbers)}"
                document = {"id": id_, "correlationId": id_, "orchestrationType": type_}
                connection.json("POST", f"{BASE}/orchestrations", document, expect=202)
            done.wait(_LOOK_SECONDS)
        connection.close()

    feeder = threading.Thread(target=keep_going)
    feeder.start()
    try:
        done.wait(1)  # until the load is even
        before, begun = cpu_seconds(stack), database.value("SELECT clock_timestamp()")
        done.wait(seconds)
        after, ended = cpu_seconds(stack), database.value("SELECT clock_timestamp()")
    finally:
        done.set()
        feeder.join()
    completed = int(database.value(_COMPLETED, begun=begun, ended=ended))
    half, most = (value for (value,) in database.rows(_OVERHEAD, begun=begun, ended=ended))
    used = {name: round((after[name] - before[name]) * 1e6 / completed, 1) for name in sorted(after)}
    return {
        "activitiesPerSecond": round(completed / (ended - begun).total_seconds(), 1),
        "overheadMs": {"median": half, "p99": most},
        "cpuMicrosecondsPerActivity": used | {"all": round(sum(used.values()), 1)},
        "seconds": round((ended - begun).total_seconds(), 1),
    }


def _at_rest(stack: Stack, database: Database, seconds: float) -> dict[str, float]:
    """What the processes use when nothing is due."""
    end = time.monotonic() + _QUIET_SECONDS
    while database.value(_UNDER_WAY):
        assert time.monotonic() < end, f"activities are still under way after {_QUIET_SECONDS} s"
        time.sleep(_LOOK_SECONDS)
    # What a load leaves to be written is no part of rest.
    database.rows("CHECKPOINT")
    before = cpu_seconds(stack)
    time.sleep(seconds)  # the measurement is of doing nothing for so long
    after = cpu_seconds(stack)
    used = {name: round(100 * (after[name] - before[name]) / seconds, 2) for name in sorted(after)}
    return used | {"all": round(sum(used.values()), 2)}


def cpu_seconds(stack: Stack) -> dict[str, float]:
    """What each process of the stack has used until now, its children included."""
    running = state.running(stack.data)
    assert running is not None
    used: dict[str, float] = {}
    for process in running.processes:
        if process.pid is None:
            continue
        for one in _family(psutil.Process(process.pid)):
            # Postgres lets a worker go now and then.
            with contextlib.suppress(psutil.NoSuchProcess):
                times = one.cpu_times()
                used[process.name] = used.get(process.name, 0.0) + times.user + times.system
    return used


def _family(process: psutil.Process) -> Iterator[psutil.Process]:
    yield process
    yield from process.children(recursive=True)
