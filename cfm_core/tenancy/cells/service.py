"""What can be done with cells."""

from __future__ import annotations

import uuid
from typing import Protocol

from cfm_core.errors import NotFoundError
from cfm_core.tenancy.answers import JsonText
from cfm_core.tenancy.cells.model import Cell, CellId
from cfm_core.tenancy.cells.v1alpha1 import NewCell
from cfm_core.tenancy.ids import is_id


class CellStore(Protocol):
    """Keeps cells, and gives them as the API shows them."""

    def insert(self, cell: Cell) -> JsonText:
        """Raises ConflictError: another cell has the same external id."""
        ...

    def find(self, cell_id: CellId) -> JsonText | None: ...

    def all(self) -> JsonText: ...

    def delete(self, cell_id: CellId) -> bool:
        """Whether there was such a cell.

        Raises:
            ConflictError: something is deployed to it; its context says what.
        """
        ...


class Cells:
    """The use cases of cells. An id that is none is unknown like any other: NotFoundError."""

    def __init__(self, store: CellStore) -> None:
        self._store = store

    def create(self, new: NewCell) -> tuple[CellId, JsonText]:
        """Raises ConflictError: another cell has the same external id."""
        cell_id = CellId(str(uuid.uuid4()))
        cell = Cell(cell_id, new.external_id, new.state, new.state_timestamp, new.properties)
        return cell_id, self._store.insert(cell)

    def get(self, cell_id: str) -> JsonText:
        answer = self._store.find(CellId(cell_id)) if is_id(cell_id) else None
        if answer is None:
            raise NotFoundError("cell", cell_id)
        return answer

    def all(self) -> JsonText:
        """Every cell, by id."""
        return self._store.all()

    def delete(self, cell_id: str) -> None:
        """Raises ConflictError: a dataspace profile, or a participant that is not disposed, is deployed to it."""
        if not is_id(cell_id) or not self._store.delete(CellId(cell_id)):
            raise NotFoundError("cell", cell_id)
