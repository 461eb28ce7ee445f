"""The endpoints of cells.

Source: CFM wire contract, section 3.
"""

from __future__ import annotations

from flask import Request, Response

from cfm_core.function import http_function
from cfm_core.tenancy.assembly import CELLS
from cfm_core.tenancy.cells.service import Cells
from cfm_core.tenancy.cells.v1alpha1 import CellDiff, CellDocument, NewCell
from cfm_core.web import answers
from cfm_core.web.auth import TM_READ, TM_WRITE
from cfm_core.web.conditional import expected
from cfm_core.web.paging import Asked

PATH = "/api/v1alpha1/cells"
CELL = PATH + "/{cell_id}"


@http_function("GET", PATH, scope=TM_READ, rights=["read cell"], requires=[CELLS], lists=CellDocument)
def list_cells(request: Request, cells: Cells, asked: Asked) -> Response:
    """A page of all cells, or of those that a predicate holds for."""
    return answers.page(request, asked, cells.select(asked.predicate, asked.page))


@http_function("POST", PATH + "/query", scope=TM_READ, rights=["read cell"], requires=[CELLS], lists=CellDocument)
def query_cells(request: Request, cells: Cells, asked: Asked) -> Response:
    """A page of the cells that a predicate holds for."""
    return answers.page(request, asked, cells.select(asked.predicate, asked.page))


@http_function(
    "POST", PATH, scope=TM_WRITE, rights=["create cell"], requires=[CELLS], body=NewCell, gives={201: CellDocument}
)
def create_cell(request: Request, cells: Cells, new: NewCell) -> Response:
    """Create a cell."""
    cell_id, cell = cells.create(new)
    return answers.created(request, cell, f"{PATH}/{cell_id}")


@http_function("GET", CELL, scope=TM_READ, rights=["read cell"], requires=[CELLS], gives={200: CellDocument})
def get_cell(request: Request, cells: Cells, cell_id: str) -> Response:
    """One cell."""
    return answers.entity(request, cells.get(cell_id))


@http_function(
    "PUT",
    CELL,
    scope=TM_WRITE,
    rights=["update cell"],
    requires=[CELLS],
    body=NewCell,
    gives={200: CellDocument, 201: CellDocument},
)
def put_cell(request: Request, cells: Cells, new: NewCell, cell_id: str) -> Response:
    """Create a cell with an id of the caller's, or replace it."""
    is_new, cell = cells.put(cell_id, new, expected(request))
    return answers.created(request, cell, f"{PATH}/{cell_id}") if is_new else answers.entity(request, cell)


@http_function(
    "PATCH", CELL, scope=TM_WRITE, rights=["update cell"], requires=[CELLS], body=CellDiff, gives={200: CellDocument}
)
def change_cell(request: Request, cells: Cells, diff: CellDiff, cell_id: str) -> Response:
    """Move a cell to another state, set and remove properties. One that is not active takes no new participants."""
    return answers.entity(request, cells.change(cell_id, diff, expected(request)))


@http_function("DELETE", CELL, scope=TM_WRITE, rights=["delete cell"], requires=[CELLS])
def delete_cell(request: Request, cells: Cells, cell_id: str) -> Response:
    """Delete a cell that nothing is deployed to."""
    cells.delete(cell_id, expected(request))
    return answers.empty()
