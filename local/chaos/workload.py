"""Asks for the orchestrations of a plan as patient clients do."""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from functools import partial
from urllib.parse import quote

from cfm_core.contracts.orchestration import DEPLOY, OrchestrationManifest
from local.bench.fabric import BASE, Fabric
from local.chaos.client import Client
from local.chaos.courier import Courier
from local.chaos.operators import RUNS, Operators
from local.chaos.plan import Plan, Work
from local.chaos.shapes import ACTIVITY_TYPES, PARTICIPANTS, PLAIN, UNDOABLES, template

_BATCH_SECONDS = 0.25
_SCHEDULED = "chaos.chain"
_UNDOABLE_TEMPLATE = "chaos-undoable"


class Workload:
    """What one run asks for.

    Args:
        fabric: prepared by ``prepare``.
    """

    def __init__(self, plan: Plan, fabric: Fabric, client: Client, courier: Courier, operators: Operators) -> None:
        self.starts_at: dict[str, datetime] = {}
        """When each of the orchestrations is to start that are to start later."""
        self._plan = plan
        self._fabric = fabric
        self._client = client
        self._courier = courier
        self._operators = operators

    def run(self, begun: float) -> list[str]:
        """Do all of the plan's work, each piece at its time after ``begun``; gives what could not be done."""
        no_more = threading.Event()
        helpers = [threading.Thread(target=one.run, args=(no_more,)) for one in (self._courier, self._operators)]
        for helper in helpers:
            helper.start()
        doing: list[Future[str]] = []
        try:
            for at, action in self._agenda():
                self._client.stopped.wait(max(0.0, begun + at - time.monotonic()))
                doing.append(self._client.later(_attempt, action))
            problems = [problem for one in doing if (problem := one.result())]
        finally:
            no_more.set()
            for helper in helpers:
                helper.join()
        return problems + self._courier.problems + self._operators.problems

    def _agenda(self) -> list[tuple[float, Callable[[], None]]]:
        """What is to be done, in the order of time."""
        agenda: list[tuple[float, Callable[[], None]]] = []
        for work in self._plan.work:
            if not work.over_bus:
                agenda.append((work.at, partial(self._deploy if work.type == DEPLOY else self._start, work)))
        over_bus = (work for work in self._plan.work if work.over_bus)
        for place, batch in itertools.groupby(over_bus, lambda work: int(work.at / _BATCH_SECONDS)):
            agenda.append(((place + 1) * _BATCH_SECONDS, partial(self._send, list(batch))))
        for hold in self._plan.holds:
            agenda.append((hold.at, partial(self._operators.hold, hold)))
        for schedule, overlap in self._plan.schedules.items():
            agenda.append((0.0, partial(self._put_schedule, schedule, overlap)))
            agenda.append((self._plan.seconds, partial(self._end_schedule, schedule)))
        return sorted(agenda, key=lambda one: one[0])

    def _start(self, work: Work) -> None:
        manifest = {
            "id": work.id,
            "correlationId": work.id,
            "orchestrationType": work.type,
            "payload": work.whole_payload,
        }
        if work.starts_after:
            self.starts_at[work.id] = at = datetime.now(UTC) + timedelta(seconds=work.starts_after)
            manifest["startAt"] = at.isoformat()
        status, body = self._client.ask("POST", RUNS, manifest)
        assert status == 202, (work.id, status, body)
        self._operators.take(work, work.id, f"{RUNS}/{work.id}")

    def _send(self, batch: list[Work]) -> None:
        self._courier.send(
            [
                OrchestrationManifest(
                    id=work.id, correlation_id=work.id, orchestration_type=work.type, payload=work.whole_payload
                )
                for work in batch
            ]
        )
        for work in batch:
            self._operators.take(work, work.id, f"{RUNS}/{work.id}")

    def _deploy(self, work: Work) -> None:
        wanted = json.loads(self._fabric.deployment(work.id))
        wanted["vpaProperties"] = {"cfm.connector": work.whole_payload}
        # Repeated under one key it is one participant, which the answer names however often it takes.
        key = f"Idempotency-Key: {work.id}\r\n"
        status, body = self._client.ask("POST", self._fabric.profiles_path, wanted, key)
        assert status == 202, (work.id, status, body)
        deployed = json.loads(body)
        if work.order == "dispose":
            self._operators.take(work, work.id, f"{self._fabric.profiles_path}/{deployed['id']}")
        else:
            run = deployed["orchestrationId"]
            self._operators.take(work, run, f"{RUNS}/{run}")

    def _put_schedule(self, schedule: str, overlap: str) -> None:
        document = {"cron": "* * * * *", "overlap": overlap, "orchestrationType": _SCHEDULED, "payload": {"script": {}}}
        status, body = self._client.ask("PUT", _schedule(schedule), document)
        assert status in {200, 201}, (schedule, status, body)

    def _end_schedule(self, schedule: str) -> None:
        status, body = self._client.ask("PATCH", _schedule(schedule), {"paused": True})
        assert status == 200, (schedule, status, body)


def _schedule(schedule: str) -> str:
    return f"{BASE}/schedules/{quote(schedule)}"


def _attempt(action: Callable[[], None]) -> str:
    try:
        action()
    except (AssertionError, TimeoutError) as error:
        return str(error)
    return ""


def prepare(url: str) -> Fabric:
    """Define the activity types and the orchestrations of all runs, and what a deployment rests on."""
    fabric = Fabric(url, "")
    with contextlib.closing(fabric.connect()) as connection:
        for type_, more in ACTIVITY_TYPES.items():
            connection.json("POST", f"{BASE}/activity-definitions", {"type": type_, **more}, expect=201)
        # Before the participants' template, so that the latter has the newest disposal.
        undoable = f"{BASE}/orchestration-definitions/{_UNDOABLE_TEMPLATE}"
        connection.json("PUT", undoable, template(UNDOABLES), expect=201)
        for shapes in (PLAIN, PARTICIPANTS):
            connection.json("POST", f"{BASE}/orchestration-definitions", template(shapes), expect=201)
    return fabric
