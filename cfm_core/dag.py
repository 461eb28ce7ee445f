"""Directed acyclic graphs: the order of assemblies at start, of activities in an orchestration.

Order and cycles come from ``graphlib``; here is what it lacks: checks that name the nodes, and the tiers of the wire format.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Generic, TypeVar

Node = TypeVar("Node", bound=Hashable)


class CyclicGraphError(Exception):
    """The graph has a cycle; ``cycle`` holds its nodes, the first one again at the end."""

    def __init__(self, cycle: Sequence[object]) -> None:
        super().__init__(" -> ".join(str(node) for node in cycle))
        self.cycle = tuple(cycle)


class UnknownNodeError(Exception):
    """``node`` depends on ``missing``, which is not part of the graph."""

    def __init__(self, node: object, missing: object) -> None:
        super().__init__(f"{node} depends on {missing}, which does not exist")
        self.node = node
        self.missing = missing


class Graph(Generic[Node]):
    """An immutable graph; each node with the nodes that it depends on.

    Raises:
        UnknownNodeError: a dependency is not itself a node.
        CyclicGraphError: the dependencies contain a cycle.
    """

    def __init__(self, dependencies: Mapping[Node, Iterable[Node]]) -> None:
        self._parents: dict[Node, tuple[Node, ...]] = {
            node: tuple(dict.fromkeys(parents)) for node, parents in dependencies.items()
        }
        for node, parents in self._parents.items():
            for parent in parents:
                if parent not in self._parents:
                    raise UnknownNodeError(node, parent)
        try:
            self._order: tuple[Node, ...] = tuple(TopologicalSorter(self._parents).static_order())
        except CycleError as error:
            # graphlib lists each node before the one that needs it; a reader expects "a needs b needs a".
            raise CyclicGraphError(tuple(reversed(error.args[1]))) from None

    def parents(self, node: Node) -> tuple[Node, ...]:
        """What ``node`` depends on directly, in the order given."""
        return self._parents[node]

    def topological_order(self) -> tuple[Node, ...]:
        """Every node after all that it depends on."""
        return self._order

    def ancestors(self, nodes: Iterable[Node]) -> frozenset[Node]:
        """``nodes`` and all that they depend on, directly or not."""
        found: set[Node] = set()
        pending = list(nodes)
        while pending:
            node = pending.pop()
            if node not in found:
                found.add(node)
                pending.extend(self._parents[node])
        return frozenset(found)

    def descendants(self, nodes: Iterable[Node]) -> frozenset[Node]:
        """``nodes`` and all that depends on them, directly or not."""
        found = set(nodes)
        for node in self._order:
            if not found.isdisjoint(self._parents[node]):
                found.add(node)
        return frozenset(found)

    def tiers_from_the_end(self) -> tuple[tuple[Node, ...], ...]:
        """The graph in levels, as the wire format shows the steps of an orchestration.

        Nodes that nothing depends on form the last tier, what they need the one before, and so on; therefore a node
        with neither parents nor children stands in the last tier. Each tier keeps the order in which nodes were given.

        Source: CFM wire contract, section 5.9.
        """
        height: dict[Node, int] = dict.fromkeys(self._parents, 0)
        for node in reversed(self._order):
            for parent in self._parents[node]:
                height[parent] = max(height[parent], height[node] + 1)
        top = max(height.values(), default=-1)
        return tuple(tuple(node for node in self._parents if height[node] == level) for level in range(top, -1, -1))
