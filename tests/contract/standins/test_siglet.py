"""The stand-in Siglet, and data planes at the stand-in control plane, against sections 5.4 and 8 of the contracts."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.standins.conftest import Platform
from tests.contract.standins.test_edc import CONTEXT, CONTEXTS

TYPES = "/siglet/transfer-type-mappings"
KEYS = "/siglet/key-mappings"

PULL = {"transferType": "HttpData-PULL", "endpointType": "HTTP"}
KEY = {"keyName": "participant_pc_a", "kid": "did:web:acme#key1"}
KINDS = [(TYPES, {"mappings": {"pull": PULL}}, {"pull": PULL}), (KEYS, KEY, KEY)]
DATA_PLANE = {
    "dataplaneId": "pc-siglet",
    "endpoint": "http://siglet:8081/api/v1/pc/dataflows",
    "transferTypes": ["HttpData-PULL"],
    "labels": [],
}


def tokens(platform: Platform) -> tuple[str, str]:
    """One to read with, one to write with."""
    return platform.token("pc", "siglet-mgmt-api:read"), platform.token("pc", "siglet-mgmt-api:write")


@pytest.mark.parametrize(("base", "create", "replace"), KINDS, ids=["transfer-types", "keys"])
def test_a_mapping_lives_as_the_contract_says(
    platform: Platform, base: str, create: dict[str, Any], replace: dict[str, Any]
) -> None:
    read, write = tokens(platform)
    one, body = f"{base}/pc", {"participantContextId": "pc", **create}
    assert platform.call("GET", one, bearer=read).status_code == 404
    answer = platform.call("PUT", one, replace, bearer=write)
    assert (answer.status_code, answer.json()) == (404, {"error": "there is no mapping for pc"})
    assert platform.call("POST", base, body, bearer=write).status_code == 201
    assert platform.call("POST", base, body, bearer=write).status_code == 409
    found = platform.call("GET", one, bearer=read).json()
    assert (found["participantContextId"], set(found)) == ("pc", {"participantContextId", *create})
    assert platform.call("PUT", one, replace, bearer=write).status_code == 204
    assert platform.call("GET", one, bearer=read).json() == found
    assert platform.call("DELETE", one, bearer=write).status_code == 204
    assert platform.call("DELETE", one, bearer=write).status_code == 404
    assert platform.call("GET", base, bearer=read).status_code == 405
    assert platform.call("GET", "/siglet/mappings/pc", bearer=read).status_code == 404


@pytest.mark.parametrize(("base", "create", "replace"), KINDS, ids=["transfer-types", "keys"])
def test_the_scope_must_be_the_very_one_and_the_context_may_be_another(
    platform: Platform, base: str, create: dict[str, Any], replace: dict[str, Any]
) -> None:
    read, write = tokens(platform)
    for bearer in ("", "forged", platform.service_token()):
        answer = platform.call("GET", f"{base}/pc", bearer=bearer)
        assert (answer.status_code, list(answer.json())) == (401, ["error"])
    assert platform.call("GET", f"{base}/pc", bearer=write).status_code == 403
    assert platform.call("POST", base, create, bearer=read).status_code == 403
    assert platform.call("PUT", f"{base}/pc", replace, bearer=read).status_code == 403
    assert platform.call("DELETE", f"{base}/pc", bearer=read).status_code == 403
    body = {"participantContextId": "somebody", **create}
    assert platform.call("POST", base, body, bearer=write).status_code == 201


def test_replacing_takes_the_bare_map_and_refuses_the_wrapper(platform: Platform) -> None:
    read, write = tokens(platform)
    wrapper = {"participantContextId": "pc", "mappings": {"pull": PULL}}
    platform.call("POST", TYPES, wrapper, bearer=write)
    assert platform.call("PUT", f"{TYPES}/pc", wrapper, bearer=write).status_code == 422
    assert platform.call("PUT", f"{TYPES}/pc", {"other": PULL}, bearer=write).status_code == 204
    assert list(platform.call("GET", f"{TYPES}/pc", bearer=read).json()["mappings"]) == ["other"]


def test_replacing_a_key_tolerates_the_context_in_the_body(platform: Platform) -> None:
    _, write = tokens(platform)
    body = {"participantContextId": "pc", **KEY}
    platform.call("POST", KEYS, body, bearer=write)
    assert platform.call("PUT", f"{KEYS}/pc", body, bearer=write).status_code == 204


def test_a_transfer_type_gets_its_defaults_and_keeps_what_is_not_known(platform: Platform) -> None:
    read, write = tokens(platform)
    given: dict[str, Any] = {
        "snake": {"transfer_type": "a", "endpoint_type": "b", "token_source": "client"},
        "more": {**PULL, "claimMappings": [{"from": "a", "to": "b", "optional": True}], "unknown": 1},
        "routed": {**PULL, "endpointMappings": [{"key": "k", "value": "v", "endpoint": "http://a"}]},
    }
    body = {"participantContextId": "pc", "mappings": given}
    assert platform.call("POST", TYPES, body, bearer=write).status_code == 201
    found = platform.call("GET", f"{TYPES}/pc", bearer=read).json()["mappings"]
    assert found["snake"] == {
        "transferType": "a",
        "endpointType": "b",
        "tokenSource": "client",
        "txRenewalSupport": False,
    }
    assert found["more"] == {**given["more"], "tokenSource": "provider", "txRenewalSupport": False}
    assert found["routed"]["endpointMappings"] == given["routed"]["endpointMappings"]


@pytest.mark.parametrize(
    "change",
    [
        {"transferType": ""},
        {"endpointType": None},
        {"tokenSource": "nobody"},
        {"endpoint": "x"},
        {"endpoint": "http://a", "endpointMappings": []},
        {"endpointMappings": [{"key": "k"}]},
        {"claimMappings": {"from": "a"}},
        {"txRenewalSupport": "yes"},
    ],
    ids=str,
)
def test_a_transfer_type_needs_its_fields(platform: Platform, change: dict[str, Any]) -> None:
    _, write = tokens(platform)
    body = {"participantContextId": "pc", "mappings": {"a": PULL | change}}
    answer = platform.call("POST", TYPES, body, bearer=write)
    assert (answer.status_code, list(answer.json())) == (422, ["error"])


@pytest.mark.parametrize("missing", ["keyName", "kid", "participantContextId"])
def test_a_key_mapping_needs_its_fields(platform: Platform, missing: str) -> None:
    _, write = tokens(platform)
    body = {name: value for name, value in {"participantContextId": "pc", **KEY}.items() if name != missing}
    assert platform.call("POST", KEYS, body, bearer=write).status_code == 422


def test_a_data_plane_lives_as_the_contract_says(platform: Platform) -> None:
    token = platform.token("pc", "management-api:admin")
    planes = f"{CONTEXTS}/pc/dataplanes"
    answer = platform.call("PUT", planes, DATA_PLANE, bearer=token)
    assert (answer.status_code, answer.json()[0]["type"]) == (404, "ObjectNotFound")
    platform.call("POST", CONTEXTS, CONTEXT, bearer=token)
    for types in (["a"], ["b"]):
        answer = platform.call("PUT", planes, DATA_PLANE | {"transferTypes": types}, bearer=token)
        assert (answer.status_code, answer.content) == (200, b"")
    state = platform.call("GET", "/_control/state", bearer="control-token").json()
    assert [one["transferTypes"] for one in state["controlplane"]["dataplanes"]] == [["b"]]
    other = f"{CONTEXTS}/other/dataplanes/pc-siglet"
    assert platform.call("DELETE", other, bearer=token).status_code == 404
    platform.call("DELETE", f"{CONTEXTS}/pc", bearer=token)
    assert platform.call("DELETE", f"{planes}/pc-siglet", bearer=token).status_code == 200, "it outlives its context"
    assert platform.call("DELETE", f"{planes}/pc-siglet", bearer=token).status_code == 404


def test_a_data_plane_may_be_registered_without_administration_by_its_owner(platform: Platform) -> None:
    platform.call("POST", CONTEXTS, CONTEXT, bearer=platform.token("pc", "management-api:admin"))
    planes = f"{CONTEXTS}/pc/dataplanes"
    answer = platform.call("PUT", planes, DATA_PLANE, bearer=platform.token("pc", "read"))
    assert (answer.status_code, answer.text) == (403, "Required scope 'management-api:dataplanes:write' missing")
    assert platform.call("PUT", planes, DATA_PLANE, bearer=platform.token("pc", "write")).status_code == 200


@pytest.mark.parametrize(
    "change",
    [
        {"dataplaneId": ""},
        {"endpoint": None},
        {"transferTypes": None},
        {"transferTypes": [1]},
        {"labels": "a"},
        {"authorization": {}},
    ],
    ids=str,
)
def test_a_data_plane_needs_its_fields(platform: Platform, change: dict[str, Any]) -> None:
    token = platform.token("pc", "management-api:admin")
    platform.call("POST", CONTEXTS, CONTEXT, bearer=token)
    answer = platform.call("PUT", f"{CONTEXTS}/pc/dataplanes", DATA_PLANE | change, bearer=token)
    assert (answer.status_code, answer.json()[0]["type"]) == (400, "ValidationFailure")
