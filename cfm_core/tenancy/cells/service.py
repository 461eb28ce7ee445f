"""What can be done with cells."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Protocol, TypeVar

from cfm_core.access.model import ALL, EVERYTHING, Access, Action, Bound, Bounds, Resource, refused, without_names
from cfm_core.clock import Clock, system_clock
from cfm_core.entities import JsonEntity
from cfm_core.errors import ClientError, ConflictError, NotFoundError, RecoverableError
from cfm_core.query import JsonPage, Page, Predicate, parse
from cfm_core.tenancy.cells.model import Cell, CellId, changed
from cfm_core.tenancy.cells.v1alpha1 import CellDiff, NewCell
from cfm_core.tenancy.ids import check_chosen_id, check_key, is_id
from cfm_core.tenancy.putting import created_or_replaced
from cfm_core.versions import ANY, Expected

T = TypeVar("T")


class CellStore(Protocol):
    """Keeps cells, and gives them as the API shows them. What is not within the bounds is not there."""

    def insert(self, cell: Cell) -> JsonEntity | None:
        """Keep a new cell; None where its id is taken.

        Raises:
            ConflictError: another cell has the same external id.
        """
        ...

    def find(self, cell_id: CellId, bounds: Bounds = ALL) -> JsonEntity | None: ...

    def select(self, predicate: Predicate, page: Page, bounds: Bounds = ALL) -> JsonPage:
        """Raises ValidationError: cells have no field that the predicate names."""
        ...

    def change(self, cell_id: CellId, change: Callable[[Cell], Cell], bounds: Bounds = ALL) -> JsonEntity | None:
        """Replace a cell by what ``change`` makes of it, which is asked while nobody else can change it or deploy to it.

        Raises:
            ConflictError: another cell has the same external id, or participants are deployed to the cell and would
                have to learn another one; its context says which.
        """
        ...

    def delete(self, cell_id: CellId, expected: Expected, bounds: Bounds = ALL) -> bool:
        """Whether there was such a cell in an expected version.

        Raises:
            ConflictError: something is deployed to it; its context says what.
        """
        ...


class Cells:
    """The use cases of cells, for somebody who has ``access``. An id that is none is unknown like any other; see ``Tenants``."""

    def __init__(self, store: CellStore, clock: Clock = system_clock, access: Access = EVERYTHING) -> None:
        self._store = store
        self._clock = clock
        self._access = access

    def within(self, access: Access) -> Cells:
        """See ``Bounded``."""
        return Cells(self._store, self._clock, access)

    def create(self, new: NewCell) -> tuple[CellId, JsonEntity]:
        """Raises ConflictError: another cell has the same external id."""
        self._access.require_all(Action.CREATE, Resource.CELL)
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
        bounds = self._access.require(Action.UPDATE, Resource.CELL)
        check_chosen_id(cell_id)
        wanted = _cell(CellId(cell_id), new)

        def replaced(cell: Cell) -> Cell:
            expected.check(f"cell {cell_id}", cell.version)
            return wanted

        def created() -> JsonEntity | None:
            if not self._access.bounds(Action.CREATE, Resource.CELL).allow(Bound(cell_id=cell_id)):
                raise self._why_not(cell_id, Action.UPDATE)
            kept = self._store.insert(wanted)
            if kept is None and not bounds.allow(Bound(cell_id=cell_id)):
                raise refused(Action.UPDATE, Resource.CELL)
            return kept

        return created_or_replaced(
            f"cell {cell_id}",
            expected,
            lambda: self._told(lambda: self._store.change(wanted.id, replaced, bounds)),
            created,
        )

    def get(self, cell_id: str) -> JsonEntity:
        return self._get(cell_id, Action.READ)

    def select(self, predicate: str, page: Page) -> JsonPage:
        """Those that ``predicate`` holds for, by id.

        Raises:
            ValidationError: the predicate or the page cannot be read.
        """
        bounds = self._access.require(Action.READ, Resource.CELL)
        check_key(page)
        return self._store.select(parse(predicate), page, bounds)

    def change(self, cell_id: str, diff: CellDiff, expected: Expected = ANY) -> JsonEntity:
        """Move a cell to another state, set and remove properties.

        Raises:
            PreconditionFailedError: it is not in an expected version.
        """

        bounds = self._access.require(Action.UPDATE, Resource.CELL)

        def after(cell: Cell) -> Cell:
            expected.check(f"cell {cell_id}", cell.version)
            return changed(cell, diff.state, diff.properties, diff.removed, self._clock())

        found = self._store.change(CellId(cell_id), after, bounds) if is_id(cell_id) else None
        if found is None:
            raise self._why_not(cell_id, Action.UPDATE)
        return found

    def delete(self, cell_id: str, expected: Expected = ANY) -> None:
        """Delete a cell.

        Raises:
            ConflictError: a dataspace profile, or a participant that is not disposed, is deployed to it.
            PreconditionFailedError: it is not in an expected version.
        """
        bounds = self._access.require(Action.DELETE, Resource.CELL)
        if not is_id(cell_id) or not self._told(lambda: self._store.delete(CellId(cell_id), expected, bounds)):
            expected.check(f"cell {cell_id}", self._get(cell_id, Action.DELETE).version)
            raise RecoverableError(f"cell {cell_id} is changing just now")

    def _get(self, cell_id: str, action: Action) -> JsonEntity:
        """The cell, if one may do ``action`` with it."""
        found = self._find(cell_id, self._access.require(action, Resource.CELL))
        if found is None:
            raise self._why_not(cell_id, action)
        return found

    def _find(self, cell_id: str, bounds: Bounds) -> JsonEntity | None:
        return self._store.find(CellId(cell_id), bounds) if is_id(cell_id) else None

    def _why_not(self, cell_id: str, action: Action) -> ClientError:
        unknown = NotFoundError("cell", cell_id)
        return self._access.why_not(
            action, Resource.CELL, unknown, lambda reading: self._find(cell_id, reading) is not None
        )

    def _told(self, change: Callable[[], T]) -> T:
        """What ``change`` gives. Who may not see all that uses a cell is not told what does."""
        try:
            return change()
        except ConflictError as error:
            raise without_names(error, self._access, Resource.PARTICIPANT_PROFILE, Resource.DATASPACE_PROFILE) from None


def _cell(cell_id: CellId, new: NewCell) -> Cell:
    return Cell(cell_id, new.external_id, new.state, new.state_timestamp, new.properties)
