"""The stand-in jwtlet against the dataspace service contracts, section 3."""

from __future__ import annotations

import jwt
import pytest

from local.standins import AGENTS, NAMESPACE
from tests.contract.standins.conftest import SEED_JOBS, Platform

MAPPINGS = "/jwtlet/api/v1/mappings"
SCOPES = "/jwtlet/api/v1/scopes"
MAPPING = {"clientIdentifier": AGENTS, "participantContext": "pc", "scopes": ["read"], "audiences": ["edcv"]}


def test_a_token_is_signed_by_a_published_key_and_says_who_acts_for_whom(platform: Platform) -> None:
    platform.map("pc")
    answer = platform.exchange("pc", "write read").json()
    keys = jwt.PyJWKSet.from_dict(platform.call("GET", "/jwtlet/.well-known/jwks.json").json())
    header = jwt.get_unverified_header(answer["access_token"])
    claims = jwt.decode(answer["access_token"], keys[header["kid"]].key, algorithms=["EdDSA"], audience="edcv")
    assert header["alg"] == "EdDSA"
    assert claims["sub"] == "pc"
    assert claims["act"]["sub"] == AGENTS
    assert "management-api:read" in claims["scope"].split()
    assert "management-api:write" in claims["scope"].split()
    assert (answer["token_type"], answer["expires_in"], answer["scope"]) == ("Bearer", 3600, "read write")


@pytest.mark.parametrize(
    ("form", "status", "error"),
    [
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"subject_token_type": "urn:ietf:params:oauth:token-type:saml2"}, 400, "invalid_request"),
        ({"subject_token": "forged"}, 400, "invalid_grant"),
        ({"subject_token": "Zm9yZ2Vk.00"}, 400, "invalid_grant"),
        ({"resource": "other"}, 403, "unauthorized_client"),
        ({"scope": "cfm-write"}, 403, "unauthorized_client"),
        ({"audience": "elsewhere"}, 403, "unauthorized_client"),
    ],
)
def test_a_token_is_refused_with_its_code(platform: Platform, form: dict[str, str], status: int, error: str) -> None:
    platform.map("pc")
    answer = platform.exchange("pc", **{"scope": "read", **form})
    assert (answer.status_code, answer.json()) == (status, {"error": error})


@pytest.mark.parametrize("field", ["grant_type", "subject_token", "resource", "scope"])
def test_a_mandatory_field_that_is_missing_is_422(platform: Platform, field: str) -> None:
    platform.map("pc")
    fields: dict[str, str | None] = {"scope": "read", field: None}
    assert platform.exchange("pc", **fields).status_code == 422  # type: ignore[arg-type]


def test_a_scope_that_nobody_has_mapped_is_invalid(platform: Platform) -> None:
    platform.map("pc", ["made-up"])
    assert platform.exchange("pc", "made-up").json() == {"error": "invalid_scope"}


def test_a_mapping_is_created_once_then_replaced(platform: Platform) -> None:
    token = platform.service_token()
    one = f"{MAPPINGS}/{AGENTS}/pc"
    assert platform.call("PUT", one, MAPPING, bearer=token).status_code == 404
    assert platform.call("POST", MAPPINGS, MAPPING, bearer=token).status_code == 201
    assert platform.call("POST", MAPPINGS, MAPPING, bearer=token).status_code == 409
    assert platform.call("PUT", one, MAPPING | {"scopes": ["write"]}, bearer=token).status_code == 204
    assert platform.call("GET", MAPPINGS, bearer=token).json() == [MAPPING | {"scopes": ["write"]}]
    assert platform.call("PUT", one, MAPPING | {"participantContext": "x"}, bearer=token).status_code == 400


def test_a_mapping_is_deleted_with_204_whether_it_is_there_or_not(platform: Platform) -> None:
    token = platform.service_token()
    platform.map("pc")
    encoded = AGENTS.replace(":", "%3A")
    for client in (AGENTS, encoded, AGENTS):
        assert platform.call("DELETE", f"{MAPPINGS}/{client}/pc", bearer=token).status_code == 204
        assert platform.call("GET", MAPPINGS, bearer=token).json() == []
    platform.map("pc")
    assert platform.call("DELETE", f"{MAPPINGS}/{AGENTS}", bearer=token).status_code == 204
    assert platform.call("GET", MAPPINGS, bearer=token).json() == []


@pytest.mark.parametrize(
    "change",
    [
        {"clientIdentifier": ""},
        {"participantContext": None},
        {"scopes": "read"},
        {"scopes": ["a b"]},
        {"audiences": [""]},
    ],
    ids=str,
)
def test_a_mapping_that_is_none_is_400(platform: Platform, change: dict[str, object]) -> None:
    assert platform.call("POST", MAPPINGS, MAPPING | change, bearer=platform.service_token()).status_code == 400


def test_roles_belong_to_service_accounts_and_do_not_imply_each_other(platform: Platform) -> None:
    redline = platform.service_token(f"system:serviceaccount:{NAMESPACE}:redline")
    nobody = platform.service_token(f"system:serviceaccount:{NAMESPACE}:nobody")
    assert platform.call("GET", MAPPINGS).status_code == 401
    assert platform.call("GET", MAPPINGS, bearer=platform.token("pc", "read")).status_code == 401
    assert platform.call("GET", MAPPINGS, bearer=nobody).status_code == 403
    assert platform.call("GET", MAPPINGS, bearer=redline).status_code == 200
    assert platform.call("POST", MAPPINGS, MAPPING, bearer=redline).status_code == 403
    assert platform.call("POST", SCOPES, {}, bearer=platform.service_token()).status_code == 403


def test_scope_mappings_are_managed_by_whoever_seeds(platform: Platform) -> None:
    token = platform.service_token(SEED_JOBS)
    scope = {"scope": "acme:read", "claims": {"scope": "acme:read"}}
    assert platform.call("POST", SCOPES, [scope], bearer=token).status_code == 201
    assert platform.call("POST", SCOPES, scope, bearer=token).status_code == 409
    assert (
        platform.call("POST", SCOPES, scope | {"scope": "x", "claims": {"sub": "x"}}, bearer=token).status_code == 400
    )
    assert platform.call("PUT", f"{SCOPES}/acme:read", scope, bearer=token).status_code == 204
    assert platform.call("DELETE", f"{SCOPES}/acme:read", bearer=token).status_code == 204
    assert platform.call("PUT", f"{SCOPES}/acme:read", scope, bearer=token).status_code == 404
