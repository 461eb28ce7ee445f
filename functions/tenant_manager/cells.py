"""The endpoints of cells.

Source: CFM wire contract, section 3.
"""

from __future__ import annotations

from flask import Request, Response

from cfm_core.function import http_function
from cfm_core.tenancy.assembly import CELLS
from cfm_core.tenancy.cells.service import Cells
from cfm_core.tenancy.cells.v1alpha1 import NewCell
from cfm_core.web import answers, body
from cfm_core.web.auth import TM_READ, TM_WRITE

PATH = "/api/v1alpha1/cells"


@http_function("GET", PATH, scope=TM_READ, requires=[CELLS])
def list_cells(request: Request, cells: Cells) -> Response:
    """Every cell."""
    return answers.json_text(cells.all())


@http_function("POST", PATH, scope=TM_WRITE, requires=[CELLS])
def create_cell(request: Request, cells: Cells) -> Response:
    """Create a cell."""
    cell_id, text = cells.create(body.read(request, NewCell))
    return answers.created(text, f"{PATH}/{cell_id}")


@http_function("GET", PATH + "/{cell_id}", scope=TM_READ, requires=[CELLS])
def get_cell(request: Request, cells: Cells, cell_id: str) -> Response:
    """One cell."""
    return answers.json_text(cells.get(cell_id))


@http_function("DELETE", PATH + "/{cell_id}", scope=TM_WRITE, requires=[CELLS])
def delete_cell(request: Request, cells: Cells, cell_id: str) -> Response:
    """Delete a cell that nothing is deployed to."""
    cells.delete(cell_id)
    return answers.empty()
