"""A cell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NewType

from cfm_core.tenancy.states import DeploymentState

CellId = NewType("CellId", str)


@dataclass(frozen=True, slots=True)
class Cell:
    """``external_id`` is what its operator calls it, unique where it is not empty."""

    id: CellId
    external_id: str
    state: DeploymentState
    state_at: datetime
    properties: Mapping[str, Any]
    version: int = 0


@dataclass(frozen=True, slots=True)
class CellOption:
    """What has to be known of a cell to deploy to it."""

    id: CellId
    external_id: str
    state: DeploymentState

    @property
    def active(self) -> bool:
        return self.state == DeploymentState.ACTIVE
