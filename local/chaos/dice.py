"""Decides about each message whether something happens to it, and counts what did."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping


class Dice:
    """Throws nothing until it is given shares, and nothing any more once they are taken away."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._shares: Mapping[str, float] = {}
        self._random = random.Random()  # noqa: S311 - chance that can be repeated

    def begin(self, seed: int, shares: Mapping[str, float]) -> None:
        """Make the faults happen that ``shares`` names, each to its share of the messages."""
        self._random.seed(seed)
        self._shares = dict(shares)
        self.counts.clear()

    def end(self) -> None:
        """Leave messages alone from now on."""
        self._shares = {}

    def throw(self, *kinds: str) -> str:
        """One of the faults ``kinds``, or most times none: an empty text."""
        if not self._shares:
            return ""
        point = self._random.random()
        for kind in kinds:
            point -= self._shares.get(kind, 0.0)
            if point < 0:
                self.counts[kind] += 1
                return kind
        return ""

    def between(self, least: float, most: float) -> float:
        return self._random.uniform(least, most)

    def shuffle(self, items: list[object]) -> None:
        """Bring ``items`` into another order, and repeat one of them."""
        items.append(self._random.choice(items))
        self._random.shuffle(items)
