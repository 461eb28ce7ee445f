"""Which cell takes the VPAs of a participant whose deployment names none. Another selection can take its place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from cfm_core.tenancy.cells.model import CellOption


class CellSelection(Protocol):
    """Chooses one of several cells, at least one, that are equally fit."""

    def __call__(self, cells: Sequence[CellOption], /) -> CellOption: ...


def spread_by_load(cells: Sequence[CellOption]) -> CellOption:
    """The cell with the fewest participants; of several the first by id, so that the same question has the same answer."""
    return min(cells, key=lambda cell: (cell.load, cell.id))
