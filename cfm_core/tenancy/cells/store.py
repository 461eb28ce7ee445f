"""Cells in Postgres."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from cfm_core.access.model import ALL, Bounds
from cfm_core.entities import JsonEntity
from cfm_core.query import Column, Fields, Json, JsonPage, Kind, Page, Predicate, to_sql
from cfm_core.store import paging
from cfm_core.store.conditions import EVERYTHING, Condition, both
from cfm_core.store.database import Database
from cfm_core.store.paging import Listing
from cfm_core.store.sql import Queries
from cfm_core.tenancy.cells.model import Cell, CellId
from cfm_core.tenancy.states import DeploymentState
from cfm_core.versions import Expected

SQL = Queries("cfm_core.tenancy.cells")

FIELDS = Fields(
    {
        "id": Column("t.id", Kind.UUID),
        "version": Column("t.version", Kind.INTEGER),
        "externalId": Column("t.external_id"),
        "state": Column("t.state"),
        "stateTimestamp": Column("t.state_at", Kind.TIMESTAMP),
        "properties": Json("t.properties"),
    }
)

LISTING = Listing("tenant_manager.cells", "tenant_manager.cell_json(t)", "octet_length((t).properties::text)")


class PostgresCells:
    def __init__(self, database: Database) -> None:
        self._database = database

    def insert(self, cell: Cell) -> JsonEntity | None:
        row = self._database.row(SQL["insert"], **_params(cell))
        return JsonEntity(*row) if row else None

    def find(self, cell_id: CellId, bounds: Bounds = ALL) -> JsonEntity | None:
        within, bound = _within(bounds)
        row = self._database.row(SQL["find"].replace("<<within>>", within), id=cell_id, **bound)
        return JsonEntity(*row) if row else None

    def select(self, predicate: Predicate, page: Page, bounds: Bounds = ALL) -> JsonPage:
        condition = both(_within(bounds), to_sql(predicate, FIELDS))
        return paging.select(self._database, LISTING, page, *condition)

    def change(self, cell_id: CellId, change: Callable[[Cell], Cell], bounds: Bounds = ALL) -> JsonEntity | None:
        within, bound = _within(bounds)
        with self._database.transaction() as transaction:
            row = transaction.row(SQL["lock"].replace("<<within>>", within), id=cell_id, **bound)
            if row is None:
                return None
            id_, external_id, state, state_at, properties, version = row
            before = Cell(id_, external_id, DeploymentState(state), state_at, properties, version)
            ((version, text),) = transaction.rows(SQL["replace"], **_params(change(before)))
        return JsonEntity(version, text)

    def delete(self, cell_id: CellId, expected: Expected, bounds: Bounds = ALL) -> bool:
        within, bound = _within(bounds)
        sql = SQL["delete"].replace("<<within>>", within)
        return self._database.row(sql, id=cell_id, versions=expected.as_array, **bound) is not None


def _within(bounds: Bounds) -> Condition:
    """The condition that a cell ``t`` belongs to ``bounds``."""
    return EVERYTHING if bounds.unlimited else ("t.id = ANY (:within_cells::uuid[])", {"within_cells": bounds.cells()})


def _params(cell: Cell) -> dict[str, Any]:
    return {
        "id": cell.id,
        "external_id": cell.external_id,
        "state": cell.state,
        "state_at": cell.state_at.isoformat(),
        "properties": json.dumps(cell.properties),
    }
