"""The stand-in vault against the dataspace service contracts, sections 10.1 and 10.3."""

from __future__ import annotations

import httpx2
import pytest

from tests.contract.standins.conftest import SECRET, Platform

DATA = "/vault/v1/secret/data/a/b"
METADATA = "/vault/v1/secret/metadata/a/b"


def vault(platform: Platform, method: str, path: str, body: object = None) -> httpx2.Response:
    return platform.call(method, path, body, **{"X-Vault-Token": SECRET})


def test_a_secret_has_versions(platform: Platform) -> None:
    for number in (1, 2):
        answer = vault(platform, "POST", DATA, {"data": {"content": str(number)}})
        assert (answer.status_code, answer.json()["data"]["version"]) == (200, number)
    assert vault(platform, "GET", DATA).json()["data"]["data"] == {"content": "2"}
    assert vault(platform, "GET", DATA + "?version=1").json()["data"]["data"] == {"content": "1"}
    assert vault(platform, "GET", METADATA).json()["data"]["current_version"] == 2


def test_a_softly_deleted_secret_is_404_with_its_metadata(platform: Platform) -> None:
    vault(platform, "POST", DATA, {"data": {"content": "1"}})
    assert vault(platform, "DELETE", DATA).status_code == 204
    answer = vault(platform, "GET", DATA)
    assert answer.status_code == 404
    assert answer.json()["data"]["data"] is None
    assert answer.json()["data"]["metadata"]["deletion_time"]


def test_deleting_is_204_also_for_what_is_not_there(platform: Platform) -> None:
    assert vault(platform, "DELETE", DATA).status_code == 204
    assert vault(platform, "DELETE", METADATA).status_code == 204
    assert (vault(platform, "GET", DATA).status_code, vault(platform, "GET", DATA).json()) == (404, {"errors": []})


@pytest.mark.parametrize(("cas", "status"), [(0, 400), (1, 200), (7, 400)])
def test_check_and_set_compares_the_version(platform: Platform, cas: int, status: int) -> None:
    vault(platform, "POST", DATA, {"data": {}})
    assert vault(platform, "POST", DATA, {"data": {}, "options": {"cas": cas}}).status_code == status


def test_folders_are_listed(platform: Platform) -> None:
    for path in ("x", "y/z", "y/w"):
        vault(platform, "POST", f"/vault/v1/secret/data/f/{path}", {"data": {}})
    for method, suffix in (("LIST", ""), ("GET", "?list=true")):
        answer = vault(platform, method, f"/vault/v1/secret/metadata/f{suffix}")
        assert answer.json() == {"data": {"keys": ["x", "y/"]}}
    assert vault(platform, "LIST", "/vault/v1/secret/metadata/empty").status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "token", "status"),
    [
        ("GET", DATA, "wrong", 403),
        ("GET", "/vault/v1/nowhere/data/a", SECRET, 404),
        ("GET", "/vault/v1/secret/data/a.", SECRET, 404),
        ("PATCH", DATA, SECRET, 405),
        ("POST", DATA, SECRET, 400),
    ],
)
def test_refusals_have_their_status(platform: Platform, method: str, path: str, token: str, status: int) -> None:
    answer = platform.call(method, path, **{"X-Vault-Token": token})
    assert answer.status_code == status
    assert isinstance(answer.json()["errors"], list)
