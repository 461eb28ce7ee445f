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
_RUNS = f"{BASE}/orchestrations"
_ERRORED = 3


class Client:
    """Asks the fabric with patience, from any thread.

    Args:
        connect: makes a connection to the API.
        patience: so many seconds one waits for an answer, and for what one looks at to be as wanted.
    """

    def __init__(self, connect: Callable[[], Connection], patience: float) -> None:
        self.stopped = threading.Event()
        """Once it is set nobody waits any more."""
        self._connect = connect
        self._patience = patience

    def ask(self, method: str, path: str, document: Any = None, headers: str = "") -> tuple[int, bytes]:
        """Send one request until it is answered, by whatever else than "not now".

        Raises:
            TimeoutError: the patience has ended.
        """
        body = b"" if document is None else json.dumps(document).encode()
        deadline = time.monotonic() + self._patience
        while True:
            try:
                with contextlib.closing(self._connect()) as connection:
                    status, _, answer = connection.request(method, path, body, headers)
            except OSError as error:
                status, answer = 503, str(error).encode()
            # Under an idempotency key a 409 may say that the request before is still being worked on.
            if status != 503 and not (status == 409 and headers):
                return status, answer
            if self.stopped.wait(_LOOK_SECONDS) or time.monotonic() > deadline:
                raise TimeoutError(f"{method} {path}: {status} {answer[:300]!r}")

    def until(self, condition: Callable[[int, Any], bool], method: str, path: str, document: Any = None) -> int:
        """Ask again and again until status and answer are as wanted; gives the status.

        Raises:
            TimeoutError: the patience has ended.
        """
        deadline = time.monotonic() + self._patience
        while True:
            status, body = self.ask(method, path, document)
            if condition(status, json.loads(body or b"null")):
                return status
            if self.stopped.wait(_LOOK_SECONDS) or time.monotonic() > deadline:
                raise TimeoutError(f"{method} {path} still gives {status} {body[:300]!r}")


class Workload:
    """The clients of one run.

    Args:
        fabric: prepared by ``prepare``.
    """

    def __init__(self, plan: Plan, fabric: Fabric, client: Client) -> None:
        self.cancelled: set[str] = set()
        """The work whose cancellation was accepted."""
        self._plan = plan
        self._fabric = fabric
        self._client = client

    def run(self, begun: float) -> list[str]:
        """Do all of the plan's work, each piece at its time after ``begun``; gives what could not be done."""
        with ThreadPoolExecutor(_CLIENTS, thread_name_prefix="client") as clients:
            doing: list[Future[str]] = []
            for work in self._plan.work:
                self._client.stopped.wait(max(0.0, begun + work.at - time.monotonic()))
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
        status, body = self._client.ask("POST", _RUNS, manifest | {"payload": {"script": work.script}})
        assert status == 202, (status, body)
        run = f"{_RUNS}/{work.id}"
        match work.order:
            case "pause":
                if self._order(run, "pause"):
                    self._order(run, "resume")
            case "cancel":
                if self._order(run, "cancel"):
                    self.cancelled.add(work.id)
            case "retry":
                self._client.until(lambda status, shown: status == 200 and shown["state"] == _ERRORED, "GET", run)
                self._order(run, "retry")

    def _order(self, run: str, action: str) -> bool:
        """Whether the order was accepted; it is not where the orchestration has ended, or went on with it already.

        The Provision Manager may not have heard of the orchestration yet.
        """
        order = {"reason": "the plan says so"}
        status = self._client.until(lambda status, _: status != 404, "POST", f"{run}/{action}", order)
        assert status in {200, 409}, (action, status)
        return status == 200

    def _deploy(self, work: Work) -> None:
        wanted = json.loads(self._fabric.deployment(work.id))
        wanted["vpaProperties"] = {"cfm.connector": {"script": work.script}}
        # Repeated under one key it is one participant, which the answer names however often it takes.
        key = f"Idempotency-Key: {work.id}\r\n"
        status, body = self._client.ask("POST", self._fabric.profiles_path, wanted, key)
        assert status == 202, (status, body)
        deployed = json.loads(body)
        match work.order:
            case "dispose":
                path = f"{self._fabric.profiles_path}/{deployed['id']}"
                self._client.until(lambda _, shown: shown["vpas"][0]["state"] == "active", "GET", path)
                status, body = self._client.ask("DELETE", path)
                assert status in {202, 409}, (status, body)
            case "cancel":
                if self._order(f"{_RUNS}/{deployed['orchestrationId']}", "cancel"):
                    self.cancelled.add(work.id)


class Endings:
    """Ends the activities that wait for somebody outside, with what their agent has noted.

    ``said`` tells of each ending before it is asked for: orchestration, phase, place, kind, token.
    """

    def __init__(self, executions: Path, client: Client) -> None:
        self.said: set[tuple[str, int, int, str, str]] = set()
        self.at: dict[tuple[str, int, str], int] = {}
        """When each of these activities (orchestration, phase, name) was first ended, on the clock of the agent's log."""
        self._executions = executions
        self._client = client
        self._read = 0

    def run(self) -> None:
        """End whatever waits, until the client is stopped."""
        while not self._client.stopped.wait(_LOOK_SECONDS):
            for entry in self._new_entries():
                with contextlib.suppress(TimeoutError):  # the fabric is gone; so are those who wait for it
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
        self._client.ask("POST", urlsplit(entry["url"]).path, {"token": entry["token"]})


def prepare(url: str) -> Fabric:
    """Define the activity types and the orchestrations of all runs, and what a deployment rests on."""
    fabric = Fabric(url, "")
    with contextlib.closing(fabric.connect()) as connection:
        for type_ in ACTIVITY_TYPES:
            connection.json("POST", f"{BASE}/activity-definitions", {"type": type_}, expect=201)
        for shapes in (PLAIN, PARTICIPANTS):
            connection.json("POST", f"{BASE}/orchestration-definitions", template(shapes), expect=201)
    return fabric
