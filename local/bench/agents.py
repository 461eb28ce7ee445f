"""What the project's agents achieve and cost: participants through the standard orchestration, against stand-ins that take
their time."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

from local import seed, seeding
from local.bench.engine import cpu_seconds
from local.bench.fabric import BASE
from local.bench.load import Connection, run_times
from local.stack import Stack

ANSWER_SECONDS = 0.02
"""So long each stand-in takes for an answer."""
_WARM_UP = 10
_CLIENTS = 8
_PATIENCE_SECONDS = 120
_LOOK_SECONDS = 0.05


def figures(stack: Stack, participants: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Deploy so many participants at once, then dispose of them; rates, calls of agents, and what each call costs."""
    crowd = _Crowd(stack)
    with contextlib.closing(crowd), crowd.slow_services():
        crowd.dispose(crowd.deploy(_WARM_UP))  # the first ones make connections and prepare statements
        say(f"  {participants} participants are deployed")
        deployed, deployment = crowd.measured(crowd.deploy, participants)
        say("  and disposed of")
        _, disposal = crowd.measured(crowd.dispose, deployed)
        return {"answerMs": ANSWER_SECONDS * 1000, "deploy": deployment, "dispose": disposal}


class _Crowd:
    """Participants of one tenant, on a stack without authentication."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._connections = [Connection(stack.url) for _ in range(_CLIENTS)]
        self._standins = Connection(stack.standins_url, stack.standins_token)
        seeding.apply(stack.url, "")
        tenant = self._connections[0].json("POST", f"{BASE}/tenants", {}, expect=201)["id"]
        self._path = f"{BASE}/tenants/{tenant}/participant-profiles"
        self._made = 0

    def close(self) -> None:
        for connection in (*self._connections, self._standins):
            connection.close()

    @contextlib.contextmanager
    def slow_services(self) -> Iterator[None]:
        """Let each stand-in take its time for every answer."""
        for service in self._calls():
            fault = {"service": service, "delaySeconds": ANSWER_SECONDS}
            self._standins.json("POST", "/_control/faults", fault, expect=201)
        try:
            yield
        finally:
            self._standins.json("DELETE", "/_control/faults", expect=204)

    def deploy(self, count: int) -> list[str]:
        """Ask for so many participants at once, and return when all are active; gives the profiles' ids."""
        first, self._made = self._made, self._made + count
        numbers = iter(range(first, self._made))
        ids: list[str] = []

        def ask(connection: Connection) -> None:
            did = f"did:web:participant-{next(numbers)}.example"
            document = {"identifier": did, "vpaProperties": seed.VPA_PROPERTIES}
            ids.append(connection.json("POST", self._path, document, expect=202)["id"])

        before = self._count("active")
        run_times(count, self._connections, ask)
        self._await("active", before + count)
        return ids

    def dispose(self, ids: list[str]) -> list[str]:
        """Ask for the disposal of these participants, and return when all are disposed of."""
        waiting = iter(ids)
        before = self._count("disposed")
        run_times(
            len(ids),
            self._connections,
            lambda connection: connection.json("DELETE", f"{self._path}/{next(waiting)}", expect=202),
        )
        self._await("disposed", before + len(ids))
        return ids

    def measured(self, act: Callable[[Any], list[str]], of: Any) -> tuple[list[str], dict[str, Any]]:
        """Do something to participants; gives these, and what it took."""
        calls, used, begun = sum(self._calls().values()), cpu_seconds(self._stack), time.perf_counter()
        ids = act(of)
        seconds = time.perf_counter() - begun
        after = cpu_seconds(self._stack)
        calls = sum(self._calls().values()) - calls
        cost = {name: (after[name] - used[name]) * 1e6 for name in sorted(after)}
        return ids, {
            "participantsPerSecond": round(len(ids) / seconds, 1),
            "seconds": round(seconds, 2),
            "callsPerParticipant": round(calls / len(ids), 1),
            "callsPerSecond": round(calls / seconds, 1),
            "agentCpuMicrosecondsPerCall": round(cost["agents"] / calls),
            "cpuMicrosecondsPerParticipant": {name: round(one / len(ids)) for name, one in cost.items()}
            | {"all": round(sum(cost.values()) / len(ids))},
        }

    def _calls(self) -> dict[str, int]:
        """How many calls each stand-in has answered."""
        found: dict[str, int] = self._standins.json("GET", "/_control/calls", expect=200)
        return found

    def _await(self, state: str, count: int) -> None:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while (there := self._count(state)) < count:
            failed = self._count("error")
            assert not failed, f"{failed} participants have failed"
            assert time.monotonic() < deadline, f"only {there} of {count} are {state} after {_PATIENCE_SECONDS} s"
            time.sleep(_LOOK_SECONDS)  # the look itself is load

    def _count(self, state: str) -> int:
        predicate = json.dumps({"predicate": f"vpas.state = '{state}'", "limit": 1}).encode()
        status, head, _ = self._connections[0].request("POST", f"{BASE}/participant-profiles/query", predicate)
        assert status == 200, status
        return int(head.split(b"x-total-count:")[1].split(b"\r\n")[0])
