"""A dataspace profile, and where it may be deployed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NewType

from cfm_core.errors import FieldError, NotFoundError, RefusedError
from cfm_core.tenancy.cells.model import CellId, CellOption

DataspaceProfileId = NewType("DataspaceProfileId", str)


@dataclass(frozen=True, slots=True)
class CredentialSpec:
    """A credential that participants need; with a ``role``, only those who have this role."""

    id: str
    type: str
    issuer: str
    format: str
    role: str = ""


@dataclass(frozen=True, slots=True)
class DataspaceDeployment:
    id: str
    cell_id: CellId
    state_at: datetime


@dataclass(frozen=True, slots=True)
class DataspaceProfile:
    id: DataspaceProfileId
    protocol_stack: tuple[str, ...]
    credential_specs: tuple[CredentialSpec, ...]
    artifacts: tuple[str, ...]
    properties: Mapping[str, Any]
    deployments: tuple[DataspaceDeployment, ...] = ()
    version: int = 0


@dataclass(frozen=True, slots=True)
class DataspaceProfileOption:
    """What has to be known of a dataspace profile to deploy a participant to it; ``cell_ids`` serve it now."""

    id: DataspaceProfileId
    credential_specs: tuple[CredentialSpec, ...]
    cell_ids: frozenset[CellId]
    artifacts: tuple[str, ...] = ()


def cells_for(cells: Sequence[CellOption], wanted: str) -> tuple[CellOption, ...]:
    """The cells to deploy a dataspace profile to: ``wanted`` alone, or for ``""`` every active one.

    Raises:
        NotFoundError: no cell has the id ``wanted``.
        RefusedError: it is not active; or nothing is wanted and there is no active cell.
    """
    if wanted:
        named = next((cell for cell in cells if cell.id == wanted), None)
        if named is None:
            raise NotFoundError("cell", wanted)
        if not named.active:
            problem = f"cell {named.id} is {named.state}, not active"
            raise RefusedError(problem, [FieldError("/cellId", problem)])
        return (named,)
    active = tuple(cell for cell in cells if cell.active)
    if not active:
        raise RefusedError("there is no active cell")
    return active
