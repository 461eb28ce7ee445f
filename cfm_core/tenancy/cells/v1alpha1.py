"""Cells as API version v1alpha1 reads and shows them.

Source: CFM wire contract, section 5.2.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from cfm_core.contracts.documents import Document
from cfm_core.tenancy.cells.model import Cell
from cfm_core.tenancy.instants import ZERO, Instant, shown_instant
from cfm_core.tenancy.states import DeploymentState
from cfm_core.tenancy.texts import ShortText


def _in_lower_case(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


class NewCell(Document):
    external_id: ShortText = ""
    state: Annotated[DeploymentState, BeforeValidator(_in_lower_case)]
    state_timestamp: Instant = ZERO
    properties: dict[str, Any] = Field(default_factory=dict)


def shown(cell: Cell) -> dict[str, Any]:
    """``cell`` as the API shows it; the database's ``cell_json`` gives the same."""
    document: dict[str, Any] = {
        "id": cell.id,
        "version": cell.version,
        "externalId": cell.external_id,
        "state": cell.state,
        "stateTimestamp": shown_instant(cell.state_at),
    }
    if cell.properties:
        document["properties"] = dict(cell.properties)
    return document
