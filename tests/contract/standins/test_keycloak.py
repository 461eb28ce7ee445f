"""The stand-in Keycloak against the dataspace service contracts, section 9."""

from __future__ import annotations

from typing import Any

import httpx2
import jwt
import pytest

from local.standins.keycloak import ISSUER, admin_password
from tests.contract.standins.conftest import SECRET, Platform

CLIENTS = "/keycloak/admin/realms/edcv/clients"
MASTER = "/keycloak/realms/master/protocol/openid-connect/token"
REALM = "/keycloak/realms/edcv/protocol/openid-connect/token"
PASSWORD = admin_password(SECRET)
CLIENT: dict[str, Any] = {
    "clientId": "pc-vault",
    "enabled": True,
    "secret": "ab" * 32,
    "publicClient": False,
    "serviceAccountsEnabled": True,
    "protocolMappers": [
        {
            "name": "participantContextId",
            "protocol": "openid-connect",
            "protocolMapper": "oidc-hardcoded-claim-mapper",
            "config": {
                "claim.name": "participant_context_id",
                "claim.value": "pc",
                "access.token.claim": "true",
            },
        }
    ],
}


def ask(platform: Platform, url: str, **form: str) -> httpx2.Response:
    return platform.client.post(platform.standins.url + url, data=form)


def admin(platform: Platform, **form: str) -> httpx2.Response:
    given = {"grant_type": "password", "client_id": "admin-cli", "username": "admin", "password": PASSWORD}
    return ask(platform, MASTER, **(given | form))


def call(platform: Platform, method: str, path: str, body: Any = None) -> httpx2.Response:
    return platform.call(method, path, body, bearer=admin(platform).json()["access_token"])


def create(platform: Platform, **changed: Any) -> str:
    """Creates a client and gives its internal id."""
    answer = call(platform, "POST", CLIENTS, CLIENT | changed)
    assert (answer.status_code, answer.content) == (201, b"")
    return answer.headers["Location"].rpartition("/")[2]


def test_the_administrators_token_holds_for_a_minute(platform: Platform) -> None:
    granted = admin(platform).json()
    assert (granted["expires_in"], granted["token_type"]) == (60, "Bearer")
    platform.now = 59
    assert platform.call("GET", CLIENTS, bearer=granted["access_token"]).status_code == 200
    platform.now = 60
    assert platform.call("GET", CLIENTS, bearer=granted["access_token"]).status_code == 401


@pytest.mark.parametrize(
    ("form", "status", "error"),
    [
        ({"password": "wrong"}, 401, "invalid_grant"),
        ({"username": "nobody"}, 401, "invalid_grant"),
        ({"client_id": "other"}, 401, "invalid_client"),
        ({"grant_type": "magic"}, 400, "unsupported_grant_type"),
        ({"grant_type": "client_credentials"}, 400, "unsupported_grant_type"),
        ({"grant_type": ""}, 400, "invalid_request"),
    ],
)
def test_a_token_is_refused_with_its_reason(platform: Platform, form: dict[str, str], status: int, error: str) -> None:
    answer = admin(platform, **form)
    assert (answer.status_code, answer.json()["error"]) == (status, error)


def test_a_token_is_asked_for_with_a_form(platform: Platform) -> None:
    assert platform.call("POST", MASTER, {"grant_type": "password"}).status_code == 415
    assert ask(platform, "/keycloak/realms/other/protocol/openid-connect/token").status_code == 404


def test_a_client_is_created_once(platform: Platform) -> None:
    create(platform)
    answer = call(platform, "POST", CLIENTS, CLIENT)
    assert (answer.status_code, answer.json()) == (409, {"errorMessage": "Client pc-vault already exists"})


def test_a_client_is_found_by_its_exact_id_and_without_its_secret(platform: Platform) -> None:
    key = create(platform)
    create(platform, clientId="pc-vault-2")
    found = call(platform, "GET", CLIENTS + "?clientId=pc-vault").json()
    assert [one["id"] for one in found] == [key]
    assert found[0]["protocolMappers"] == CLIENT["protocolMappers"]
    assert CLIENT["secret"] not in str(found)
    assert len(call(platform, "GET", CLIENTS + "?clientId=pc-vault&search=true").json()) == 2
    assert call(platform, "GET", CLIENTS + "?clientId=nobody").json() == []


def test_a_secret_is_read_and_made_anew(platform: Platform) -> None:
    key = create(platform)
    secret = f"{CLIENTS}/{key}/client-secret"
    assert call(platform, "GET", secret).json() == {"type": "secret", "value": CLIENT["secret"]}
    new = call(platform, "POST", secret).json()["value"]
    assert new != CLIENT["secret"]
    assert call(platform, "GET", secret).json()["value"] == new


def test_a_client_is_read_updated_and_deleted(platform: Platform) -> None:
    one = f"{CLIENTS}/{create(platform)}"
    assert call(platform, "PUT", one, {"name": "new"}).status_code == 204
    read = call(platform, "GET", one)
    assert (read.status_code, read.json()["name"], read.json()["clientId"]) == (200, "new", "pc-vault")
    assert call(platform, "DELETE", one).status_code == 204
    for method, path in (("DELETE", one), ("GET", one), ("PUT", one), ("GET", one + "/client-secret")):
        assert call(platform, method, path, {} if method == "PUT" else None).status_code == 404


def test_a_client_gets_tokens_with_its_claims(platform: Platform) -> None:
    key = create(platform)
    form = {"grant_type": "client_credentials", "client_id": "pc-vault", "client_secret": CLIENT["secret"]}
    granted = ask(platform, REALM, **form).json()
    claims = jwt.decode(granted["access_token"], options={"verify_signature": False})
    assert (claims["iss"], claims["sub"], claims["azp"]) == (ISSUER, key, "pc-vault")
    assert claims["participant_context_id"] == "pc"
    assert platform.call("GET", CLIENTS, bearer=granted["access_token"]).status_code == 403


@pytest.mark.parametrize(
    ("changed", "form", "error"),
    [
        ({}, {"client_secret": "wrong"}, "unauthorized_client"),
        ({}, {"client_id": "nobody"}, "invalid_client"),
        ({"enabled": False}, {}, "invalid_client"),
        ({"serviceAccountsEnabled": False}, {}, "unauthorized_client"),
    ],
)
def test_a_client_that_may_not_gets_no_token(
    platform: Platform, changed: dict[str, Any], form: dict[str, str], error: str
) -> None:
    create(platform, **changed)
    given = {"grant_type": "client_credentials", "client_id": "pc-vault", "client_secret": CLIENT["secret"]}
    answer = ask(platform, REALM, **(given | form))
    assert (answer.status_code, answer.json()["error"]) == (401, error)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", CLIENTS, {}, 400),
        ("POST", CLIENTS, {"clientId": "a", "protocolMappers": [{"protocolMapper": "other"}]}, 400),
        ("POST", CLIENTS, [], 400),
        ("GET", "/keycloak/admin/realms/other/clients", None, 404),
        ("PATCH", CLIENTS, {}, 405),
        ("GET", f"{CLIENTS}/nobody", None, 404),
    ],
)
def test_refusals_have_their_status(platform: Platform, method: str, path: str, body: Any, status: int) -> None:
    assert call(platform, method, path, body).status_code == status


def test_without_a_token_nothing_is_told(platform: Platform) -> None:
    for bearer in ("", "wrong"):
        assert platform.call("GET", CLIENTS, bearer=bearer).status_code == 401
        assert platform.call("POST", CLIENTS, CLIENT, bearer=bearer).status_code == 401


def test_a_participants_client_logs_in_to_the_vault(platform: Platform) -> None:
    create(platform)
    root = {"X-Vault-Token": SECRET}
    certs = f"{platform.standins.url}/keycloak/realms/edcv/protocol/openid-connect/certs"
    role = {
        "role_type": "jwt",
        "user_claim": "participant_context_id",
        "bound_claims": {"participant_context_id": "pc"},
        "token_policies": ["p"],
    }
    platform.call("POST", "/vault/v1/sys/auth/keycloak", {"type": "jwt"}, **root)
    platform.call("POST", "/vault/v1/auth/keycloak/config", {"jwks_url": certs}, **root)
    platform.call("POST", "/vault/v1/auth/keycloak/role/participant", role, **root)
    form = {"grant_type": "client_credentials", "client_id": "pc-vault", "client_secret": CLIENT["secret"]}
    token = ask(platform, REALM, **form).json()["access_token"]
    answer = platform.call("POST", "/vault/v1/auth/keycloak/login", {"role": "participant", "jwt": token})
    assert answer.json()["auth"]["policies"] == ["default", "p"]
