from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from cfm_core.errors import NotFoundError, RefusedError
from cfm_core.tenancy.cells.model import CellId, CellOption
from cfm_core.tenancy.dataspace_profiles.model import (
    CredentialSpec,
    DataspaceProfileId,
    DataspaceProfileOption,
    cells_for,
)
from cfm_core.tenancy.participant_profiles.planning import (
    MOST_VPAS,
    VPA_TYPES,
    Placement,
    WantedVpa,
    needed_credentials,
    needed_vpa_types,
    new_vpas,
)
from cfm_core.tenancy.participant_profiles.selection import spread_by_load
from cfm_core.tenancy.states import DeploymentState
from cfm_core.tenancy.texts import storable


def cells(*ids: str, offline: Sequence[str] = (), loads: Mapping[str, int] | None = None) -> list[CellOption]:
    return [
        CellOption(
            CellId(id_),
            f"external {id_}",
            DeploymentState.OFFLINE if id_ in offline else DeploymentState.ACTIVE,
            (loads or {}).get(id_, 0),
        )
        for id_ in ids
    ]


def dataspace(
    id_: str, *cell_ids: str, credentials: Sequence[CredentialSpec] = (), artifacts: Sequence[str] = ()
) -> DataspaceProfileOption:
    return DataspaceProfileOption(
        DataspaceProfileId(id_), tuple(credentials), frozenset(map(CellId, cell_ids)), tuple(artifacts)
    )


def placement(
    options: Sequence[CellOption], dataspaces: Sequence[DataspaceProfileOption], *, needs_all: bool
) -> Placement:
    return Placement(options, dataspaces, spread_by_load, needs_all=needs_all)


@pytest.mark.parametrize("order", [("a", "b", "c"), ("c", "b", "a")])
def test_of_equally_good_cells_the_first_by_id_is_chosen(order: tuple[str, ...]) -> None:
    assert placement(cells(*order), [dataspace("d", "b", "c")], needs_all=True).chosen().id == "b"


def test_of_fit_cells_the_one_with_the_fewest_participants_is_chosen() -> None:
    options = cells("a", "b", "c", "d", loads={"a": 5, "b": 3, "c": 3, "d": 0})
    assert placement(options, [dataspace("d", "a", "b", "c")], needs_all=True).chosen().id == "b"


def test_where_no_dataspace_is_named_the_cell_that_serves_most_is_chosen_whatever_its_load() -> None:
    dataspaces = [dataspace("d", "a", "b"), dataspace("e", "b")]
    assert placement(cells("a", "b", loads={"b": 9}), dataspaces, needs_all=False).chosen().id == "b"


def test_another_selection_chooses_among_the_fit_cells() -> None:
    options, dataspaces = cells("a", "b", "c", offline=["c"]), [dataspace("d", "a", "b", "c")]
    assert Placement(options, dataspaces, lambda fit: fit[-1], needs_all=True).chosen().id == "b"


def test_where_no_dataspace_is_named_one_that_is_served_is_enough() -> None:
    dataspaces = [dataspace("d", "a"), dataspace("e")]
    some = placement(cells("a", "b"), dataspaces, needs_all=False)
    assert (some.chosen().id, some.named("a", "/cellId").id) == ("a", "a")
    every = placement(cells("a", "b"), dataspaces, needs_all=True)
    with pytest.raises(RefusedError, match="all of the dataspace profiles are deployed"):
        every.chosen()
    with pytest.raises(RefusedError, match="not deployed to cell a: dataspace profile e") as caught:
        every.named("a", "/vpas/1/cellId")
    assert [error.pointer for error in caught.value.errors] == ["/vpas/1/cellId"]


def test_a_cell_that_is_not_active_is_never_chosen() -> None:
    dataspaces = [dataspace("d", "a", "b")]
    assert placement(cells("a", "b", offline=["a"]), dataspaces, needs_all=True).chosen().id == "b"
    with pytest.raises(RefusedError, match="no active cell"):
        placement(cells("a", "b", offline=["a", "b"]), dataspaces, needs_all=True).chosen()


@pytest.mark.parametrize(
    ("artifacts", "types"),
    [
        ([[]], VPA_TYPES),
        ([["a.json", "cfm.vpa:", "cfm.other"]], VPA_TYPES),
        ([["cfm.issuer", "a.json", "cfm.connector"]], ("cfm.connector", "cfm.issuer")),
        ([["cfm.dataplane"], []], ("cfm.dataplane",)),
        ([["cfm.dataplane"], ["cfm.dataplane", "cfm.connector"]], ("cfm.connector", "cfm.dataplane")),
        ([["cfm.vpa:acme.edge", "cfm.vpa:cfm.dataplane"]], ("cfm.dataplane", "acme.edge")),
    ],
)
def test_the_artifacts_of_the_dataspace_profiles_say_which_vpas_there_are(
    artifacts: list[list[str]], types: tuple[str, ...]
) -> None:
    assert needed_vpa_types([dataspace(str(n), artifacts=one) for n, one in enumerate(artifacts)]) == types


def test_a_request_has_the_vpas_of_the_types_that_it_names_beside_one_of_each_other() -> None:
    fit = placement(cells("a", "b"), [dataspace("d", "a", "b")], needs_all=True)
    wanted = [
        WantedVpa("acme.edge", "", {}, "/vpas/0"),
        WantedVpa("cfm.dataplane", "", {"k": 1}, "/vpas/1"),
        WantedVpa("cfm.dataplane", "b", {"k": 2, "own": True}, "/vpas/2"),
    ]
    vpas = new_vpas(VPA_TYPES, wanted, {"cfm.dataplane": {"k": 0, "shared": True}, "cfm.other": {"x": 1}}, fit, None)
    assert [(vpa.type, vpa.cell_id, vpa.external_cell_id, vpa.properties) for vpa in vpas] == [
        ("cfm.connector", "a", "external a", {}),
        ("cfm.credentialservice", "a", "external a", {}),
        ("cfm.dataplane", "a", "external a", {"k": 1, "shared": True}),
        ("cfm.dataplane", "b", "external b", {"k": 2, "shared": True, "own": True}),
        ("cfm.issuer", "a", "external a", {}),
        ("acme.edge", "a", "external a", {}),
    ]
    assert len({vpa.id for vpa in vpas}) == 6


def test_where_every_vpa_names_its_cell_none_is_chosen() -> None:
    nowhere = placement(cells("a"), [dataspace("d", "a")], needs_all=True)
    vpas = new_vpas(["x"], [WantedVpa("x", "a", {}, "/vpas/0")], {}, nowhere, None)
    assert [vpa.cell_id for vpa in vpas] == ["a"]
    with pytest.raises(RefusedError, match="there is no cell 'b'") as caught:
        new_vpas(["x"], [WantedVpa("x", "b", {}, "/vpas/0")], {}, nowhere, None)
    assert [error.pointer for error in caught.value.errors] == ["/vpas/0/cellId"]


def test_a_participant_has_a_limited_number_of_vpas() -> None:
    fit = placement(cells("a"), [dataspace("d", "a")], needs_all=True)
    many = [WantedVpa("x", "", {}, f"/vpas/{number}") for number in range(MOST_VPAS - 4)]
    assert len(new_vpas(VPA_TYPES, many, {}, fit, None)) == MOST_VPAS
    with pytest.raises(RefusedError, match="at most 64 VPAs, and not 65") as caught:
        new_vpas(VPA_TYPES, many, {}, fit, None, already=1)
    assert [error.pointer for error in caught.value.errors] == ["/vpas"]


def test_a_dataspace_profile_goes_to_the_named_cell_or_to_every_active_one() -> None:
    several = cells("a", "b", "c", "d", offline=["a"])
    assert [cell.id for cell in cells_for(several, "c")] == ["c"]
    assert [cell.id for cell in cells_for(several, "")] == ["b", "c", "d"]
    with pytest.raises(RefusedError, match="cell a is offline"):
        cells_for(several, "a")
    with pytest.raises(RefusedError, match="there is no active cell"):
        cells_for(cells("a", offline=["a"]), "")
    with pytest.raises(NotFoundError):
        cells_for(several, "x")


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
