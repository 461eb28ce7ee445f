"""A cell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
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
    """What has to be known of a cell to deploy to it; ``load`` counts the participants that are deployed to it now."""

    id: CellId
    external_id: str
    state: DeploymentState
    load: int = 0

    @property
    def active(self) -> bool:
        return self.state == DeploymentState.ACTIVE


def changed(
    cell: Cell, state: DeploymentState | None, properties: Mapping[str, Any], removed: Iterable[str], now: datetime
) -> Cell:
    """``cell`` in ``state`` (None: as it is) since ``now``, with ``properties`` set, then without the keys ``removed``."""
    gone = frozenset(removed)
    moves = state is not None and state != cell.state
    return replace(
        cell,
        state=state if state is not None else cell.state,
        state_at=now if moves else cell.state_at,
        properties={key: value for key, value in {**cell.properties, **properties}.items() if key not in gone},
    )
