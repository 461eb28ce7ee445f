from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from cfm_core.errors import NotFoundError, ValidationError
from cfm_core.query import Page
from cfm_core.tenancy.tenants.v1alpha1 import NewTenant, TenantPropertiesDiff
from tests.contract.tenancy.world import ABSENT, ALL, World

PROPERTIES = {"group": "suppliers", "n": 5, "f": 1.5, "no": None, "yes": True, "deep": {"a": [1, {"b": 'é"\\'}]}}


def found(world: World, predicate: str, page: Page = ALL) -> list[dict[str, Any]]:
    return list(json.loads(world.tenants.select(predicate, page).json))


def test_a_new_tenant_is_shown_with_its_properties(world: World) -> None:
    tenant_id, text = world.tenants.create(NewTenant(properties=PROPERTIES))
    assert json.loads(text.text) == {"id": tenant_id, "version": 0, "properties": PROPERTIES}
    assert world.tenants.get(tenant_id) == text
    assert list(json.loads(text.text)) == ["id", "version", "properties"]


def test_empty_properties_are_left_out(world: World) -> None:
    tenant_id, text = world.tenants.create(NewTenant())
    assert json.loads(text.text) == {"id": tenant_id, "version": 0}


@pytest.mark.parametrize("tenant_id", [ABSENT, "no-uuid", "", "a\0b", ABSENT.upper().replace("0", "A")])
def test_an_unknown_tenant_is_not_found(world: World, tenant_id: str) -> None:
    with pytest.raises(NotFoundError):
        world.tenants.get(tenant_id)
    with pytest.raises(NotFoundError):
        world.tenants.change(tenant_id, TenantPropertiesDiff(properties={"a": 1}))
    with pytest.raises(NotFoundError):
        world.tenants.change(tenant_id, TenantPropertiesDiff())
    with pytest.raises(NotFoundError):
        world.tenants.delete(tenant_id)


def test_a_change_sets_then_removes_and_raises_the_version(world: World) -> None:
    tenant = world.tenant(a=1, b=2, c={"x": 1})
    diff = TenantPropertiesDiff(properties={"b": None, "c": {"y": 2}, "d": 4}, removed=["a", "d", "absent"])
    text = world.tenants.change(tenant, diff)
    assert json.loads(text.text) == {"id": tenant, "version": 1, "properties": {"b": None, "c": {"y": 2}}}
    assert world.tenants.get(tenant) == text


def test_whatever_a_key_is_called_it_can_be_removed(world: World) -> None:
    odd = ["null", "NULL", "", "a,b", '"', "{}", "\\"]
    tenant = world.tenant(**dict.fromkeys(odd, 1), kept=1)
    text = world.tenants.change(tenant, TenantPropertiesDiff(removed=odd))
    assert json.loads(text.text)["properties"] == {"kept": 1}


def test_a_change_of_nothing_changes_nothing(world: World) -> None:
    tenant = world.tenant(a=1)
    assert world.tenants.change(tenant, TenantPropertiesDiff()) == world.tenants.get(tenant)
    assert json.loads(world.tenants.get(tenant).text)["version"] == 0


def test_changes_at_the_same_time_all_last(world: World) -> None:
    tenant = world.tenant()
    with ThreadPoolExecutor(8) as threads:
        diffs = [TenantPropertiesDiff(properties={f"k{i}": i}) for i in range(40)]
        list(threads.map(lambda diff: world.tenants.change(tenant, diff), diffs))
    assert json.loads(world.tenants.get(tenant).text) == {
        "id": tenant,
        "version": 40,
        "properties": {f"k{i}": i for i in range(40)},
    }


def test_a_list_is_in_the_order_of_ids_and_counts_all(world: World) -> None:
    ids = sorted(world.tenant(n=n) for n in range(5))
    page = world.tenants.select("true", Page(1, 2))
    assert [tenant["id"] for tenant in json.loads(page.json)] == ids[1:3]
    assert page.total == 5
    beyond = world.tenants.select("true", Page(7, 2))
    assert (beyond.json, beyond.total) == (b"[]", 5)


@pytest.mark.parametrize(
    ("predicate", "matches"),
    [
        ("true", True),
        ("properties.group = 'suppliers'", True),
        ("properties.group = 'Suppliers'", False),
        ("properties.n = 5", True),
        ("properties.n = 5.0", True),
        ("properties.n = '5'", False),
        ("properties.f = 1.5", True),
        ("properties.yes = true", True),
        ("properties.yes = 1", False),
        ("properties.n = true", False),
        ("properties.absent = 'x'", False),
        ("properties.deep.a = 1", True),
        ("properties.deep.b = 1", False),
        ("properties.group.x = 'suppliers'", False),
        ("properties.group = 'suppliers' AND properties.n = 5", True),
        ("properties.group = 'suppliers' AND properties.n = 6", False),
        ("version = 0", True),
        ("VERSION = 0", True),
        ("version = 1", False),
        ("version = '0'", False),
        ("id = 'nobody'", False),
    ],
)
def test_a_predicate_finds_what_it_holds_for(world: World, predicate: str, matches: bool) -> None:
    tenant = world.tenant(**PROPERTIES)
    world.tenants.change(world.tenant(group="others", n=[7]), TenantPropertiesDiff(properties={"n": 8}))
    assert (tenant in [one["id"] for one in found(world, predicate)]) is matches


def test_a_key_with_an_array_is_equal_to_each_element(world: World) -> None:
    tenant = world.tenant(tags=["a", "b"])
    world.tenant(tags=["c"])
    assert [one["id"] for one in found(world, "properties.tags = 'b'")] == [tenant]


def test_a_tenant_is_found_by_its_id(world: World) -> None:
    tenant = world.tenant()
    world.tenant()
    assert [one["id"] for one in found(world, f"id = '{tenant}'")] == [tenant]


def test_an_unknown_field_is_refused(world: World) -> None:
    with pytest.raises(ValidationError, match="Client error: parse error: position 1: there is no field 'ctid'"):
        world.tenants.select("ctid = 'x'", ALL)


def test_a_deleted_tenant_is_gone(world: World) -> None:
    tenant = world.tenant()
    world.tenants.delete(tenant)
    with pytest.raises(NotFoundError):
        world.tenants.get(tenant)


def test_a_tenant_with_participants_cannot_be_deleted_in_whatever_state_they_are(world: World) -> None:
    tenant, _, _ = world.participant()
    with pytest.raises(ValidationError, match="cannot delete tenant with participants"):
        world.tenants.delete(tenant)
    assert json.loads(world.tenants.get(tenant).text)["id"] == tenant
