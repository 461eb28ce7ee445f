"""What can be done with cells."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Protocol

from cfm_core.clock import Clock, system_clock
from cfm_core.entities import JsonEntity
from cfm_core.errors import NotFoundError, RecoverableError
from cfm_core.query import JsonPage, Page, Predicate, parse
from cfm_core.tenancy.cells.model import Cell, CellId, changed
from cfm_core.tenancy.cells.v1alpha1 import CellDiff, NewCell
from cfm_core.tenancy.ids import check_chosen_id, check_key, is_id
from cfm_core.tenancy.putting import created_or_replaced
from cfm_core.versions import ANY, Expected


class CellStore(Protocol):
    """Keeps cells, and gives them as the API shows them."""

    def insert(self, cell: Cell) -> JsonEntity | None:
        """Keep a new cell; None where its id is taken.

        Raises:
            ConflictError: another cell has the same external id.
        """
        ...

    def find(self, cell_id: CellId) -> JsonEntity | None: ...

    def select(self, predicate: Predicate, page: Page) -> JsonPage:
        """Raises ValidationError: cells have no field that the predicate names."""
        ...

    def change(self, cell_id: CellId, change: Callable[[Cell], Cell]) -> JsonEntity | None:
        """Replace a cell by what ``change`` makes of it, which is asked while nobody else can change it or deploy to it.

        Raises:
            ConflictError: another cell has the same external id, or participants are deployed to the cell and would
                have to learn another one; its context says which.
        """
        ...

    def delete(self, cell_id: CellId, expected: Expected) -> bool:
        """Whether there was such a cell in an expected version.

        Raises:
            ConflictError: something is deployed to it; its context says what.
        """
        ...


class Cells:
    """The use cases of cells. An id that is none is unknown like any other: NotFoundError."""

    def __init__(self, store: CellStore, clock: Clock = system_clock) -> None:
        self._store = store
        self._clock = clock

    def create(self, new: NewCell) -> tuple[CellId, JsonEntity]:
        """Raises ConflictError: another cell has the same external id."""
        cell_id = CellId(str(uuid.uuid4()))
        cell = self._store.insert(_cell(cell_id, new))
        assert cell is not None, "a random id is taken"
        return cell_id, cell

    def put(self, cell_id: str, new: NewCell, expected: Expected = ANY) -> tuple[bool, JsonEntity]:
        """Create the cell, or replace it; tells whether it is new.

        Raises:
            ValidationError: the id is not a UUID in lower case.
            ConflictError: see ``CellStore.insert`` and ``CellStore.change``.
            PreconditionFailedError: it is not in an expected version.
        """
        check_chosen_id(cell_id)
        wanted = _cell(CellId(cell_id), new)

        def replaced(cell: Cell) -> Cell:
            expected.check(f"cell {cell_id}", cell.version)
            return wanted

        return created_or_replaced(
            f"cell {cell_id}",
            expected,
            lambda: self._store.change(wanted.id, replaced),
            lambda: self._store.insert(wanted),
        )

    def get(self, cell_id: str) -> JsonEntity:
        found = self._store.find(CellId(cell_id)) if is_id(cell_id) else None
        if found is None:
            raise NotFoundError("cell", cell_id)
        return found

    def select(self, predicate: str, page: Page) -> JsonPage:
        """Those that ``predicate`` holds for, by id.

        Raises:
            ValidationError: the predicate or the page cannot be read.
        """
        check_key(page)
        return self._store.select(parse(predicate), page)

    def change(self, cell_id: str, diff: CellDiff, expected: Expected = ANY) -> JsonEntity:
        """Move a cell to another state, set and remove properties.

        Raises:
            PreconditionFailedError: it is not in an expected version.
        """

        def after(cell: Cell) -> Cell:
            expected.check(f"cell {cell_id}", cell.version)
            return changed(cell, diff.state, diff.properties, diff.removed, self._clock())

        found = self._store.change(CellId(cell_id), after) if is_id(cell_id) else None
        if found is None:
            raise NotFoundError("cell", cell_id)
        return found

    def delete(self, cell_id: str, expected: Expected = ANY) -> None:
        """Delete a cell.

        Raises:
            ConflictError: a dataspace profile, or a participant that is not disposed, is deployed to it.
            PreconditionFailedError: it is not in an expected version.
        """
        if not is_id(cell_id) or not self._store.delete(CellId(cell_id), expected):
            expected.check(f"cell {cell_id}", self.get(cell_id).version)
            raise RecoverableError(f"cell {cell_id} is changing just now")


def _cell(cell_id: CellId, new: NewCell) -> Cell:
    return Cell(cell_id, new.external_id, new.state, new.state_timestamp, new.properties)
