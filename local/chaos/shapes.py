"""The orchestrations of a run: small graphs, each with something that can go wrong in its own way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cfm_core.contracts.orchestration import DEPLOY, DISPOSE

ACTIVITY_TYPES = ("chaos.one", "chaos.two")
"""Both do the same; with two, one completion dispatches over several ways."""

Shape = Mapping[str, Sequence[str]]
"""The parents of each activity. An activity's place is its ``ord``."""

PLAIN: Mapping[str, Shape] = {
    "chaos.chain": {"a": (), "b": ("a",), "c": ("b",)},
    "chaos.diamond": {"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c")},
    "chaos.fan": {"a": (), **{f"b{n}": ("a",) for n in range(6)}, "c": [f"b{n}" for n in range(6)]},
    "chaos.lattice": {"a": (), "b": (), "c": ("a",), "d": ("a", "b"), "e": ("b",), "f": ("c", "d"), "g": ("d", "e")},
}
PARTICIPANTS: Mapping[str, Shape] = {
    DEPLOY: {"a": (), "b": ("a",), "c": ("a",), "d": ("b",), "e": ("b", "c")},
    # Other names than those of the deployment: a compensation gets its processing data.
    DISPOSE: {"u": (), "v": ("u",), "w": ("u",), "x": ("v", "w")},
}
SHAPES: Mapping[str, Shape] = {**PLAIN, **PARTICIPANTS}


def template(shapes: Mapping[str, Shape]) -> dict[str, Any]:
    """Some shapes as an orchestration template, as the API takes it. What is beside ``DISPOSE`` in one is compensated."""
    return {
        "activities": {
            type_: [
                {"id": id_, "type": ACTIVITY_TYPES[place % 2], **({"dependsOn": list(parents)} if parents else {})}
                for place, (id_, parents) in enumerate(shape.items())
            ]
            for type_, shape in shapes.items()
        }
    }
