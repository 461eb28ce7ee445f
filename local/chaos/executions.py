"""What the agents of a run have noted, and the rules that it is held against."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cfm_core.store.database import Database
from local.chaos.shapes import SHAPES

Place = tuple[str, int, str]
"""Orchestration, phase, name of the activity."""
Said = tuple[str, int, int, str, str]
"""An outcome that was told to the engine: orchestration, phase, place, kind, token."""

_COUNTED = """
SELECT orch_id, phase, ord, kind, count(*)::integer FROM provision_manager.history
 WHERE kind IN ('complete', 'wait', 'schedule', 'retry', 'fatal') GROUP BY 1, 2, 3, 4
"""
_DONE = """
SELECT a.orch_id, a.phase, n.activity_id
  FROM provision_manager.activity a
  JOIN provision_manager.orchestration o ON o.id = a.orch_id
  JOIN provision_manager.def_node n ON n.def_id = o.def_id AND n.phase = a.phase AND n.ord = a.ord
 WHERE a.state = 'DONE'
"""


@dataclass(slots=True)
class Executions:
    """The executions of all activities, by place."""

    first_begin: dict[Place, int] = field(default_factory=dict)
    first_completion: dict[Place, int] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)
    begun: Counter[tuple[Place, int]] = field(default_factory=Counter)
    """How often each turn of an activity was begun."""
    dispatched: set[tuple[Place, int, str]] = field(default_factory=set)
    """By how many dispatches, known by their tokens."""

    def summary(self) -> dict[str, Any]:
        """How much more was executed than had to be."""
        total, needed = sum(self.begun.values()), len(self.begun)
        return {
            "needed": needed,
            "total": total,
            "byRepeatedDelivery": total - len(self.dispatched),
            "byAnotherDispatch": len(self.dispatched) - needed,
            "perActivity": round(total / needed, 4) if needed else 0.0,
        }


def read(log: Path, endings: Mapping[Place, int]) -> Executions:
    """Read the agents' log; ``endings`` says when somebody outside has ended what waited."""
    found = Executions()
    for line in log.read_bytes().splitlines() if log.exists() else ():
        entry = json.loads(line)
        place = (entry["run"], entry["phase"], entry["activity"])
        found.types[entry["run"]] = entry["type"]
        if entry["what"] == "begin":
            found.begun[place, entry["turn"]] += 1
            found.dispatched.add((place, entry["turn"], entry["token"]))
            found.first_begin[place] = min(entry["at"], found.first_begin.get(place, entry["at"]))
        elif entry["word"] == "complete":
            found.first_completion[place] = min(entry["at"], found.first_completion.get(place, entry["at"]))
    for place, at in endings.items():
        found.first_completion.setdefault(place, at)
    return found


def out_of_order(found: Executions) -> list[str]:
    """Activities that began before a parent had been completed."""
    wrong = []
    for (run, phase, activity), begun in found.first_begin.items():
        for parent in SHAPES[found.types[run]][activity]:
            completed = found.first_completion.get((run, phase, parent))
            if completed is None or completed > begun:
                wrong.append(f"{run}: {activity} began before {parent} was completed")
    return wrong


def never_executed(found: Executions, database: Database) -> list[str]:
    """Activities that count as done although no agent has done them."""
    done: Iterable[Place] = (tuple(row) for row in database.rows(_DONE))
    return [
        f"{run}: {activity}" for run, phase, activity in done if (run, phase, activity) not in found.first_completion
    ]


def counted_without_cause(said: Collection[Said], database: Database) -> list[str]:
    """Outcomes that counted more often than dispatches were answered with them."""
    tokens: defaultdict[tuple[str, int, int, str], set[str]] = defaultdict(set)
    for *key, token in said:
        tokens[key[0], key[1], key[2], key[3]].add(token)  # type: ignore[index]  # the four parts before the token
    return [
        f"{run}: {kind} of activity {ord_} counted {count} times"
        for run, phase, ord_, kind, count in database.rows(_COUNTED)
        if count > len(tokens[run, phase, ord_, kind])
    ]
