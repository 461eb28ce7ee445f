"""Cells in Postgres."""

from __future__ import annotations

import json

from cfm_core.store.database import Database
from cfm_core.store.sql import Queries
from cfm_core.tenancy.answers import JsonText
from cfm_core.tenancy.cells.model import Cell, CellId
from cfm_core.tenancy.usage import in_use

SQL = Queries("cfm_core.tenancy.cells")


class PostgresCells:
    def __init__(self, database: Database) -> None:
        self._database = database

    def insert(self, cell: Cell) -> JsonText:
        text: str = self._database.value(
            SQL["insert"],
            id=cell.id,
            external_id=cell.external_id,
            state=cell.state,
            state_at=cell.state_at.isoformat(),
            properties=json.dumps(cell.properties),
        )
        return text

    def find(self, cell_id: CellId) -> JsonText | None:
        text: str | None = self._database.value(SQL["find"], id=cell_id)
        return text

    def all(self) -> JsonText:
        text: str = self._database.value(SQL["all"])
        return text

    def delete(self, cell_id: CellId) -> bool:
        with self._database.transaction() as transaction:
            if transaction.row(SQL["lock"], id=cell_id) is None:
                return False
            if users := transaction.rows(SQL["users"], id=cell_id):
                raise in_use(f"cell {cell_id}", [(kind, user) for kind, user in users])
            transaction.rows(SQL["delete"], id=cell_id)
        return True
