"""The orchestrations of a run: small graphs, each with something that can go wrong in its own way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cfm_core.contracts.orchestration import DEPLOY, DISPOSE

CHECKED, LIMITED = "chaos.checked", "chaos.limited"
ACTIVITY_TYPES: Mapping[str, Mapping[str, Any]] = {
    # Both do the same; with two, one completion dispatches over several ways.
    "chaos.one": {},
    "chaos.two": {},
    CHECKED: {
        "inputSchema": {
            "type": "object",
            "required": ["script", "before"],
            "properties": {"before": {"type": "integer", "minimum": 1}, "measure": {"maximum": 1}},
        },
        "outputSchema": {"type": "object", "properties": {"turn.b": {"type": "integer"}}, "required": ["turn.b"]},
    },
    # Little enough to be reached, and enough for a run to come to its end soon.
    LIMITED: {
        "limits": {
            "concurrency": 24,
            "concurrencyPerTenant": 12,
            "rate": {"count": 40, "per": "PT1S"},
            "ratePerTenant": {"count": 25, "per": "PT1S"},
        }
    },
}
"""What is said of each activity type beside its name. The agent does the same for all."""

Shape = Mapping[str, Sequence[str]]
"""The parents of each activity. An activity's place is its ``ord``."""

CHAIN, DATA, NARROW, FLOW, UNDOABLE = "chaos.chain", "chaos.data", "chaos.narrow", "chaos.flow", "chaos.undoable"
PLAIN: Mapping[str, Shape] = {
    CHAIN: {"a": (), "b": ("a",), "c": ("b",)},
    "chaos.diamond": {"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c")},
    "chaos.fan": {"a": (), **{f"b{n}": ("a",) for n in range(6)}, "c": [f"b{n}" for n in range(6)]},
    "chaos.lattice": {"a": (), "b": (), "c": ("a",), "d": ("a", "b"), "e": ("b",), "f": ("c", "d"), "g": ("d", "e")},
    DATA: {"a": (), "b": ("a",), "c": ("b",)},
    NARROW: {"a": (), "b": ("a",), "c": ("a",)},
    # Other names than those of the chain that carries one of them out.
    FLOW: {"p": (), "q": ("p",), "each": ("p",), "nested": ("q",), "z": ("each", "nested")},
}
CARRIED_OUT = frozenset({"each", "nested"})
"""Activities that no agent gets, because orchestrations carry them out."""
_UNDO: Shape = {"u": (), "v": ("u",), "w": ("u",), "x": ("v", "w")}
"""Other names than those of what it undoes, whose processing data it gets."""
UNDOABLES: Mapping[str, Shape] = {UNDOABLE: {"a": (), "b": ("a",), "c": ("b",)}, DISPOSE: _UNDO}
"""Has a compensation and is no participant, so operators may undo it whenever they like."""
PARTICIPANTS: Mapping[str, Shape] = {
    DEPLOY: {"a": (), "b": ("a",), "c": ("a",), "d": ("b",), "e": ("b", "c")},
    DISPOSE: _UNDO,
}
SHAPES: Mapping[str, Shape] = {**PLAIN, **UNDOABLES, **PARTICIPANTS}

_TYPES: Mapping[str, Mapping[str, str]] = {
    DATA: {"b": CHECKED, "c": LIMITED},
    NARROW: {"a": LIMITED, "b": LIMITED, "c": LIMITED},
}
_INPUTS: Mapping[str, Mapping[str, Sequence[Any]]] = {
    DATA: {"b": ["script", "measure", "turn.b", {"source": "a.turn.a", "target": "before"}]}
}
_MORE: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    FLOW: {
        "p": {"compensation": "chaos.two"},
        "q": {"compensation": "chaos.two", "condition": "go = true"},
        "each": {"compensation": "chaos.two", "forEach": {"source": "list", "concurrency": 2}},
        "nested": {"compensation": "chaos.one", "type": f"orchestration:{CHAIN}"},
    }
}


def template(shapes: Mapping[str, Shape]) -> dict[str, Any]:
    """Some shapes as an orchestration template, as the API takes it. What is beside ``DISPOSE`` in one is compensated."""
    return {
        "activities": {type_: [_activity(type_, *one) for one in enumerate(shape)] for type_, shape in shapes.items()}
    }


def _activity(type_: str, place: int, id_: str) -> dict[str, Any]:
    parents, inputs = SHAPES[type_][id_], _INPUTS.get(type_, {}).get(id_)
    return {
        "id": id_,
        "type": _TYPES.get(type_, {}).get(id_, ("chaos.one", "chaos.two")[place % 2]),
        **({"dependsOn": list(parents)} if parents else {}),
        **({"inputs": inputs} if inputs else {}),
        **_MORE.get(type_, {}).get(id_, {}),
    }
