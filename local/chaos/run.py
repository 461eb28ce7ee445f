"""One run: the plan's work and faults at once, then rest, then everything is looked at."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cfm_core.contracts.orchestration import DEPLOY
from cfm_core.store.database import Database
from local.bench.fabric import Fabric
from local.chaos import executions
from local.chaos.faults import Faults
from local.chaos.ground import Ground
from local.chaos.invariants import broken
from local.chaos.plan import Plan, Work
from local.chaos.workload import Client, Endings, Workload

_LOOK_SECONDS = 0.2
_MOST_SHOWN = 10
_LOOKS = 8
"""So often everything has to be at rest, one look after the other."""

_WAITING = """
SELECT p.identifier, p.state FROM tenant_manager.participant_profiles p
  LEFT JOIN provision_manager.orchestration o ON o.id = p.manifest_id
 WHERE p.due_at IS NOT NULL AND p.state <> 'error' OR p.state = 'error' AND o.state = 'COMPENSATED'
"""
"""Participants that wait for an end; or for what has undone it, where that has happened and they have not heard of it."""
_UNREST = f"""
SELECT (SELECT count(*) FROM provision_manager.orchestration
         WHERE state IN ('RUNNING', 'CANCELLING', 'COMPENSATING'))
     + (SELECT count(*) FROM ({_WAITING}) waiting)
     + (SELECT count(*) FROM eventing.outbox)
"""  # noqa: S608
_STATES = "SELECT id, state FROM provision_manager.orchestration"
_RUNS = "SELECT state, count(*) FROM provision_manager.orchestration GROUP BY state"
_TURNS = """
SELECT o.id, d.values FROM provision_manager.orchestration o
  JOIN provision_manager.orchestration_data d ON d.orch_id = o.id WHERE o.state = 'COMPLETED'
"""
_INPUTS = "SELECT orch_id, input FROM provision_manager.orchestration_data"
_PARTICIPANTS = "SELECT identifier, state FROM tenant_manager.participant_profiles"
_OPEN = f"""
SELECT format('orchestration %s is %s', id, state) FROM provision_manager.orchestration
 WHERE state IN ('RUNNING', 'CANCELLING', 'COMPENSATING')
 UNION ALL
SELECT format('participant %s is %s', identifier, state) FROM ({_WAITING}) waiting
 UNION ALL
SELECT format('outbox row %s for %s', id, subject) FROM eventing.outbox
"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class Report:
    """What happened in a run, and which rules it has broken."""

    seed: int
    faults: dict[str, int]
    messages: dict[str, int]
    orchestrations: dict[str, int]
    fenced: int
    executions: dict[str, Any]
    rest_seconds: float
    violations: dict[str, list[str]]


def run(plan: Plan, ground: Ground, fabric: Fabric, patience: float, say: Callable[[str], None]) -> Report:
    """Carry out a plan.

    Args:
        patience: so many seconds after the last fault everything has to have come to an end.
    """
    ground.empty()
    client = Client(fabric.connect, plan.seconds + patience)
    workload = Workload(plan, fabric, client)
    endings = Endings(ground.executions, client)
    faults = Faults(plan, ground, say)
    no_more_faults = threading.Event()
    begun = time.monotonic()
    threads = [
        threading.Thread(target=faults.run, args=(begun, no_more_faults), name="faults"),
        threading.Thread(target=endings.run, name="endings"),
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
    rest_seconds = round(time.monotonic() - calm_since, 1)
    found = executions.read(ground.executions, endings.at)
    said = ground.functions.said | endings.said
    database = ground.database
    violations = {
        **broken(database),
        "every request is answered": refused,
        "everything comes to an end": unrest,
        "orchestrations end as their scripts say": wrong_ends(plan, database, workload.cancelled),
        "what an orchestration was started with never changes": changed_inputs(plan, database),
        "no record of an activity is lost": lost_records(plan, database),
        "no activity begins before its parents are completed": executions.out_of_order(found),
        "what is done was executed": executions.never_executed(found, database),
        "what counts was said": executions.counted_without_cause(said, database),
    }
    return Report(
        seed=plan.seed,
        faults=dict(faults.counts),
        messages=dict(ground.dice.counts),
        orchestrations=dict(map(tuple, database.rows(_RUNS))),
        fenced=database.value("SELECT count(*) FROM provision_manager.history WHERE kind LIKE 'fenced: %'"),
        executions=found.summary(),
        rest_seconds=rest_seconds,
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
        quiet = quiet + 1 if database.value(_UNREST) == 0 else 0
        if time.monotonic() > deadline and quiet == 0:
            return [what for (what,) in database.rows(_OPEN)]
        time.sleep(_LOOK_SECONDS)  # between two looks
    return []


def expected_states(work: Work, cancelled: bool) -> set[str]:
    """How an orchestration, or for a deployment its participant, may end."""
    if work.type == DEPLOY:
        return {"disposed"} if work.fails or cancelled or work.order == "dispose" else {"active"}
    if cancelled:
        return {"CANCELLED"}
    return {"ERRORED"} if work.fails and work.order != "retry" else {"COMPLETED"}


def wrong_ends(plan: Plan, database: Database, cancelled: set[str]) -> list[str]:
    """Orchestrations and participants that are in no state that they may be in."""
    states: dict[str, str] = dict(map(tuple, [*database.rows(_STATES), *database.rows(_PARTICIPANTS)]))
    return [
        f"{work.id} ({work.type}{', ' + work.order if work.order else ''}) is {states.get(work.id, 'not there')}"
        for work in plan.work
        if states.get(work.id) not in expected_states(work, work.id in cancelled)
    ]


def changed_inputs(plan: Plan, database: Database) -> list[str]:
    """Orchestrations whose input is not what they were started with."""
    inputs: dict[str, Any] = dict(map(tuple, database.rows(_INPUTS)))
    return [
        work.id
        for work in plan.work
        if work.id in inputs
        and inputs[work.id] != {"script": {name: list(words) for name, words in work.script.items()}}
    ]


def lost_records(plan: Plan, database: Database) -> list[str]:
    """Values that an activity of a completed orchestration has recorded and that are not there."""
    values = dict(map(tuple, database.rows(_TURNS)))
    return [
        f"{work.id}: {activity} recorded {len(words)} turns, there are {found.get(f'turn.{activity}')}"
        for work in plan.work
        if (found := values.get(work.id)) is not None
        for activity, words in work.script.items()
        if found.get(f"turn.{activity}", 0) < len(words)
    ]
