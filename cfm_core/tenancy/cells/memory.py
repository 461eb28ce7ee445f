"""Cells in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from cfm_core.access.model import ALL, Bound, Bounds
from cfm_core.entities import JsonEntity, json_of
from cfm_core.query import JsonPage, Page, Predicate
from cfm_core.store.constraints import in_use
from cfm_core.store.memory import page_of
from cfm_core.tenancy.cells.model import Cell, CellId
from cfm_core.tenancy.cells.store import FIELDS
from cfm_core.tenancy.cells.v1alpha1 import shown
from cfm_core.tenancy.memory import Fabric, violated
from cfm_core.versions import Expected


class MemoryCells:
    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric

    def insert(self, cell: Cell) -> JsonEntity | None:
        with self._fabric.lock:
            if cell.id in self._fabric.cells:
                return None
            self._keep(cell)
            return _entity(cell)

    def find(self, cell_id: CellId, bounds: Bounds = ALL) -> JsonEntity | None:
        with self._fabric.lock:
            cell = self._within(cell_id, bounds)
            return _entity(cell) if cell else None

    def select(self, predicate: Predicate, page: Page, bounds: Bounds = ALL) -> JsonPage:
        with self._fabric.lock:
            cells = {key: one for key, one in self._fabric.cells.items() if bounds.allow(Bound(cell_id=key))}
        return page_of(cells, predicate, FIELDS, page, _stored, shown)

    def change(self, cell_id: CellId, change: Callable[[Cell], Cell], bounds: Bounds = ALL) -> JsonEntity | None:
        with self._fabric.lock:
            before = self._within(cell_id, bounds)
            if before is None:
                return None
            after = replace(change(before), version=before.version + 1)
            users = self._fabric.users_of(cell_id, None)
            if before.external_id != after.external_id and users:
                raise in_use(f"the external id of cell {cell_id}", users)
            self._keep(after)
            if before.external_id != after.external_id:
                # Dataspace profiles show the external ids of their cells.
                for key, profile in self._fabric.dataspace_profiles.items():
                    if any(deployment.cell_id == cell_id for deployment in profile.deployments):
                        self._fabric.dataspace_profiles[key] = replace(profile, version=profile.version + 1)
            return _entity(after)

    def delete(self, cell_id: CellId, expected: Expected, bounds: Bounds = ALL) -> bool:
        with self._fabric.lock:
            cell = self._within(cell_id, bounds)
            if cell is None or not expected.allows(cell.version):
                return False
            if users := self._served(cell_id) + self._fabric.users_of(cell_id, None):
                raise in_use(f"cell {cell_id}", users)
            del self._fabric.cells[cell_id]
            return True

    def _within(self, cell_id: CellId, bounds: Bounds) -> Cell | None:
        return self._fabric.cells.get(cell_id) if bounds.allow(Bound(cell_id=cell_id)) else None

    def _keep(self, cell: Cell) -> None:
        others = (one for one in self._fabric.cells.values() if one.id != cell.id)
        if cell.external_id and any(cell.external_id == one.external_id for one in others):
            raise violated("cells_external_id_key")
        self._fabric.cells[cell.id] = cell

    def _served(self, cell_id: CellId) -> list[tuple[str, str]]:
        return [
            ("dataspaceProfile", profile.id)
            for profile in self._fabric.dataspace_profiles.values()
            if any(deployment.cell_id == cell_id for deployment in profile.deployments)
        ]


def _entity(cell: Cell) -> JsonEntity:
    return JsonEntity(cell.version, json_of(shown(cell)))


def _stored(cell: Cell) -> dict[str, Any]:
    return {**shown(cell), "properties": cell.properties, "stateTimestamp": cell.state_at}
