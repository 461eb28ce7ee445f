from __future__ import annotations

from collections.abc import Sequence

import pytest

from cfm_core.errors import NotFoundError, RefusedError
from cfm_core.tenancy.cells.model import CellId, CellOption
from cfm_core.tenancy.dataspace_profiles.model import (
    CredentialSpec,
    DataspaceProfileId,
    DataspaceProfileOption,
    cell_for,
)
from cfm_core.tenancy.participant_profiles.model import choose_cell, needed_credentials
from cfm_core.tenancy.states import DeploymentState
from cfm_core.tenancy.texts import storable


def cells(*ids: str, offline: Sequence[str] = ()) -> list[CellOption]:
    return [
        CellOption(CellId(id_), "", DeploymentState.OFFLINE if id_ in offline else DeploymentState.ACTIVE)
        for id_ in ids
    ]


def dataspace(id_: str, *cell_ids: str, credentials: Sequence[CredentialSpec] = ()) -> DataspaceProfileOption:
    return DataspaceProfileOption(DataspaceProfileId(id_), tuple(credentials), frozenset(map(CellId, cell_ids)))


@pytest.mark.parametrize("order", [("a", "b", "c"), ("c", "b", "a")])
def test_of_equally_good_cells_the_first_by_id_is_chosen(order: tuple[str, ...]) -> None:
    chosen = choose_cell(cells(*order), [dataspace("d", "b", "c")], "", needs_all=True)
    assert chosen.id == "b"


def test_where_no_dataspace_is_named_the_cell_that_serves_most_is_chosen() -> None:
    dataspaces = [dataspace("d", "a", "b"), dataspace("e", "b")]
    assert choose_cell(cells("a", "b"), dataspaces, "", needs_all=False).id == "b"


def test_where_no_dataspace_is_named_one_that_is_served_is_enough() -> None:
    dataspaces = [dataspace("d", "a"), dataspace("e")]
    assert choose_cell(cells("a", "b"), dataspaces, "", needs_all=False).id == "a"
    assert choose_cell(cells("a", "b"), dataspaces, "a", needs_all=False).id == "a"
    with pytest.raises(RefusedError, match="all of the dataspace profiles are deployed"):
        choose_cell(cells("a", "b"), dataspaces, "", needs_all=True)
    with pytest.raises(RefusedError, match="not deployed to cell a: dataspace profile e"):
        choose_cell(cells("a", "b"), dataspaces, "a", needs_all=True)


def test_a_cell_that_is_not_active_is_never_chosen() -> None:
    dataspaces = [dataspace("d", "a", "b")]
    assert choose_cell(cells("a", "b", offline=["a"]), dataspaces, "", needs_all=True).id == "b"
    with pytest.raises(RefusedError, match="no active cell"):
        choose_cell(cells("a", "b", offline=["a", "b"]), dataspaces, "", needs_all=True)


def test_a_dataspace_profile_goes_to_the_named_cell_or_the_only_active_one() -> None:
    several = cells("a", "b", "c", offline=["a", "c"])
    assert cell_for(several, "").id == cell_for(several, "b").id == "b"
    with pytest.raises(RefusedError, match="cell a is offline"):
        cell_for(several, "a")
    with pytest.raises(NotFoundError):
        cell_for(several, "d")


def test_credentials_with_a_role_are_for_those_who_have_it_in_that_dataspace() -> None:
    everybody = CredentialSpec("m", "M", "i", "f")
    makers = CredentialSpec("g", "G", "i", "f", "oem")
    dataspaces = [dataspace("d", credentials=[makers, everybody]), dataspace("e", credentials=[makers])]
    assert needed_credentials(dataspaces, {}) == [everybody]
    assert needed_credentials(dataspaces, {"d": ["oem"]}) == [makers, everybody]
    assert needed_credentials(dataspaces, {"e": ["oem", "x"]}) == [everybody, makers]
    assert needed_credentials(dataspaces, {"d": ["OEM"]}) == [everybody]


@pytest.mark.parametrize(
    ("value", "mended"),
    [
        ({"a": [1, "é", None]}, {"a": [1, "é", None]}),
        ("a\0b", "a\ufffdb"),
        ({"\0": {"x": ["\ud83d"]}}, {"\ufffd": {"x": ["\ufffd"]}}),
        ("\U0001f600", "\U0001f600"),
        ("\\u0000", "\\u0000"),
        ([float("inf"), float("nan"), 1.5], [None, None, 1.5]),
    ],
)
def test_what_no_database_can_hold_is_replaced(value: object, mended: object) -> None:
    assert storable(value) == mended
