from __future__ import annotations

import json
from typing import Any

import pytest

from cfm_core.errors import ConflictError, NotFoundError, PreconditionFailedError, RefusedError, ValidationError
from cfm_core.tenancy.query_indexes.model import MOST
from cfm_core.tenancy.query_indexes.v1alpha1 import NewQueryIndex
from cfm_core.versions import Expected
from tests.contract.tenancy.world import ABSENT, ALL, World


def new(path: str = "properties.size", kind: str = "number", entity: str = "tenants") -> NewQueryIndex:
    return NewQueryIndex.model_validate({"entity": entity, "path": path, "kind": kind})


def listed(world: World, predicate: str = "true") -> list[dict[str, Any]]:
    return list(json.loads(world.query_indexes.select(predicate, ALL).json))


def test_a_declared_path_is_ready_once_somebody_has_built_its_index(world: World) -> None:
    index_id, declared = world.query_indexes.declare(new("PROPERTIES.a.`b c`"))
    shown = {"id": index_id, "entity": "tenants", "path": "properties.a.`b c`", "kind": "number"}
    assert json.loads(declared.text).items() >= shown.items()
    world.query_indexes.work()
    assert json.loads(world.query_indexes.get(index_id).text).items() >= (shown | {"state": "ready"}).items()
    assert [one["id"] for one in listed(world, "state = 'ready' AND kind = 'number'")] == [index_id]


def test_a_path_is_declared_once_for_each_kind(world: World) -> None:
    first, _ = world.query_indexes.declare(new())
    assert world.query_indexes.declare(new("properties.`size`"))[0] == first
    others = [new(kind="text"), new("properties.Size"), new(entity="participant-profiles")]
    assert len({first, *(world.query_indexes.declare(other)[0] for other in others)}) == 4


@pytest.mark.parametrize("path", ["id", "properties", "vpas.state", "properties.`0`", "properties.a.` \n-1`"])
def test_a_path_that_can_have_no_index_is_refused(world: World, path: str) -> None:
    with pytest.raises(RefusedError) as refused:
        world.query_indexes.declare(new(path))
    assert [error.pointer for error in refused.value.errors] == ["/path"]
    assert listed(world) == []


@pytest.mark.parametrize("path", ["", "properties.", "properties.a = 1", "properties.a b", "properties.`a", "a\0"])
def test_what_is_no_path_is_malformed(world: World, path: str) -> None:
    with pytest.raises(ValidationError, match="parse error: position "):
        world.query_indexes.declare(new(path))


def test_there_is_a_limit(world: World) -> None:
    for number in range(MOST):
        world.query_indexes.declare(new(f"properties.k{number}"))
    with pytest.raises(ConflictError, match="there are 16 indexes already"):
        world.query_indexes.declare(new("properties.one_more"))
    assert len(listed(world)) == MOST


def test_a_dropped_index_goes_and_can_come_back(world: World) -> None:
    index_id, declared = world.query_indexes.declare(new())
    with pytest.raises(PreconditionFailedError):
        world.query_indexes.drop(index_id, Expected(frozenset([declared.version + 7]), exists=True))
    world.query_indexes.drop(index_id)
    world.query_indexes.work()
    with pytest.raises(NotFoundError):
        world.query_indexes.get(index_id)
    assert world.query_indexes.declare(new())[0] != index_id


@pytest.mark.parametrize("index_id", [ABSENT, "x", "a\0"])
def test_an_unknown_index_is_not_found(world: World, index_id: str) -> None:
    with pytest.raises(NotFoundError):
        world.query_indexes.get(index_id)
    with pytest.raises(NotFoundError):
        world.query_indexes.drop(index_id)
