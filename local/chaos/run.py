"""One run: the plan's work and faults at once, then rest, then everything is looked at."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cfm_core.contracts.orchestration import DEPLOY
from cfm_core.errors import CfmError
from cfm_core.store.database import Database
from local.bench.fabric import Fabric
from local.chaos import records
from local.chaos.client import Client
from local.chaos.courier import Courier
from local.chaos.endings import Endings
from local.chaos.faults import Faults
from local.chaos.ground import Ground
from local.chaos.invariants import broken
from local.chaos.operators import Operators
from local.chaos.plan import AGENT, Plan, Work
from local.chaos.shapes import FLOW, UNDOABLE
from local.chaos.watch import Watch
from local.chaos.workload import Workload

_LOOK_SECONDS = 0.2
_MOST_SHOWN = 10
_LOOKS = 8
"""So often everything has to be at rest, one look after the other."""
_MANY = 2000
_MOST_PER_ACTIVITY = 2.0
"""So often an activity is executed at most where there were many. It is about 1.06 times, and 1.15 where the machine is so
busy that leases of some seconds end while their activities wait for an agent."""
_MOST_WITHOUT_AGENT_FAULTS = 1.05
_SHORTEST_WITH_SCHEDULES = 10.0

_WAITING = """
SELECT p.identifier, p.state FROM tenant_manager.participant_profiles p
  LEFT JOIN provision_manager.orchestration o ON o.id = p.manifest_id
 WHERE p.due_at IS NOT NULL AND p.state <> 'error' OR p.state = 'error' AND o.state = 'COMPENSATED'
"""
"""Participants that wait for an end; or for what has undone it, where that has happened and they have not heard of it."""
_OPEN = f"""
SELECT format('orchestration %s is %s', id, state) AS what FROM provision_manager.orchestration
 WHERE state_number <> 2 AND state IN ('RUNNING', 'CANCELLING', 'COMPENSATING')
 UNION ALL
SELECT format('orchestration %s has not started', id) FROM provision_manager.delayed_start WHERE state = 'SCHEDULED'
 UNION ALL
SELECT format('participant %s is %s', identifier, state) FROM ({_WAITING}) waiting
 UNION ALL
SELECT format('outbox row %s for %s', id, subject) FROM eventing.outbox
"""  # noqa: S608
_UNREST = f"SELECT EXISTS ({_OPEN})"
_RUNS = "SELECT state, count(*) FROM provision_manager.orchestration GROUP BY state"
_OPERATIONS = (
    "SELECT action, count(*) FROM audit.trail"
    " WHERE kind IN ('orchestrations', 'activity-types', 'schedules', 'dead-letters') AND action <> 'start' GROUP BY action"
)
_FENCED = "SELECT count(*) FROM provision_manager.history WHERE kind LIKE 'fenced: %'"
_IDLE_SCHEDULES = "SELECT id FROM provision_manager.schedule WHERE last_manifest_id = ''"


@dataclass(frozen=True, slots=True)
class Report:
    """What happened in a run, and which rules it has broken."""

    seed: int
    faults: dict[str, int]
    messages: dict[str, int]
    orchestrations: dict[str, int]
    operations: dict[str, int]
    fenced: int
    executions: dict[str, Any]
    seconds: float
    """From the first request to rest."""
    rest_seconds: float
    check_seconds: float
    violations: dict[str, list[str]]


def run(plan: Plan, ground: Ground, fabric: Fabric, patience: float, say: Callable[[str], None]) -> Report:
    """Carry out a plan.

    Args:
        patience: so many seconds after the last fault everything has to have come to an end.
    """
    ground.empty()
    client = Client(fabric.connect, plan.seconds + patience)
    operators = Operators(ground.database, client)
    workload = Workload(plan, fabric, client, Courier(ground.database, client), operators)
    endings = Endings(ground.executions, client)
    faults = Faults(plan, ground, say)
    watch = Watch(ground.database)
    no_more_faults = threading.Event()
    begun = time.monotonic()
    threads = [
        threading.Thread(target=faults.run, args=(begun, no_more_faults), name="faults"),
        threading.Thread(target=endings.run, name="endings"),
        threading.Thread(target=watch.run, args=(client.stopped,), name="watch"),
    ]
    ground.dice.begin(plan.seed, plan.messages)
    for thread in threads:
        thread.start()
    try:
        working = _Background(lambda: workload.run(begun))
        time.sleep(plan.seconds)  # as the plan says
        no_more_faults.set()
        threads[0].join()
        ground.dice.end()
        calm_since = time.monotonic()
        refused = working.result()
        unrest = _rest(ground.database, calm_since + patience)
    finally:
        no_more_faults.set()
        client.stopped.set()
        for thread in threads:
            thread.join()
        client.close()
    at_rest = time.monotonic()
    ground.functions.flush()
    records.load(
        ground.database,
        ground.database_url,
        work=list(_expected(plan, operators.cancelled, workload.starts_at)),
        endings=list(_ended(endings, operators)),
        executions=ground.executions,
        said=ground.said,
        more_said=endings.said,
    )
    database = ground.database
    executed = records.summary(database)
    idle = [id_ for (id_,) in database.rows(_IDLE_SCHEDULES)] if plan.seconds >= _SHORTEST_WITH_SCHEDULES else []
    violations = {
        **broken(database),
        **broken(database, records.RULES),
        **watch.broken,
        "every request is answered": refused,
        "everything comes to an end": unrest,
        "a schedule starts something": idle,
        "little is executed more than once": _amplified(executed, AGENT in plan.spared),
    }
    return Report(
        seed=plan.seed,
        faults=dict(faults.counts),
        messages=dict(ground.dice.counts),
        orchestrations=dict(map(tuple, database.rows(_RUNS))),
        operations=dict(map(tuple, database.rows(_OPERATIONS))),
        fenced=database.value(_FENCED),
        executions=executed,
        seconds=round(at_rest - begun, 1),
        rest_seconds=round(at_rest - calm_since, 1),
        check_seconds=round(time.monotonic() - at_rest, 1),
        violations={rule: what[:_MOST_SHOWN] for rule, what in violations.items() if what},
    )


class _Background:
    """Work in a thread, whose result is asked for later."""

    def __init__(self, work: Callable[[], list[str]]) -> None:
        self._found: list[str] = []
        self._thread = threading.Thread(target=lambda: self._found.extend(work()), name="workload")
        self._thread.start()

    def result(self) -> list[str]:
        self._thread.join()
        return self._found


def _rest(database: Database, deadline: float) -> list[str]:
    """Wait until nothing is under way any more; gives what still is at the ``deadline``."""
    quiet = 0
    while quiet < _LOOKS:
        try:
            quiet = 0 if database.value(_UNREST) else quiet + 1
        except CfmError:  # the database is still coming up
            quiet = 0
        if time.monotonic() > deadline and quiet == 0:
            return [what for (what,) in database.rows(f"{_OPEN} LIMIT {_MOST_SHOWN}")]
        time.sleep(_LOOK_SECONDS)  # between two looks
    return []


def expected_states(work: Work, cancelled: bool) -> set[str]:
    """How an orchestration, or for a deployment its participant, may end."""
    if work.type == DEPLOY:
        return {"disposed"} if work.fails or cancelled or work.order == "dispose" else {"active"}
    if work.type == FLOW:
        return {"COMPENSATED"} if work.fails or cancelled else {"COMPLETED"}
    if work.order in {"compensate", "compensate again"} or (cancelled and work.order == "stop"):
        return {"COMPENSATED"}
    if cancelled:
        return {"CANCELLED"}
    if work.order.startswith("retry") or work.order == "resolve":
        return {"COMPLETED"}
    if work.fails:
        return {"COMPENSATED" if work.type == UNDOABLE else "ERRORED"}
    return {"COMPLETED"}


def _expected(plan: Plan, cancelled: set[str], starts_at: dict[str, datetime]) -> Iterator[dict[str, Any]]:
    """The rows of ``chaos.work``."""
    for work in plan.work:
        row = {
            "id": work.id,
            "type": work.type,
            "what": work.order,
            "script": work.script,
            "payload": work.whole_payload,
            "ends": sorted(expected_states(work, work.id in cancelled)),
        }
        if work.id in starts_at:
            row["starts_at"] = starts_at[work.id].isoformat()
        yield row
        if work.order == "rerun":
            yield row | {"id": f"{work.id}.again", "what": "started by rerun"}


def _ended(endings: Endings, operators: Operators) -> Iterator[dict[str, Any]]:
    """The rows of ``chaos.ending``."""
    for found in (endings.at, operators.resolved):
        for (run_id, phase, activity), at in found.items():
            yield {"run": run_id, "phase": phase, "activity": activity, "at": at}


def _amplified(executed: dict[str, Any], agent_is_spared: bool) -> list[str]:
    most = _MOST_WITHOUT_AGENT_FAULTS if agent_is_spared else _MOST_PER_ACTIVITY
    is_much = executed["needed"] >= _MANY and executed["perActivity"] > most
    return [f"{executed['perActivity']} executions per activity"] if is_much else []
