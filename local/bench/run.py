"""Runs the benchmarks against private stacks and puts their figures together."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from local import seeding, state
from local.bench import agents, engine, fabric, query, rest, yardsticks
from local.stack import Stack

CLIENTS = 8
_LATENCIES = 60
_NOOP = Path(__file__).with_name("noop_agent.py")
_SUSTAINED = 15
"""The engine's rate is taken so many times as long as others."""
_REST = 2.5
"""Rest is watched so many times as long as a rate is taken."""


def measure(name: str | None, deployments: int, seconds: float, say: Callable[[str], None]) -> dict[str, Any]:
    """Take the figures of one benchmark, or of all where ``name`` is None.

    Returns:
        A JSON object; ``withoutAuthentication`` and ``withAuthentication`` hold the same figures of two stacks.
    """
    figures: dict[str, Any] = {"cores": os.cpu_count(), "clients": CLIENTS}
    if name in {None, "http"}:
        say("a bare function under the same server")
        figures["bareFunction"] = yardsticks.bare_function(seconds, CLIENTS).to_json()
    for auth, key in ((False, "withoutAuthentication"), (True, "withAuthentication")):
        if name == "rest":
            continue
        say(f"a stack {'with' if auth else 'without'} authentication")
        with _running(auth=auth, agents=[_NOOP]) as stack:
            figures[key] = _figures(stack, name, deployments, seconds, say)
            if not auth and name in {None, "deployment-rate"}:
                say("bare commits")
                figures["bareCommits"] = yardsticks.commits(stack.database_url, max(1, round(seconds)), CLIENTS)
    if name in {None, "rest"}:
        say("a stack at rest")
        with _running(auth=True, agents=[]) as stack:
            seeding.apply(stack.url, stack.token())
            running = state.running(stack.data)
            assert running is not None
            figures["atRest"] = rest.at_rest(running.pid, seconds * _REST)
    if name in {None, "http"}:
        bare = figures["bareFunction"]["perSecond"]
        figures["getTenantToBareFunction"] = round(
            figures["withoutAuthentication"]["tenants"]["get"]["perSecond"] / bare, 3
        )
        say("a stack with and one without authentication, in turns")
        figures["getTenantWithToWithoutAuthentication"] = _kept_with_authentication(seconds)
    return figures


def _kept_with_authentication(seconds: float) -> float:
    """Which share of the rate at which tenants are read is left when tokens are asked for.

    Whatever else the machine does meanwhile meets both, as they are measured in short turns.
    """
    with _running(auth=False, agents=[]) as without, _running(auth=True, agents=[]) as asking:
        both = fabric.Fabric(asking.url, asking.token()), fabric.Fabric(without.url, "")
        return round(median(kept / all_ for kept, all_ in fabric.read_in_turns(both, seconds, CLIENTS)), 3)


def measure_queries(tenants: int, profiles: int, seconds: float, say: Callable[[str], None]) -> dict[str, Any]:
    """Take the figures of queries; a JSON object."""
    say("a stack without authentication")
    with _running(auth=False, agents=[]) as stack:
        return {"cores": os.cpu_count(), "query": query.figures(stack, tenants, profiles, seconds, say)}


def measure_engine(deployments: int, runs: int, seconds: float, say: Callable[[str], None]) -> dict[str, Any]:
    """Take the figures of the engine; a JSON object."""
    say("a stack without authentication")
    with _running(auth=False, agents=[_NOOP]) as stack:
        return {"cores": os.cpu_count(), "engine": engine.figures(stack, deployments, runs, seconds * _SUSTAINED, say)}


def measure_agents(participants: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Take the figures of the project's agents; a JSON object."""
    say("a stack without authentication")
    with _running(auth=False, agents=[]) as stack:
        return {"cores": os.cpu_count(), "agents": agents.figures(stack, participants, say)}


@contextmanager
def _running(*, auth: bool, agents: Sequence[Path]) -> Iterator[Stack]:
    """A stack in a process of its own, so that nothing of the benchmark is part of it."""
    with tempfile.TemporaryDirectory(prefix="cfm-bench-") as home:
        Path(home).chmod(0o711)  # so that PostgreSQL, which does not run as root, reaches its data in it
        stack = Stack(Path(home) / "data", auth=auth, agents=agents)
        stack.start(detached=True)
        try:
            yield stack
        finally:
            stack.stop()


def _figures(
    stack: Stack, name: str | None, deployments: int, seconds: float, say: Callable[[str], None]
) -> dict[str, Any]:
    prepared = fabric.Fabric(stack.url, stack.token() if stack.auth else "")
    fabric.deployment_latency(
        prepared, stack.database_url, 10
    )  # the first ones start assemblies and prepare statements
    found: dict[str, Any] = {}
    if name in {None, "deployment-latency"}:
        say("  one deployment after the other")
        found["deploymentLatency"] = fabric.deployment_latency(prepared, stack.database_url, _LATENCIES)
    if name in {None, "deployment-rate"}:
        say(f"  {deployments} deployments at once")
        found["deploymentRate"] = fabric.deployment_rate(prepared, deployments, CLIENTS)
    if name in {None, "http"}:
        say("  tenants")
        found["tenants"] = fabric.tenants(prepared, seconds, CLIENTS)
    return found
