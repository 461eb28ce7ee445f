"""What a deployment is made of: its dataspace profiles, its VPAs and their cells, its credentials.

The database refuses what breaks these rules (``check_deployment`` in its migrations), as something may have changed since.

Source: CFM wire contract, section 8.1; system architecture, "Service Virtualization Model".
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cfm_core.errors import FieldError, RefusedError
from cfm_core.tenancy.cells.model import CellOption
from cfm_core.tenancy.dataspace_profiles.model import CredentialSpec, DataspaceProfileOption
from cfm_core.tenancy.participant_profiles.model import VirtualParticipantAgent
from cfm_core.tenancy.participant_profiles.selection import CellSelection

VPA_TYPES = ("cfm.connector", "cfm.credentialservice", "cfm.dataplane", "cfm.issuer")
"""A participant has one of each, in this order, where its dataspace profiles do not say otherwise."""
MOST_VPAS = 64
_NAMES_VPA_TYPE = "cfm.vpa:"


class UndeployableError(RefusedError):
    """Dataspace profiles or cells do not allow it; which of them there are is told by the way."""


@dataclass(frozen=True, slots=True)
class WantedVpa:
    """A VPA that a request names. An empty ``cell_id`` leaves the cell to us."""

    type: str
    cell_id: str
    properties: Mapping[str, Any]
    pointer: str
    """Where in the request."""


def select_dataspace_profiles(
    known: Sequence[DataspaceProfileOption], named: Sequence[str], roles: Iterable[str]
) -> tuple[DataspaceProfileOption, ...]:
    """The dataspace profiles of a deployment: those ``named``, or all where none is.

    Raises:
        UndeployableError: one that is named does not exist, or there is none at all.
        RefusedError: ``roles`` speak of another one.
    """
    ids = {profile.id for profile in known}
    problems = [
        FieldError(f"/dataspaceProfileIds/{index}", f"there is no dataspace profile {name!r}")
        for index, name in enumerate(named)
        if name not in ids
    ]
    if problems:
        raise UndeployableError("; ".join(problem.detail for problem in problems), problems)
    if not known:
        raise UndeployableError("no dataspace profiles found: there is none to take part in")
    problems = [
        FieldError(
            f"/participantRoles/{name}", f"roles are given for {name!r}, which is not among the dataspace profiles"
        )
        for name in roles
        if name not in ids
    ]
    if problems:
        raise RefusedError("; ".join(problem.detail for problem in problems), problems)
    return tuple(known)


def needed_vpa_types(profiles: Sequence[DataspaceProfileOption]) -> tuple[str, ...]:
    """The VPA types that the artifacts of ``profiles`` name, or the usual four where none does.

    An artifact names a VPA type where it is one of the four, or reads ``cfm.vpa:`` and the type. The four come first, in
    their order, the others as they are named.
    """
    named = dict.fromkeys(
        vpa_type for profile in profiles for artifact in profile.artifacts if (vpa_type := _named_vpa_type(artifact))
    )
    usual = [vpa_type for vpa_type in VPA_TYPES if vpa_type in named or not named]
    return (*usual, *(vpa_type for vpa_type in named if vpa_type not in VPA_TYPES))


def _named_vpa_type(artifact: str) -> str:
    if artifact in VPA_TYPES:
        return artifact
    return artifact.removeprefix(_NAMES_VPA_TYPE) if artifact.startswith(_NAMES_VPA_TYPE) else ""


def needed_credentials(
    profiles: Sequence[DataspaceProfileOption], roles: Mapping[str, Sequence[str]]
) -> list[CredentialSpec]:
    """What the participant has to be issued: all without a role, and those for a role that it has in that dataspace."""
    return [
        spec
        for profile in profiles
        for spec in profile.credential_specs
        if not spec.role or spec.role in roles.get(profile.id, ())
    ]


class Placement:
    """Finds cells for VPAs.

    Args:
        needs_all: a cell must serve every one of ``profiles``, else at least one.
    """

    def __init__(
        self,
        cells: Sequence[CellOption],
        profiles: Sequence[DataspaceProfileOption],
        selection: CellSelection,
        *,
        needs_all: bool,
    ) -> None:
        self._cells = {str(cell.id): cell for cell in cells}
        self._profiles = profiles
        self._selection = selection
        self._needs_all = needs_all

    def fit(self, cell_id: str) -> CellOption | None:
        """The cell, if it can take a VPA."""
        return None if self._problem(cell_id) else self._cells[cell_id]

    def named(self, cell_id: str, pointer: str) -> CellOption:
        """The cell that the request names at ``pointer``.

        Raises:
            UndeployableError: it is unknown, not active, or does not serve the dataspace profiles.
        """
        if problem := self._problem(cell_id):
            raise UndeployableError(problem, [FieldError(pointer, problem)])
        return self._cells[cell_id]

    def chosen(self) -> CellOption:
        """The selection among the cells that serve the most of the dataspace profiles.

        Raises:
            UndeployableError: no active cell serves them.
        """
        fit = [cell for cell_id, cell in sorted(self._cells.items()) if not self._problem(cell_id)]
        if not fit:
            if not any(cell.active for cell in self._cells.values()):
                raise UndeployableError("no active cell found")
            which = "all of the dataspace profiles are" if self._needs_all else "any dataspace profile is"
            raise UndeployableError(f"no active cell found that {which} deployed to")
        served = {cell.id: sum(cell.id in profile.cell_ids for profile in self._profiles) for cell in fit}
        most = max(served.values())
        return self._selection([cell for cell in fit if served[cell.id] == most])

    def _problem(self, cell_id: str) -> str:
        cell = self._cells.get(cell_id)
        if cell is None:
            return f"there is no cell {cell_id!r}"
        if not cell.active:
            return f"cell {cell_id} is {cell.state}, not active"
        missing = [profile.id for profile in self._profiles if cell.id not in profile.cell_ids]
        if missing and (self._needs_all or len(missing) == len(self._profiles)):
            return f"not deployed to cell {cell_id}: dataspace profile {', '.join(missing)}"
        return ""


def new_vpas(
    types: Sequence[str],
    wanted: Sequence[WantedVpa],
    properties: Mapping[str, Mapping[str, Any]],
    placement: Placement,
    cell: CellOption | None,
    *,
    already: int = 0,
) -> tuple[VirtualParticipantAgent, ...]:
    """One VPA of each of ``types``, but of a type that ``wanted`` names exactly those; types that only it names come last.

    Args:
        properties: by type, for each VPA of that type; a wanted VPA's own come on top.
        cell: takes those VPAs that name no cell; None: one that is chosen.
        already: how many VPAs the participant has.

    Raises:
        RefusedError: a cell that is named cannot take a VPA, or none can; or there are too many VPAs.
    """
    by_type: dict[str, list[WantedVpa]] = {vpa_type: [] for vpa_type in types}
    for one in wanted:
        by_type.setdefault(one.type, []).append(one)
    ordered = [one for vpa_type, named in by_type.items() for one in named or [WantedVpa(vpa_type, "", {}, "/vpas")]]
    if already + len(ordered) > MOST_VPAS:
        problem = f"a participant has at most {MOST_VPAS} VPAs, and not {already + len(ordered)}"
        raise RefusedError(problem, [FieldError("/vpas", problem)])
    if cell is None and not all(one.cell_id for one in ordered):
        cell = placement.chosen()
    vpas = []
    for one in ordered:
        target = placement.named(one.cell_id, f"{one.pointer}/cellId") if one.cell_id else cell
        assert target is not None
        vpas.append(
            VirtualParticipantAgent(
                id=str(uuid.uuid4()),
                type=one.type,
                cell_id=target.id,
                external_cell_id=target.external_id,
                properties={**properties.get(one.type, {}), **one.properties},
            )
        )
    return tuple(vpas)


def kept_vpas(
    vpas: Sequence[VirtualParticipantAgent], properties: Mapping[str, Mapping[str, Any]], placement: Placement
) -> tuple[VirtualParticipantAgent, ...]:
    """The VPAs of a live participant with other ``properties``, by type; each stays on its cell.

    Raises:
        RefusedError: one of the cells cannot take a VPA any more.
    """
    for index, vpa in enumerate(vpas):
        placement.named(vpa.cell_id, f"/vpas/{index}/cellId")
    return tuple(replace(vpa, properties=properties.get(vpa.type, vpa.properties)) for vpa in vpas)


def placed_again(
    vpas: Sequence[VirtualParticipantAgent], properties: Mapping[str, Mapping[str, Any]], placement: Placement
) -> tuple[VirtualParticipantAgent, ...]:
    """The VPAs of a participant that is deployed again, with other ``properties``, by type.

    Each goes to its cell where that can still take it, the others to one that is chosen.

    Raises:
        RefusedError: no cell can take them.
    """
    cells = [placement.fit(vpa.cell_id) for vpa in vpas]
    other = placement.chosen() if None in cells else None
    placed = []
    for vpa, fit in zip(vpas, cells, strict=True):
        target = fit or other
        assert target is not None
        placed.append(
            replace(
                vpa,
                cell_id=target.id,
                external_cell_id=target.external_id,
                properties=properties.get(vpa.type, vpa.properties),
            )
        )
    return tuple(placed)
