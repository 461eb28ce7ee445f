"""What a run does, drawn from its seed alone: which orchestrations, what is done to them, which faults, and when.

Real processes do not take turns by a seed, so a repetition is the same plan and not the same interleaving.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from cfm_core.contracts.orchestration import DEPLOY, DISPOSE, TENANT_ID
from local.chaos.shapes import ACTIVITY_TYPES, CHAIN, DATA, FLOW, PLAIN, SHAPES, UNDOABLE

AGENT = "agent-chaos_agent"
PROCESSES = ("gateway", "gateway-2", "events", "events-2", "trigger", "trigger-2", AGENT, "nats", "postgres")
WIRES = ("functions", "database", "bus")

RATE = 36.0
"""How many orchestrations are asked for in a second."""
EVERY = 1.75
"""How many seconds there are on average from one fault of a process or a wire to the next."""
_DEPLOYMENTS = 0.15
"""The share of participants among them; and below, of others."""
_OVER_BUS = 0.4
_DELAYED = 0.05
_LARGE = 0.01
_MISFIT = 0.03
_TENANTS = {"t0": 8, "t1": 4, "t2": 2, "t3": 1}
_LONGEST_HOLD = 3.0
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """An orchestration that is asked for, and what is done to it afterwards."""

    at: float
    id: str
    """The manifest's id, or for a deployment the participant's identifier."""
    type: str
    script: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """How the attempts at an activity end, one after the other; the last word stands for all further ones, too."""
    order: str = ""
    """What operators do to it, see ``operators.ORDERS``; for a deployment ``dispose`` or ``cancel``."""
    victim: str = ""
    """The activity that the order is about."""
    payload: Mapping[str, Any] = field(default_factory=dict)
    """What it is started with beside its script."""
    over_bus: bool = False
    """Whether its manifest comes with others in a message, and not over the API."""
    starts_after: float = 0.0
    """So many seconds after it was asked for."""

    @property
    def fails(self) -> bool:
        return "measure" in self.payload or any({"fatal", "bad"} & set(words) for words in self.script.values())

    @property
    def whole_payload(self) -> dict[str, Any]:
        return {"script": {name: list(words) for name, words in self.script.items()}, **self.payload}


@dataclass(frozen=True, slots=True)
class Hold:
    """An activity type that operators pause for some seconds."""

    at: float
    type: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Plan:
    seed: int
    seconds: float
    work: tuple[Work, ...]
    faults: tuple[Fault, ...]
    holds: tuple[Hold, ...]
    schedules: Mapping[str, str]
    """What each schedule does when its last run goes on."""
    messages: Mapping[str, float]
    """How often, as a share, each fault of a message happens."""
    spared: tuple[str, ...] = ()
    """The processes to which nothing is done."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def draw(seed: int, seconds: float, rate: float = RATE, spared: Sequence[str] = (), every: float = EVERY) -> Plan:
    """The plan of a seed; the same for ever, as long as this module and the shapes stay the same.

    Args:
        every: how many seconds there are on average between faults.
        spared: processes whose faults are left out; everything else stays as it is.
    """
    dice = random.Random(seed)  # noqa: S311 - chance that can be repeated
    deployments = round(seconds * rate * _DEPLOYMENTS)
    work = [_plain(dice, seed, n, seconds) for n in range(round(seconds * rate) - deployments)]
    work += [_deployment(dice, seed, n, seconds) for n in range(deployments)]
    return Plan(
        seed,
        seconds,
        tuple(sorted(work, key=lambda one: one.at)),
        tuple(fault for fault in _faults(dice, seconds, every) if fault.target not in spared),
        tuple(_holds(dice, seconds)),
        {f"chaos-{seed}-{overlap}": overlap for overlap in ("skip", "queue", "allow")},
        dict(MESSAGES),
        tuple(spared),
    )


def calm(seed: int, seconds: float, rate: float = RATE) -> Plan:
    """The same orchestrations without any fault."""
    return replace(draw(seed, seconds, rate), faults=(), messages={})


def _faults(dice: random.Random, seconds: float, every: float) -> list[Fault]:
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
        at += dice.uniform(0.5, 3) * every / EVERY
    return faults


def _holds(dice: random.Random, seconds: float) -> Iterator[Hold]:
    at = dice.uniform(1, 5)
    while at < seconds:
        hold = Hold(round(at, 2), dice.choice(sorted(ACTIVITY_TYPES)), round(dice.uniform(0.3, _LONGEST_HOLD), 2))
        yield hold
        # One ends before the next begins, which may be of the same type.
        at += hold.seconds + dice.uniform(2, 10)


def _plain(dice: random.Random, seed: int, number: int, seconds: float) -> Work:
    type_ = dice.choice(sorted([*PLAIN, UNDOABLE]))
    script = _script(dice, type_)
    payload: dict[str, Any] = {TENANT_ID: dice.choices(list(_TENANTS), list(_TENANTS.values()))[0]}
    order = dice.choices(("", "pause", "hasten", "cancel", "rerun"), (30, 3, 1, 2, 1))[0]
    victim = dice.choice(sorted(SHAPES[type_]))
    if type_ == UNDOABLE:
        order = dice.choice(("", "compensate", "stop", "compensate again"))
        script |= _script(dice, DISPOSE)
        if order == "compensate again":
            script |= {"c": ("fatal",), "v": ("fatal", "complete")}
    elif type_ == FLOW:
        payload |= {"list": list(range(dice.randint(1, 4))), "go": dice.random() < 0.5}
        script = {name: words for name, words in script.items() if name != "nested" and (name != "q" or payload["go"])}
        script |= _script(dice, CHAIN) | ({"z": ("fatal",)} if order == "" and dice.random() < 0.3 else {})
    elif order == "" and dice.random() < 0.15:
        order = dice.choice(("", "retry", "retry activity", "resolve"))
        script[victim] = ("fatal", "complete") if order.startswith("retry") else ("retry", "fatal")
    elif type_ == DATA and order == "" and dice.random() < _MISFIT:
        payload["measure"] = 2
    elif type_ == DATA and order == "" and dice.random() < _MISFIT:
        script["b"] = ("bad",)
    if dice.random() < _LARGE:
        payload["large"] = "a"
    over_bus = dice.random() < _OVER_BUS
    is_delayed = not over_bus and dice.random() < _DELAYED
    return Work(
        at=_moment(dice, seconds),
        id=f"chaos-{seed}-{number}",
        type=type_,
        script=script,
        order=order,
        victim=victim,
        payload=payload,
        over_bus=over_bus,
        starts_after=round(dice.uniform(1, 8), 2) if is_delayed else 0.0,
    )


def _deployment(dice: random.Random, seed: int, number: int, seconds: float) -> Work:
    script = _script(dice, DEPLOY) | _script(dice, DISPOSE)
    order = dice.choices(("", "dispose", "cancel"), (8, 4, 1))[0]
    if order == "" and dice.random() < 0.3:
        script[dice.choice(sorted(SHAPES[DEPLOY]))] = ("fatal",)
    id_ = f"did:web:chaos-{seed}-{number}.example"
    return Work(at=_moment(dice, seconds), id=id_, type=DEPLOY, script=script, order=order)


def _moment(dice: random.Random, seconds: float) -> float:
    return round(dice.uniform(0, seconds), 2)


def _script(dice: random.Random, type_: str) -> dict[str, tuple[str, ...]]:
    """How attempts end, for those activities of a type that do not complete at once."""
    script: dict[str, tuple[str, ...]] = {}
    for activity in SHAPES[type_]:
        words = dice.choices(("schedule", "retry"), k=dice.choices((0, 1, 2), (12, 3, 1))[0])
        # Where each activity is undone, the same script is read once more.
        last = dice.choices(("complete", "wait"), (15, 1))[0] if type_ != FLOW else "complete"
        if words or last != "complete":
            script[activity] = (*words, last)
    return script
