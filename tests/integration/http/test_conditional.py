"""Versions of entities: tags, requests that hold for one version, writers at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from cfm_core.declaration import HttpFunction
from cfm_core.store.database import Database
from tests.integration.http.api import ABSENT, FUNCTIONS, Api, Fabric, contents

VERSIONED = {"/tenants": {}, "/cells": {"state": "active"}}
STALE = [
    '"7"',
    'W/"0"',
    '"0x0"',
    '"-0"',
    '"00000000000000000000"',
    '"9999999999999999999"',
    '"00"',
    '"\u00b2"',
    "0",
    '"',
    "junk, more",
    '""',
]


@pytest.mark.parametrize("path", VERSIONED)
def test_the_tag_of_an_entity_rises_with_every_write_and_only_then(api: Api, path: str) -> None:
    created = api.post(path, VERSIONED[path])
    entity = f"{path}/{created.json['id']}"
    assert created.headers["ETag"] == '"0"'
    assert api.get(entity).headers["ETag"] == '"0"'
    changed = api.patch(entity, {"properties": {"a": 1}})
    assert (changed.headers["ETag"], changed.json["version"]) == ('"1"', 1)
    assert api.get(entity).headers["ETag"] == '"1"'


@pytest.mark.parametrize("known", ['"0"', 'W/"0"', '"9", "0"', "*"])
def test_a_reader_who_has_the_version_is_told_only_that(fabric: Fabric, known: str) -> None:
    for method in ("GET", "HEAD"):
        answer = fabric.api.request(method, fabric.tenant, if_none_match=known)
        assert (answer.status, answer.text, answer.headers["ETag"]) == (304, "", '"0"')
        assert "Content-Length" not in answer.headers or answer.headers["Content-Length"] == "0"


@pytest.mark.parametrize("known", ['"1"', "", '"'])
def test_a_reader_who_has_another_version_is_told_all(fabric: Fabric, known: str) -> None:
    assert fabric.api.get(fabric.tenant, if_none_match=known).status == 200


def test_a_change_for_the_right_version_happens_once(fabric: Fabric) -> None:
    api, tenant = fabric.api, fabric.tenant
    assert api.patch(tenant, {"properties": {"a": 1}}, if_match='"0"').status == 200
    assert api.patch(tenant, {"properties": {"a": 2}}, if_match='"0"').status == 412
    assert api.patch(tenant, {"properties": {"a": 3}}, if_match='"7", "1"').status == 200
    assert api.patch(tenant, {"properties": {"a": 4}}, if_match="*").json["version"] == 3


@pytest.mark.parametrize("stale", STALE)
def test_a_change_for_another_version_changes_nothing(api: Api, database: Database, stale: str) -> None:
    tenant = f"/tenants/{api.post('/tenants', {}).json['id']}"
    cell = f"/cells/{api.post('/cells', {'state': 'active'}).json['id']}"
    before = contents(database)
    for answer in (
        api.patch(tenant, {"properties": {"a": 1}}, if_match=stale),
        api.delete(tenant, if_match=stale),
        api.patch(cell, {"state": "offline"}, if_match=stale),
        api.put(cell, {"state": "offline"}, if_match=stale),
        api.delete(cell, if_match=stale),
    ):
        assert (answer.status, answer.json["type"]) == (412, "/problems/precondition-failed")
    assert contents(database) == before


def test_what_must_not_be_there_yet_is_not_replaced(api: Api, database: Database) -> None:
    created = api.put(f"/cells/{ABSENT}", {"state": "active"}, if_none_match="*")
    assert (created.status, created.headers["Location"]) == (201, f"/api/v1alpha1/cells/{ABSENT}")
    before = contents(database)
    assert api.put(f"/cells/{ABSENT}", {"state": "offline"}, if_none_match="*").status == 412
    assert contents(database) == before
    assert api.put(f"/cells/{ABSENT}", {"state": "offline"}).status == 200


def test_what_has_to_be_there_is_not_created(api: Api) -> None:
    for stale in ("*", '"0"'):
        assert api.put(f"/cells/{ABSENT}", {"state": "active"}, if_match=stale).status == 412
    assert api.get("/cells").text == "[]"


@pytest.mark.parametrize(
    "function",
    [one for one in FUNCTIONS if one.method in {"PUT", "PATCH", "DELETE"}],
    ids=lambda function: function.name,
)
def test_every_change_heeds_the_version_that_it_is_for(
    fabric: Fabric, database: Database, function: HttpFunction
) -> None:
    before = contents(database)
    answer = fabric.api.request(
        function.method, "/" + fabric.fill(function.path), BODIES.get(function.name, {}), if_match='"7"'
    )
    assert answer.status == 412, answer
    assert contents(database) == before


BODIES: dict[str, object] = {
    "patch_orchestration_template": {"active": False},
    "change_schedule": {"paused": True},
    "put_cell": {"state": "active"},
    "put_role": {"name": "operator"},
    "put_schedule": {"cron": "0 3 * * *", "orchestrationType": "some.type"},
    "put_user": {"subject": "somebody"},
}
"""A document that fits, for each function that takes one with fields that have to be there."""


def test_changes_at_once_all_take_effect(fabric: Fabric) -> None:
    def change(number: int) -> int:
        return fabric.api.patch(fabric.tenant, {"properties": {f"k{number}": number}}).status

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(change, range(40))) == {200}
    tenant = fabric.api.get(fabric.tenant).json
    assert tenant["version"] == 40
    assert tenant["properties"] == {"n": 1} | {f"k{number}": number for number in range(40)}


def test_of_changes_for_one_version_at_once_one_takes_effect(fabric: Fabric) -> None:
    def change(number: int) -> int:
        return fabric.api.patch(fabric.tenant, {"properties": {"a": number}}, if_match='"0"').status

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(change, range(8))) == [200] + [412] * 7
