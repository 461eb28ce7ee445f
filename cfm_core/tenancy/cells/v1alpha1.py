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


State = Annotated[DeploymentState, BeforeValidator(_in_lower_case)]


class CellDocument(Document):
    """A cell as it is shown; ``properties`` are left out where there are none."""

    id: str
    version: int
    external_id: str
    state: DeploymentState
    state_timestamp: str = Field(json_schema_extra={"format": "date-time"})
    properties: dict[str, Any] = Field(default_factory=dict)


class NewCell(Document):
    external_id: ShortText = ""
    state: State
    state_timestamp: Instant = ZERO
    properties: dict[str, Any] = Field(default_factory=dict)


class CellDiff(Document):
    """Another state, or none; ``removed`` wins over ``properties``."""

    state: State | None = None
    properties: dict[str, Any] = Field(default_factory=dict)
    removed: list[str] = Field(default_factory=list)


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
