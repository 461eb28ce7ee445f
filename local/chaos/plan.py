"""What a run does, drawn from its seed alone: which orchestrations, what is done to them, which faults, and when.

Real processes do not take turns by a seed, so a repetition is the same plan and not the same interleaving.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from cfm_core.contracts.orchestration import DEPLOY, DISPOSE
from local.chaos.shapes import PLAIN, SHAPES

AGENT = "agent-chaos_agent"
PROCESSES = ("gateway", "gateway-2", "events", "events-2", "trigger", "trigger-2", AGENT, "nats", "postgres")
WIRES = ("functions", "database", "bus")

_PLAIN_PER_SECOND = 5.0
_DEPLOYMENTS_PER_SECOND = 1.5
_LONGEST_PAUSE = 8.0
"""Longer than any lease of a run."""

MESSAGES: Mapping[str, float] = {
    # HTTP, between the triggers and the functions: shares of all calls
    "call refused": 0.005,
    "call lost": 0.005,
    "call delayed": 0.02,
    "call doubled": 0.01,
    "answer lost": 0.005,
    "answer late": 0.003,
    "outcomes shuffled": 0.05,
    "outcomes replayed": 0.05,
    "outcomes outdated": 0.2,  # of the dispatches of an activity that was dispatched before
    # Postgres: of all exchanges on a connection
    "statement lost": 0.001,
    "statement delayed": 0.005,
    "commit unanswered": 0.002,
    # NATS: of all messages of one direction and kind
    "publish lost": 0.005,
    "publish doubled": 0.01,
    "publish unanswered": 0.01,
    "message lost": 0.005,
    "message doubled": 0.01,
    "message delayed": 0.02,
    "acknowledgement lost": 0.01,
}


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to a process or a wire ``at`` so many seconds after the beginning, and how many ``seconds`` it lasts."""

    at: float
    kind: str
    """``kill`` (SIGKILL), ``restart`` (SIGTERM), ``pause`` (SIGSTOP), ``wipe`` (the JetStream store), ``cut`` (of a wire)."""
    target: str
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Work:
    """An orchestration that is asked for, and what is done to it afterwards."""

    at: float
    id: str
    """The manifest's id, or for a deployment the participant's identifier."""
    type: str
    script: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """How the attempts at an activity end, one after the other; the last word stands for all further ones, too."""
    order: str = ""
    """``dispose`` or ``cancel`` for a deployment, ``pause`` (and resume), ``cancel`` or ``retry`` for others. Further verbs of
    operators are drawn here, done in ``workload``, and have their ends in ``run.expected_states``."""

    @property
    def fails(self) -> bool:
        return any("fatal" in words for words in self.script.values())


@dataclass(frozen=True, slots=True)
class Plan:
    seed: int
    seconds: float
    work: tuple[Work, ...]
    faults: tuple[Fault, ...]
    messages: Mapping[str, float]
    """How often, as a share, each fault of a message happens."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def draw(seed: int, seconds: float) -> Plan:
    """The plan of a seed; the same for ever, as long as this module and the shapes stay the same."""
    dice = random.Random(seed)
    work = [_plain(dice, seed, n, seconds) for n in range(round(seconds * _PLAIN_PER_SECOND))]
    work += [_deployment(dice, seed, n, seconds) for n in range(round(seconds * _DEPLOYMENTS_PER_SECOND))]
    return Plan(
        seed, seconds, tuple(sorted(work, key=lambda one: one.at)), tuple(_faults(dice, seconds)), dict(MESSAGES)
    )


def calm(seed: int, seconds: float) -> Plan:
    """The same orchestrations without any fault."""
    plan = draw(seed, seconds)
    return Plan(seed, seconds, plan.work, (), {})


def _faults(dice: random.Random, seconds: float) -> list[Fault]:
    faults = []
    at = dice.uniform(1, 3)
    while at < seconds:
        match dice.choices(("kill", "pause", "restart", "wipe", "cut"), (5, 4, 2, 2, 2))[0]:
            case "wipe":
                fault = Fault(round(at, 2), "wipe", "nats")
            case "cut":
                fault = Fault(round(at, 2), "cut", dice.choice(WIRES), round(dice.uniform(0.2, 3), 2))
            case "pause":
                fault = Fault(
                    round(at, 2), "pause", dice.choice(PROCESSES), round(dice.uniform(0.5, _LONGEST_PAUSE), 2)
                )
            case kind:
                fault = Fault(round(at, 2), kind, dice.choice(PROCESSES))
        faults.append(fault)
        at += dice.uniform(0.5, 3)
    return faults


def _plain(dice: random.Random, seed: int, number: int, seconds: float) -> Work:
    type_ = dice.choice(sorted(PLAIN))
    script = _script(dice, type_)
    order = dice.choices(("", "pause", "cancel"), (20, 2, 1))[0]
    if order == "" and dice.random() < 0.15:
        victim = dice.choice(sorted(SHAPES[type_]))
        order = dice.choice(("", "retry"))
        script[victim] = ("fatal", "complete") if order == "retry" else ("retry", "fatal")
    return Work(_moment(dice, seconds), f"chaos-{seed}-{number}", type_, script, order)


def _deployment(dice: random.Random, seed: int, number: int, seconds: float) -> Work:
    script = _script(dice, DEPLOY) | _script(dice, DISPOSE)
    order = dice.choices(("", "dispose", "cancel"), (8, 4, 1))[0]
    if order == "" and dice.random() < 0.3:
        script[dice.choice(sorted(SHAPES[DEPLOY]))] = ("fatal",)
    return Work(_moment(dice, seconds), f"did:web:chaos-{seed}-{number}.example", DEPLOY, script, order)


def _moment(dice: random.Random, seconds: float) -> float:
    return round(dice.uniform(0, seconds), 2)


def _script(dice: random.Random, type_: str) -> dict[str, tuple[str, ...]]:
    """How attempts end, for those activities of a type that do not complete at once."""
    script: dict[str, tuple[str, ...]] = {}
    for activity in SHAPES[type_]:
        words = dice.choices(("schedule", "retry"), k=dice.choices((0, 1, 2), (12, 3, 1))[0])
        last = dice.choices(("complete", "wait"), (15, 1))[0]
        if words or last != "complete":
            script[activity] = (*words, last)
    return script
