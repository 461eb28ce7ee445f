"""Asks for the orchestrations of a plan as patient clients do, and gives the orders that it has for them."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from local.bench.fabric import BASE, Fabric
from local.bench.load import Connection
from local.chaos.plan import Plan, Work
from local.chaos.shapes import ACTIVITY_TYPES, PARTICIPANTS, PLAIN, SHAPES, template

_CLIENTS = 16
_LOOK_SECONDS = 0.1
_ERRORED = 3


class Workload:
    """The clients of one run.

    Args:
        fabric: prepared by ``prepare``.
        patience: so many seconds a client waits for the fabric, and for its orchestration.
    """

    def __init__(self, plan: Plan, fabric: Fabric, patience: float) -> None:
        self.cancelled: set[str] = set()
        """The orchestrations whose cancellation was accepted."""
        self._plan = plan
        self._fabric = fabric
        self._patience = patience

    def run(self, begun: float) -> list[str]:
        """Do all of the plan's work, each piece at its time after ``begun``; gives what could not be done."""
        with ThreadPoolExecutor(_CLIENTS, thread_name_prefix="client") as clients:
            doing: list[Future[str]] = []
            for work in self._plan.work:
                time.sleep(max(0.0, begun + work.at - time.monotonic()))  # as the plan says
                doing.append(clients.submit(self._do, work))
            return [problem for one in doing if (problem := one.result())]

    def _do(self, work: Work) -> str:
        try:
            if work.type in PLAIN:
                self._start(work)
            else:
                self._deploy(work)
        except (AssertionError, TimeoutError) as error:
            return f"{work.id}: {error}"
        return ""

    def _start(self, work: Work) -> None:
        manifest = {"id": work.id, "correlationId": work.id, "orchestrationType": work.type}
        status, body = self._ask("POST", f"{BASE}/orchestrations", manifest | {"payload": {"script": work.script}})
        assert status == 202, (status, body)
        path = f"{BASE}/orchestrations/{work.id}"
        match work.order:
            case "pause":
                if self._order(path, "pause"):
                    self._order(path, "resume")
            case "cancel":
                if self._order(path, "cancel"):
                    self.cancelled.add(work.id)
            case "retry":
                self._until(path, lambda run: run["state"] == _ERRORED)
                self._order(path, "retry")

    def _order(self, path: str, action: str) -> bool:
        """Whether the order was accepted; it is not where the orchestration has ended, or went on with it already."""
        status, body = self._ask("POST", f"{path}/{action}", {"reason": "the plan says so"})
        assert status in {200, 409}, (action, status, body)
        return status == 200

    def _deploy(self, work: Work) -> None:
        wanted = json.loads(self._fabric.deployment(work.id))
        wanted["vpaProperties"] = {"cfm.connector": {"script": work.script}}
        # Repeated under one key it is one participant, which the answer names however often it takes.
        status, body = self._ask("POST", self._fabric.profiles_path, wanted, f"Idempotency-Key: {work.id}\r\n")
        assert status == 202, (status, body)
        if work.order == "dispose":
            path = f"{self._fabric.profiles_path}/{json.loads(body)['id']}"
            self._until(path, lambda profile: profile["vpas"][0]["state"] == "active")
            status, body = self._ask("DELETE", path)
            assert status in {202, 409}, (status, body)

    def _until(self, path: str, condition: Callable[[Any], bool]) -> None:
        """Look at an entity until it is as wanted."""
        deadline = time.monotonic() + self._patience
        while True:
            status, body = self._ask("GET", path)
            assert status == 200, (status, body)
            if condition(json.loads(body)):
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"{path} is still {body[:300]!r}")
            time.sleep(_LOOK_SECONDS)  # between two looks

    def _ask(self, method: str, path: str, document: Any = None, headers: str = "") -> tuple[int, bytes]:
        return ask(self._fabric.connect, method, path, document, headers, self._patience)


def ask(
    connect: Callable[[], Connection], method: str, path: str, document: Any, headers: str, patience: float
) -> tuple[int, bytes]:
    """Send one request until it is answered, by whatever else than "not now".

    Raises:
        TimeoutError: the patience has ended.
    """
    body = b"" if document is None else json.dumps(document).encode()
    deadline = time.monotonic() + patience
    while True:
        try:
            with contextlib.closing(connect()) as connection:
                status, _, answer = connection.request(method, path, body, headers)
        except OSError as error:
            status, answer = 503, str(error).encode()
        # Under an idempotency key a 409 may say that the request before is still being worked on.
        if status != 503 and not (status == 409 and headers):
            return status, answer
        if time.monotonic() > deadline:
            raise TimeoutError(f"{method} {path}: {status} {answer[:300]!r}")
        time.sleep(_LOOK_SECONDS)  # a client's pause before it tries again


class Endings:
    """Ends the activities that wait for somebody outside, with what their agent has noted.

    ``said`` tells of each ending before it is asked for: orchestration, phase, place, kind, token.
    """

    def __init__(self, executions: Path, connect: Callable[[], Connection], patience: float) -> None:
        self.said: set[tuple[str, int, int, str, str]] = set()
        self.at: dict[tuple[str, int, str], int] = {}
        """When each of these activities (orchestration, phase, name) was first ended, on the clock of the agent's log."""
        self._executions = executions
        self._connect = connect
        self._patience = patience
        self._read = 0

    def run(self, stop: threading.Event) -> None:
        """End whatever waits, until told to ``stop``."""
        while not stop.wait(_LOOK_SECONDS):
            for entry in self._new_entries():
                self._end(entry)

    def _new_entries(self) -> list[dict[str, Any]]:
        if not self._executions.exists():
            return []
        with self._executions.open("rb") as log:
            log.seek(self._read)
            text = log.read()
        # A line that is being written is left to the next look.
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        entries = map(json.loads, whole.splitlines())
        return [one for one in entries if one["what"] == "end" and one["word"] == "wait"]

    def _end(self, entry: dict[str, Any]) -> None:
        run, phase, activity = entry["run"], entry["phase"], entry["activity"]
        self.said.add((run, phase, list(SHAPES[entry["type"]]).index(activity), "complete", entry["token"]))
        self.at.setdefault((run, phase, activity), time.monotonic_ns())
        # A token that has been superseded meanwhile is refused; the next attempt has another.
        ask(self._connect, "POST", urlsplit(entry["url"]).path, {"token": entry["token"]}, "", self._patience)


def prepare(url: str) -> Fabric:
    """Define the activity types and the orchestrations of all runs, and what a deployment rests on."""
    fabric = Fabric(url, "")
    with contextlib.closing(fabric.connect()) as connection:
        for type_ in ACTIVITY_TYPES:
            connection.json("POST", f"{BASE}/activity-definitions", {"type": type_}, expect=201)
        for shapes in (PLAIN, PARTICIPANTS):
            connection.json("POST", f"{BASE}/orchestration-definitions", template(shapes), expect=201)
    return fabric
