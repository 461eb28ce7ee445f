"""Gives the orders of a plan: one thread looks at all runs at once, in the database, for those whose moment has come."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from cfm_core.errors import CfmError
from cfm_core.store.database import Database
from local.bench.fabric import BASE
from local.chaos.client import Client
from local.chaos.plan import Hold, Work

RUNS = f"{BASE}/orchestrations"
_LOOK_SECONDS = 0.2
_ENDS = frozenset({"COMPLETED", "ERRORED", "CANCELLED", "COMPENSATED", "COMPENSATION_FAILED", "error", "disposed"})
_STATES = """
SELECT o.id, o.state, (
         SELECT n.activity_id FROM provision_manager.activity a
           JOIN provision_manager.def_node n ON n.def_id = o.def_id AND n.phase = a.phase AND n.ord = a.ord
          WHERE a.orch_id = o.id AND a.state = 'BACKOFF' LIMIT 1)
  FROM provision_manager.orchestration o WHERE o.id = ANY (:ids)
 UNION ALL
SELECT p.identifier, p.state, NULL FROM tenant_manager.participant_profiles p WHERE p.identifier = ANY (:ids)
"""


@dataclass(frozen=True, slots=True)
class Step:
    """One request, as soon as the run (or the participant) is in the state ``when``."""

    when: str
    action: str
    more: Mapping[str, Any] = field(default_factory=dict)
    of: str = ""
    """``victim``: it is about the plan's activity; ``backoff``: about one that waits for its next attempt."""


_RETRY = Step("ERRORED", "retry")
ORDERS: Mapping[str, tuple[Step, ...]] = {
    "pause": (Step("RUNNING", "pause"), Step("RUNNING", "resume")),
    "hasten": (Step("RUNNING", "retry", of="backoff"),),
    "cancel": (Step("RUNNING", "cancel"),),
    "rerun": (Step("COMPLETED", "rerun"),),
    "retry": (_RETRY,),
    # What is left out fails it once more.
    "retry activity": (Step("ERRORED", "retry", of="victim"), _RETRY),
    "resolve": (Step("ERRORED", "resolve", of="victim"), _RETRY),
    "compensate": (Step("COMPLETED", "compensate", {"force": True}),),
    "stop": (Step("RUNNING", "cancel", {"compensate": False}), Step("CANCELLED", "compensate")),
    "compensate again": (Step("COMPENSATION_FAILED", "compensate"),),
    "dispose": (Step("active", "dispose"),),
}


@dataclass(slots=True)
class _Pending:
    work: Work
    of: str
    """The id of its run, or the participant's identifier."""
    path: str
    steps: list[Step]
    is_asked: bool = False


class Operators:
    """A thread's work: ``run`` until it is told that no more orders come."""

    def __init__(self, database: Database, client: Client) -> None:
        self.cancelled: set[str] = set()
        """The work whose cancellation was accepted."""
        self.resolved: dict[tuple[str, int, str], int] = {}
        """When each activity (orchestration, phase, name) was first resolved, on the clock of the agent's log."""
        self.problems: list[str] = []
        self._database = database
        self._client = client
        self._pending: dict[str, _Pending] = {}
        self._lock = threading.Lock()

    def take(self, work: Work, of: str, path: str) -> None:
        """Give the order of ``work`` when its time has come."""
        if work.order:
            with self._lock:
                self._pending[of] = _Pending(work, of, path, list(ORDERS[work.order]))

    def hold(self, hold: Hold) -> None:
        """Pause an activity type for a while."""
        for action, seconds in (("pause", hold.seconds), ("resume", 0.0)):
            status, body = self._client.ask("POST", f"{BASE}/activity-types/{hold.type}/{action}", _order())
            if status != 200:
                self.problems.append(f"{action} {hold.type}: {status} {body[:200]!r}")
            time.sleep(seconds)  # as the plan says

    def run(self, no_more: threading.Event) -> None:
        """Look for runs whose moment has come, until all orders have been given after there are ``no_more``."""
        while self._client.has_patience and not (no_more.is_set() and not self._pending):
            with contextlib.suppress(CfmError):  # the database is not there; it will be
                self._look()
            self._client.stopped.wait(_LOOK_SECONDS)
        self.problems += [f"no moment for the order {one.work.order} to {one.of}" for one in self._pending.values()]

    def _look(self) -> None:
        with self._lock:
            waiting = [one.of for one in self._pending.values() if not one.is_asked]
        for of, state, in_backoff in self._database.rows(_STATES, ids=waiting):
            pending = self._pending[of]
            step = pending.steps[0]
            if state != step.when:
                if state in _ENDS:
                    self._drop(pending)  # too late
            elif step.of != "backoff" or in_backoff:
                pending.is_asked = True
                self._client.later(self._ask, pending, step, pending.work.victim if step.of == "victim" else in_backoff)

    def _ask(self, pending: _Pending, step: Step, activity: str) -> None:
        try:
            status, body = self._send(pending, step, activity)
        except TimeoutError as error:
            self.problems.append(str(error))
            self._drop(pending)
            return
        # The run may have gone on meanwhile, or a request whose answer was lost has had its effect. Some activities cannot be
        # retried without others.
        if status not in {200, 202, 409} and (status, step.action, step.of) != (422, "retry", "victim"):
            self.problems.append(f"{pending.of}: {step.action}: {status} {body[:200]!r}")
        if step.action == "cancel" and status == 200:
            self.cancelled.add(pending.work.id)
        pending.steps.pop(0)
        pending.is_asked = False
        if not pending.steps:
            self._drop(pending)

    def _send(self, pending: _Pending, step: Step, activity: str) -> tuple[int, bytes]:
        if step.action == "dispose":
            return self._client.ask("DELETE", pending.path)
        order = _order() | dict(step.more)
        if not step.of:
            return self._client.ask("POST", f"{pending.path}/{step.action}", order)
        if step.action == "resolve":
            self.resolved.setdefault((pending.of, 0, activity), time.monotonic_ns())
            order["values"] = {f"turn.{activity}": 9}
        return self._client.ask("POST", f"{pending.path}/activities/{quote(activity)}/{step.action}", order)

    def _drop(self, pending: _Pending) -> None:
        with self._lock:
            self._pending.pop(pending.of, None)


def _order() -> dict[str, Any]:
    return {"reason": "the plan says so"}
