from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfm_core.dag import CyclicGraphError, Graph, UnknownNodeError


@st.composite
def graphs(draw: st.DrawFn) -> dict[int, list[int]]:
    size = draw(st.integers(0, 12))
    return {node: draw(st.lists(st.sampled_from(range(node)), unique=True)) if node else [] for node in range(size)}


@given(graphs())
def test_every_node_comes_after_all_that_it_depends_on(dependencies: dict[int, list[int]]) -> None:
    order = Graph(dependencies).topological_order()
    assert sorted(order) == sorted(dependencies)
    assert all(order.index(parent) < order.index(node) for node, parents in dependencies.items() for parent in parents)


@given(graphs())
def test_tiers_hold_every_node_once_and_parents_in_earlier_tiers(dependencies: dict[int, list[int]]) -> None:
    tiers = Graph(dependencies).tiers_from_the_end()
    place = {node: index for index, tier in enumerate(tiers) for node in tier}
    assert sorted(place) == sorted(dependencies)
    assert sum(map(len, tiers)) == len(dependencies)
    assert all(place[parent] < place[node] for node, parents in dependencies.items() for parent in parents)


def test_a_node_without_neighbours_stands_in_the_last_tier() -> None:
    assert Graph({"a": [], "b": ["a"], "c": []}).tiers_from_the_end() == (("a",), ("b", "c"))


def test_a_diamond_has_three_tiers() -> None:
    graph = Graph({"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]})
    assert graph.tiers_from_the_end() == (("a",), ("b", "c"), ("d",))
    assert graph.ancestors(["b"]) == {"a", "b"}
    assert graph.parents("d") == ("b", "c")


def test_a_cycle_is_named_from_the_one_that_needs_to_the_one_needed() -> None:
    with pytest.raises(CyclicGraphError) as caught:
        Graph({"a": ["c"], "b": ["a"], "c": ["b"], "d": []})
    cycle = caught.value.cycle
    assert cycle[0] == cycle[-1]
    assert set(cycle) == {"a", "b", "c"}
    needs = {"a": "c", "b": "a", "c": "b"}
    assert all(needs[str(one)] == other for one, other in itertools.pairwise(cycle))


def test_an_unknown_dependency_is_named_with_who_has_it() -> None:
    with pytest.raises(UnknownNodeError, match="b depends on x"):
        Graph({"a": [], "b": ["x"]})
