from __future__ import annotations

import json
import random
from typing import Any

from tests.contract.tenancy.world import ALL, World

SCALARS: list[Any] = ["", "a", "it's", "5", "é", 0, 1, 5, -2.5, 5.0, True, False, None, 2**60]
KEYS = ["a", "b", "c d", "cfm.vpa.state"]


def document(dice: random.Random, depth: int = 0) -> dict[str, Any]:
    def value() -> Any:
        match dice.randint(0, 6 if depth < 2 else 3):
            case 4:
                return document(dice, depth + 1)
            case 5 | 6:
                return [dice.choice([*SCALARS, {"a": 1}]) for _ in range(dice.randint(0, 3))]
            case _:
                return dice.choice(SCALARS)

    return {key: value() for key in dice.sample(KEYS, dice.randint(0, 3))}


def predicate(dice: random.Random) -> str:
    def term() -> str:
        path = ".".join(f"`{dice.choice(KEYS)}`" for _ in range(dice.randint(1, 2)))
        value = dice.choice([scalar for scalar in SCALARS if scalar is not None])
        text = "'" + value.replace("'", "''") + "'" if isinstance(value, str) else str(value)
        return f"properties.{path} = {text}"

    return " AND ".join(term() for _ in range(dice.choice([1, 1, 1, 2])))


def test_both_stores_find_the_same(worlds: tuple[World, World]) -> None:
    dice = random.Random(11)
    for number in range(150):
        properties = document(dice) | {"number": number}
        for world in worlds:
            world.tenant(**properties)
    hits = 0
    for _ in range(300):
        text = predicate(dice)
        in_one, in_other = (
            sorted(one["properties"]["number"] for one in json.loads(world.tenants.select(text, ALL).json))
            for world in worlds
        )
        assert in_one == in_other, text
        hits += bool(in_one)
    assert hits > 50
