"""The stand-in vault and a real one against the dataspace service contracts, section 10."""

from __future__ import annotations

import uuid
from typing import Any

import httpx2
import pytest

from tests.contract.secrets.conftest import VaultWorld


class Caller:
    """Sends requests with paths in which ``{mount}`` stands for the world's own engine, and ``{new}`` for a new name."""

    def __init__(self, world: VaultWorld) -> None:
        self._world = world
        self._new = f"new-{uuid.uuid4()}"

    def __call__(self, method: str, path: str, body: Any = None, *, token: str | None = None) -> httpx2.Response:
        full = path.replace("{mount}", self._world.mount).replace("{new}", self._new)
        return self._world.server.call(method, full, body, token=token)


@pytest.fixture
def call(world: VaultWorld) -> Caller:
    return Caller(world)


DATA = "{mount}/data/a/b"
METADATA = "{mount}/metadata/a/b"


def test_a_secret_has_versions(call: Caller) -> None:
    for number in (1, 2):
        answer = call("POST", DATA, {"data": {"content": str(number)}})
        assert (answer.status_code, answer.json()["data"]["version"]) == (200, number)
    assert call("GET", DATA).json()["data"]["data"] == {"content": "2"}
    assert call("GET", DATA + "?version=1").json()["data"]["data"] == {"content": "1"}
    assert call("GET", METADATA).json()["data"]["current_version"] == 2


def test_a_softly_deleted_secret_is_404_with_its_metadata(call: Caller) -> None:
    call("POST", DATA, {"data": {"content": "1"}})
    assert call("DELETE", DATA).status_code == 204
    answer = call("GET", DATA)
    assert answer.status_code == 404
    assert answer.json()["data"]["data"] is None
    assert answer.json()["data"]["metadata"]["deletion_time"]
    assert call("POST", DATA, {"data": {}, "options": {"cas": 0}}).status_code == 400
    assert call("POST", DATA, {"data": {"content": "2"}, "options": {"cas": 1}}).status_code == 200
    assert call("GET", DATA).json()["data"]["data"] == {"content": "2"}


def test_a_secret_that_is_deleted_for_good_begins_anew(call: Caller) -> None:
    call("POST", DATA, {"data": {}})
    call("POST", DATA, {"data": {}})
    assert call("DELETE", METADATA).status_code == 204
    assert call("GET", METADATA).status_code == 404
    assert call("POST", DATA, {"data": {}, "options": {"cas": 0}}).json()["data"]["version"] == 1


def test_deleting_is_204_also_for_what_is_not_there(call: Caller) -> None:
    for path in (DATA, METADATA, "sys/policies/acl/{new}", "auth/jwt/role/{new}"):
        assert call("DELETE", path).status_code == 204
    assert (call("GET", DATA).status_code, call("GET", DATA).json()) == (404, {"errors": []})


@pytest.mark.parametrize(("cas", "status"), [(0, 400), (1, 200), (7, 400)])
def test_check_and_set_compares_the_version(call: Caller, cas: int, status: int) -> None:
    call("POST", DATA, {"data": {}})
    assert call("POST", DATA, {"data": {}, "options": {"cas": cas}}).status_code == status


def test_folders_are_listed(call: Caller) -> None:
    for path in ("x", "y/z", "y/w"):
        call("PUT", "{mount}/data/f/" + path, {"data": {}})
    for method, suffix in (("LIST", ""), ("LIST", "/"), ("GET", "?list=true")):
        answer = call(method, "{mount}/metadata/f" + suffix)
        assert answer.json()["data"] == {"keys": ["x", "y/"]}
    assert call("LIST", "{mount}/metadata/empty").status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "nowhere/data/a", None, 404),
        ("POST", "nowhere/data/a", {"data": {}}, 404),
        ("GET", "{mount}/data/a.", None, 404),
        ("GET", "{mount}/data/a?version=x", None, 400),
        ("POST", DATA, None, 400),
        ("POST", DATA, {"data": 7}, 400),
        ("GET", "sys/policies/acl/{new}", None, 404),
        ("POST", "sys/policies/acl/{new}", {}, 400),
        ("POST", "sys/policies/acl/{new}", {"policy": 'path "a" { capabilities = ["fly"] }'}, 400),
        ("POST", "sys/policies/acl/{new}", {"policy": "anything"}, 400),
        ("POST", "sys/auth/jwt", {"type": "jwt"}, 400),
        ("POST", "sys/mounts/{mount}", {"type": "kv", "options": {"version": "2"}}, 400),
        ("POST", "auth/jwt/config", {"jwks_url": "http://127.0.0.1:1/keys"}, 400),
        ("POST", "auth/jwt/role/{new}", {"role_type": "jwt", "user_claim": "sub"}, 400),
        ("POST", "auth/jwt/role/{new}", {"role_type": "jwt", "bound_subject": "s"}, 400),
        ("POST", "auth/jwt/role/{new}", {"user_claim": "sub", "bound_subject": "s"}, 400),
        ("GET", "auth/jwt/role/{new}", None, 404),
        ("POST", "auth/nowhere/role/{new}", {}, 404),
        ("POST", "auth/nowhere/login", {"role": "r", "jwt": "x"}, 404),
        ("POST", "auth/jwt/login", {"role": "{new}", "jwt": "x.y.z"}, 400),
        ("POST", "auth/jwt/login", {"role": "participant"}, 400),
        ("POST", "auth/jwt/login", {"role": "participant", "jwt": "x.y.z"}, 400),
        ("POST", "auth/kubernetes/login", {"role": "nobody", "jwt": "x.y.z"}, 400),
        ("POST", "auth/kubernetes/role/{new}", {"bound_service_account_names": ["a"]}, 400),
        ("POST", "auth/approle/login", {"role_id": "x", "secret_id": "y"}, 400),
        ("GET", "auth/approle/role/{new}/role-id", None, 404),
        ("POST", "auth/token/renew-self", {}, 400),
        ("LIST", DATA, None, 405),
    ],
)
def test_refusals_have_their_status(call: Caller, method: str, path: str, body: Any, status: int) -> None:
    answer = call(method, path, body)
    assert answer.status_code == status
    assert isinstance(answer.json()["errors"], list)


@pytest.mark.parametrize("token", ["", "wrong"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", DATA),
        ("GET", "nowhere/data/a"),
        ("POST", "sys/policies/acl/{new}"),
        ("POST", "auth/jwt/role/{new}"),
        ("POST", "auth/token/renew-self"),
    ],
)
def test_without_a_token_that_holds_everything_is_403(call: Caller, method: str, path: str, token: str) -> None:
    assert call(method, path, {} if method == "POST" else None, token=token).status_code == 403


def test_a_policy_is_overwritten_and_read(call: Caller) -> None:
    for text in ('path "a" { capabilities = ["read"] }', '# nothing\npath "b/+/c*" {\n  capabilities = ["list"]\n}'):
        assert call("POST", "sys/policies/acl/{new}", {"policy": text}).status_code in {200, 204}
        assert call("GET", "sys/policies/acl/{new}").json()["data"]["policy"] == text
    assert call("DELETE", "sys/policies/acl/{new}").status_code == 204


def test_a_login_gives_a_token_with_its_lease(world: VaultWorld, call: Caller) -> None:
    login = world.role("# nothing", token_ttl="10m", token_max_ttl="15m")
    body = {"role_id": login.role_id, "secret_id": login.file.read_text().strip()}
    auth = call("POST", "auth/approle/login", body, token="").json()["auth"]
    assert (auth["lease_duration"], auth["renewable"], "default" in auth["policies"]) == (600, True, True)
    renewed = call("POST", "auth/token/renew-self", {"increment": "1h"}, token=auth["client_token"]).json()["auth"]
    assert renewed["client_token"] == auth["client_token"]
    assert 890 <= renewed["lease_duration"] <= 900
    assert call("POST", "auth/token/revoke", {"token": auth["client_token"]}).status_code == 204
    assert call("POST", "auth/token/renew-self", {}, token=auth["client_token"]).status_code == 403


@pytest.mark.parametrize(
    ("rules", "path", "allowed"),
    [
        (['path "{mount}/data/*" { capabilities = ["read"] }'], "{mount}/data/a/b", True),
        (['path "{mount}/data/+" { capabilities = ["read"] }'], "{mount}/data/a/b", False),
        (['path "{mount}/data/+/b" { capabilities = ["read"] }'], "{mount}/data/a/b", True),
        (['path "{mount}/data/a" { capabilities = ["read"] }'], "{mount}/data/a/b", False),
        (['path "{mount}/data/a/*" { capabilities = ["create", "update"] }'], "{mount}/data/a/b", False),
        (
            [
                'path "{mount}/data/*" { capabilities = ["read"] }',
                'path "{mount}/data/a/*" { capabilities = ["list"] }',
            ],
            "{mount}/data/a/b",
            False,
        ),
        (
            [
                'path "{mount}/data/+/b" { capabilities = ["deny"] }',
                'path "{mount}/data/a/*" { capabilities = ["read"] }',
            ],
            "{mount}/data/a/b",
            True,
        ),
        (
            [
                'path "{mount}/data/*" { capabilities = ["read"] }',
                'path "{mount}/data/*" { capabilities = ["deny"] }',
            ],
            "{mount}/data/a/b",
            False,
        ),
    ],
)
def test_the_rule_that_fits_most_closely_decides(
    world: VaultWorld, call: Caller, rules: list[str], path: str, allowed: bool
) -> None:
    call("POST", "{mount}/data/a/b", {"data": {}})
    login = world.role(*(rule.replace("{mount}", world.mount) for rule in rules))
    body = {"role_id": login.role_id, "secret_id": login.file.read_text().strip()}
    token = call("POST", "auth/approle/login", body, token="").json()["auth"]["client_token"]
    assert call("GET", path, token=token).status_code == (200 if allowed else 403)


def test_a_token_that_has_expired_is_403(standin_vault: VaultWorld) -> None:
    call = Caller(standin_vault)
    login = standin_vault.role("# nothing", token_ttl="10m")
    body = {"role_id": login.role_id, "secret_id": login.file.read_text().strip()}
    token = call("POST", "auth/approle/login", body, token="").json()["auth"]["client_token"]
    standin_vault.clock.now = 599
    assert call("GET", "auth/token/lookup-self", token=token).status_code == 200
    standin_vault.clock.now = 600
    assert call("GET", "auth/token/lookup-self", token=token).status_code == 403
