"""The three EDC stand-ins against the dataspace service contracts, sections 4 to 7."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from local.standins import ISSUER_DID
from local.standins.tokens import grants
from tests.contract.standins.conftest import Platform

CONTEXTS = "/controlplane/api/mgmt/v5beta/participants"
HUB = "/identityhub/api/identity/v1beta/participants"
HOLDERS = "/issuerservice/api/admin/v1beta/participants/issuer/holders"
ISSUED = "/issuerservice/api/admin/v1beta/participants/issuer/credentials"
PROCESSES = "/issuerservice/api/admin/v1beta/participants/issuer/issuanceprocesses"

DID = "did:web:hub%3A7083:acme"
MANAGEMENT = ["https://w3id.org/edc/connector/management/v2"]
CONTEXT = {"@context": MANAGEMENT, "@type": "ParticipantContext", "@id": "pc", "identity": DID}
CONFIG = {"@context": MANAGEMENT, "@type": "ParticipantContextConfig"}
KEY = {"keyId": f"{DID}#key1", "privateKeyAlias": "alias", "keyGeneratorParams": {"algorithm": "EDDSA"}}
PARTICIPANT = {"participantContextId": "pc", "did": DID, "active": True, "key": KEY}
HOLDER = {"holderId": "pc", "did": DID, "name": "Acme", "properties": {"a": 1}}
REQUEST = {
    "issuerDid": ISSUER_DID,
    "holderPid": "pid",
    "credentials": [{"format": "VC1_0_JWT", "type": "Membership", "id": "def"}],
}


@pytest.mark.parametrize(
    ("held", "wanted", "granted"),
    [
        ("a:admin", "a:write", True),
        ("a:write", "a:admin", False),
        ("a:write", "a:things:read", True),
        ("a:things:write", "a:things:read", True),
        ("a:things:write", "a:other:read", False),
        ("a:*:write", "a:other:read", True),
        ("a:things:admin", "a:admin", False),
        ("b:admin", "a:read", False),
        ("a", "a:read", False),
        ("", "a:read", False),
    ],
)
def test_scopes_follow_their_grammar(held: str, wanted: str, granted: bool) -> None:
    assert grants([held], wanted) is granted


@pytest.mark.parametrize("path", [CONTEXTS, HUB, HOLDERS + "/pc"])
def test_without_a_token_that_holds_nothing_is_answered(platform: Platform, path: str) -> None:
    for bearer in ("", "forged", platform.service_token()):
        assert platform.call("GET", path, bearer=bearer).status_code == 401


def test_a_token_of_a_withdrawn_key_is_refused(platform: Platform) -> None:
    token = platform.token("pc", "management-api:admin")
    assert platform.call("GET", CONTEXTS, bearer=token).status_code == 200
    assert platform.call("POST", "/_control/keys", bearer="control-token").status_code == 204
    assert platform.call("GET", CONTEXTS, bearer=token).status_code == 401


def test_a_missing_scope_is_403_and_named(platform: Platform) -> None:
    answer = platform.call("POST", CONTEXTS, CONTEXT, bearer=platform.token("pc", "read"))
    assert (answer.status_code, answer.text) == (403, "Required scope 'management-api:admin' missing")


def test_without_administration_the_subject_must_exist_and_own(platform: Platform) -> None:
    admin = platform.token("pc", "identity-api:admin")
    reader = platform.token("pc", "identity-api:credentials:read")
    answer = platform.call("GET", f"{HUB}/pc/credentials/request/pid", bearer=reader)
    assert (answer.status_code, answer.text) == (401, "Not authorized: No participant for 'sub = pc' found")
    platform.call("POST", HUB, PARTICIPANT, bearer=admin)
    assert platform.call("GET", f"{HUB}/pc/credentials/request/pid", bearer=reader).status_code == 404
    answer = platform.call("GET", f"{HUB}/other/credentials/request/pid", bearer=reader)
    assert answer.status_code == 403
    assert answer.json()[0]["type"] == "NotAuthorized"


@pytest.mark.parametrize("base", [CONTEXTS, HUB, HOLDERS])
def test_an_encoded_percent_sign_in_a_path_is_refused(platform: Platform, base: str) -> None:
    answer = platform.call("DELETE", f"{base}/did:web:hub%253A7083:acme", bearer=platform.token("pc", "read"))
    assert (answer.status_code, answer.text) == (400, "Ambiguous URI path encoding")


def test_a_method_that_does_not_exist_is_405_and_a_path_404(platform: Platform) -> None:
    answer = platform.call("DELETE", f"{CONTEXTS}/pc/config")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, PATCH, PUT")
    assert platform.call("GET", "/controlplane/api/mgmt/v6/participants").status_code == 404


def test_a_participant_context_lives_as_the_contract_says(platform: Platform) -> None:
    token = platform.token("pc", "management-api:admin")
    one = f"{CONTEXTS}/pc"
    answer = platform.call("POST", CONTEXTS, CONTEXT | {"state": "ACTIVATED"}, bearer=token)
    assert (answer.status_code, answer.json()["@id"]) == (200, "pc")
    answer = platform.call("POST", CONTEXTS, CONTEXT, bearer=token)
    assert (answer.status_code, answer.json()[0]["type"]) == (409, "ObjectConflict")
    assert platform.call("GET", one, bearer=token).json()["state"] == 100
    assert len(platform.call("GET", CONTEXTS, bearer=token).json()) == 1
    assert platform.call("PUT", one, CONTEXT | {"identity": "did:web:b"}, bearer=token).status_code == 204
    assert platform.call("GET", one, bearer=token).json()["identity"] == "did:web:b"
    assert platform.call("DELETE", one, bearer=token).status_code == 204
    answer = platform.call("DELETE", one, bearer=token)
    assert (answer.status_code, answer.json()[0]["type"]) == (404, "ObjectNotFound")


@pytest.mark.parametrize("field", ["@context", "@type", "@id", "identity"])
def test_a_participant_context_needs_its_fields(platform: Platform, field: str) -> None:
    body = {name: value for name, value in CONTEXT.items() if name != field}
    answer = platform.call("POST", CONTEXTS, body, bearer=platform.token("pc", "management-api:admin"))
    assert (answer.status_code, answer.json()[0]["path"]) == (400, field)


def test_a_configuration_is_merged_and_outlives_its_context(platform: Platform) -> None:
    token = platform.token("pc", "management-api:admin")
    path = f"{CONTEXTS}/pc/config"
    assert platform.call("GET", path, bearer=token).status_code == 404
    first = CONFIG | {"entries": {"a": "1", "b": "1"}, "privateEntries": {"s": "secret"}}
    assert platform.call("PATCH", path, first, bearer=token).status_code == 204
    assert platform.call("PATCH", path, CONFIG | {"entries": {"b": None, "c": "2"}}, bearer=token).status_code == 204
    found = platform.call("GET", path, bearer=token).json()
    assert found["entries"] == {"a": "1", "c": "2"}
    assert list(found["privateEntries"]) == ["s"]
    assert "secret" not in str(found)
    assert platform.call("PUT", path, CONFIG | {"entries": {"a": None}}, bearer=token).status_code == 400
    assert platform.call("PATCH", path, CONFIG | {"entries": {"a": {"no": "object"}}}, bearer=token).status_code == 400
    assert platform.call("PATCH", path, CONFIG, bearer=token).status_code == 400
    platform.call("POST", CONTEXTS, CONTEXT, bearer=token)
    platform.call("DELETE", f"{CONTEXTS}/pc", bearer=token)
    assert platform.call("GET", path, bearer=token).status_code == 200


def test_a_participant_of_the_hub_lives_as_the_contract_says(platform: Platform) -> None:
    token = platform.token("pc", "identity-api:admin")
    answer = platform.call("POST", HUB, PARTICIPANT | {"provisionApiKey": False}, bearer=token)
    assert (answer.status_code, answer.json()["apiKey"]) == (200, None)
    assert platform.call("POST", HUB, PARTICIPANT, bearer=token).status_code == 409
    assert platform.call("POST", HUB, PARTICIPANT | {"participantContextId": "b"}, bearer=token).status_code == 409
    found = platform.call("GET", f"{HUB}/pc", bearer=token).json()
    assert (found["did"], found["state"]) == (DID, 200)
    assert platform.call("DELETE", f"{HUB}/pc", bearer=token).status_code == 204
    assert platform.call("DELETE", f"{HUB}/pc", bearer=token).status_code == 404
    assert platform.call("GET", f"{HUB}/pc/keypairs", bearer=token).json() == []


def test_a_key_is_active_some_time_after_its_participant_is_made(platform: Platform) -> None:
    token = platform.token("pc", "identity-api:admin")
    platform.call("POST", HUB, PARTICIPANT, bearer=token)
    (key,) = platform.call("GET", f"{HUB}/pc/keypairs", bearer=token).json()
    assert (key["state"], key["privateKeyAlias"]) == (100, "participant_pc_alias")
    platform.now = 1
    (key,) = platform.call("GET", f"{HUB}/pc/keypairs", bearer=token).json()
    assert key["state"] == 200


@pytest.mark.parametrize(
    "change",
    [
        {"did": ""},
        {"participantContextId": None},
        {"key": None},
        {"key": KEY | {"privateKeyAlias": "under_score"}},
        {"key": KEY | {"publicKeyPem": "x"}},
        {"key": {"keyId": "k", "privateKeyAlias": "a", "publicKeyPem": "x"}},
        {"key": KEY | {"usage": []}},
        {"additionalProperties": {"edc.vault.hashicorp.config": "a text"}},
        {"serviceEndpoints": [{"type": "x"}]},
    ],
    ids=str,
)
def test_a_participant_of_the_hub_needs_its_fields(platform: Platform, change: dict[str, Any]) -> None:
    answer = platform.call("POST", HUB, PARTICIPANT | change, bearer=platform.token("pc", "identity-api:admin"))
    assert (answer.status_code, answer.json()[0]["type"]) == (400, "ValidationFailure")


def prepared(platform: Platform, *, holder: bool = True) -> tuple[str, str]:
    """A participant and, if wanted, its holder; gives tokens to write and to read credential requests."""
    platform.call("POST", HUB, PARTICIPANT, bearer=platform.token("pc", "identity-api:admin"))
    if holder:
        platform.call("POST", HOLDERS, HOLDER, bearer=platform.token("pc", "issuer-admin-api:admin"))
    return (
        platform.token("pc", "identity-api:credentials:write"),
        platform.token("pc", "identity-api:credentials:read"),
    )


def test_credentials_are_issued_after_a_while_and_can_be_revoked_more_than_once(platform: Platform) -> None:
    write, read = prepared(platform)
    admin = platform.token("pc", "issuer-admin-api:admin")
    answer = platform.call("POST", f"{HUB}/pc/credentials/request", REQUEST, bearer=write)
    assert (answer.status_code, answer.headers["Location"]) == (201, "/v1beta/participants/pc/credentials/request/pid")
    assert platform.call("POST", f"{HUB}/pc/credentials/request", REQUEST, bearer=write).status_code == 409
    seen = []
    for platform.now in (0, 1, 2, 2.9, 3, 10):
        seen.append(platform.call("GET", f"{HUB}/pc/credentials/request/pid", bearer=read).json()["status"])
    assert seen == ["CREATED", "REQUESTING", "REQUESTED", "REQUESTED", "ISSUED", "ISSUED"]
    (stored,) = platform.call("GET", f"{HUB}/pc/credentials?type=Membership", bearer=read).json()
    assert platform.call("GET", f"{HUB}/pc/credentials?type=Other", bearer=read).json() == []
    assert platform.call("GET", f"{HUB}/pc/credentials/{stored['id']}", bearer=read).status_code == 200

    def issued_to(did: str) -> list[dict[str, Any]]:
        query = {"filterExpression": [{"operandLeft": "holderId", "operator": "=", "operandRight": did}]}
        found: list[dict[str, Any]] = platform.call("POST", f"{ISSUED}/query", query, bearer=admin).json()
        return found

    assert issued_to("pc") == []
    (issued,) = issued_to(DID)
    for _ in range(2):
        assert platform.call("POST", f"{ISSUED}/{issued['id']}/revoke", bearer=admin).status_code == 204
    assert platform.call("GET", f"{ISSUED}/{issued['id']}/status", bearer=admin).json()["status"] == "revoked"
    own_id = issued["credential"]["id"]
    assert platform.call("POST", f"{ISSUED}/{own_id}/revoke", bearer=admin).status_code == 404
    assert platform.call("POST", f"{ISSUED}/{issued['id']}/suspend", bearer=admin).status_code == 501


def test_a_credential_ends_a_week_after_the_issuers_calendar(platform: Platform) -> None:
    write, read = prepared(platform)
    for number, ahead in enumerate((timedelta(days=-5), timedelta(0), timedelta(days=30))):
        document = {"aheadSeconds": ahead.total_seconds()}
        assert platform.call("POST", "/_control/calendar", document, bearer="control-token").status_code == 204
        platform.call("POST", f"{HUB}/pc/credentials/request", REQUEST | {"holderPid": f"p{number}"}, bearer=write)
        platform.now += 5
        stored = platform.call("GET", f"{HUB}/pc/credentials", bearer=read).json()[-1]
        credential = stored["verifiableCredential"]["credential"]
        issued, ends = (datetime.fromisoformat(credential[name]) for name in ("issuanceDate", "expirationDate"))
        assert ends - issued == timedelta(days=7)
        assert abs(issued - datetime.now(UTC) - ahead) < timedelta(minutes=1)


def test_of_many_credentials_the_first_fifty_are_shown_and_filtered_after_that(platform: Platform) -> None:
    write, read = prepared(platform)
    kinds = [{"format": "VC1_0_JWT", "type": kind, "id": "def"} for kind in ["Early"] * 49 + ["Late"] * 2]
    platform.call("POST", f"{HUB}/pc/credentials/request", REQUEST | {"credentials": kinds}, bearer=write)
    platform.now = 5

    def shown(query: str = "") -> int:
        return len(platform.call("GET", f"{HUB}/pc/credentials{query}", bearer=read).json())

    assert (shown(), shown("?type=Early"), shown("?type=Late")) == (50, 49, 1)
    (first, *_) = platform.call("GET", f"{HUB}/pc/credentials", bearer=read).json()
    assert platform.call("DELETE", f"{HUB}/pc/credentials/{first['id']}", bearer=read).status_code == 403
    assert platform.call("DELETE", f"{HUB}/pc/credentials/{first['id']}", bearer=write).status_code == 204
    assert platform.call("DELETE", f"{HUB}/pc/credentials/{first['id']}", bearer=write).status_code == 404
    assert shown("?type=Late") == 2


def test_a_request_of_an_unknown_holder_ends_in_error_and_the_issuer_knows_why(platform: Platform) -> None:
    write, read = prepared(platform, holder=False)
    platform.call("POST", f"{HUB}/pc/credentials/request", REQUEST, bearer=write)
    platform.now = 5
    assert platform.call("GET", f"{HUB}/pc/credentials/request/pid", bearer=read).json()["status"] == "ERROR"
    query = {"filterExpression": [{"operandLeft": "holderPid", "operator": "=", "operandRight": "pid"}]}
    admin = platform.token("pc", "issuer-admin-api:admin")
    (process,) = platform.call("POST", f"{PROCESSES}/query", query, bearer=admin).json()
    assert (process["state"], process["errorDetail"]) == ("ERRORED", f"no holder with the DID {DID}")


def test_what_was_requested_is_not_issued_once_the_participant_is_gone(platform: Platform) -> None:
    write, _ = prepared(platform)
    platform.call("POST", f"{HUB}/pc/credentials/request", REQUEST, bearer=write)
    platform.call("DELETE", f"{HUB}/pc", bearer=platform.token("pc", "identity-api:admin"))
    platform.now = 10
    state = platform.call("GET", "/_control/state", bearer="control-token").json()
    assert state["issuerservice"]["credentials"] == []
    assert state["identityhub"]["credentialRequests"] == []


@pytest.mark.parametrize("change", [{"issuerDid": ""}, {"credentials": []}, {"credentials": [{"type": "x"}]}], ids=str)
def test_a_credential_request_needs_its_fields(platform: Platform, change: dict[str, Any]) -> None:
    write, _ = prepared(platform)
    assert platform.call("POST", f"{HUB}/pc/credentials/request", REQUEST | change, bearer=write).status_code == 400


def test_a_holder_lives_as_the_contract_says(platform: Platform) -> None:
    token = platform.token("pc", "issuer-admin-api:admin")
    answer = platform.call("POST", HOLDERS, HOLDER, bearer=token)
    assert (answer.status_code, answer.headers["Location"]) == (201, f"{HOLDERS}/pc")
    assert platform.call("POST", HOLDERS, HOLDER, bearer=token).status_code == 409
    assert platform.call("GET", f"{HOLDERS}/pc", bearer=token).json()["holderName"] == "Acme"
    assert platform.call("PUT", HOLDERS, HOLDER | {"name": "Bolt"}, bearer=token).status_code == 200
    assert platform.call("PUT", HOLDERS, HOLDER | {"holderId": "x"}, bearer=token).status_code == 404
    assert platform.call("PUT", f"{HOLDERS}/pc", HOLDER, bearer=token).status_code == 405
    query = {"filterExpression": [{"operandLeft": "did", "operator": "=", "operandRight": DID}]}
    (found,) = platform.call("POST", f"{HOLDERS}/query", query, bearer=token).json()
    assert found["holderName"] == "Bolt"
    elsewhere = HOLDERS.replace("/issuer/", "/nobody/")
    assert platform.call("POST", elsewhere, HOLDER, bearer=token).status_code == 404
    assert platform.call("DELETE", f"{HOLDERS}/pc", bearer=token).status_code == 204
    assert platform.call("DELETE", f"{HOLDERS}/pc", bearer=token).status_code == 404


def test_a_holder_whose_id_has_a_percent_sign_cannot_be_reached_by_its_id(platform: Platform) -> None:
    token = platform.token("pc", "issuer-admin-api:admin")
    platform.call("POST", HOLDERS, HOLDER | {"holderId": DID}, bearer=token)
    assert platform.call("DELETE", f"{HOLDERS}/{DID}", bearer=token).status_code == 404
    assert platform.call("DELETE", f"{HOLDERS}/{DID.replace('%', '%25')}", bearer=token).status_code == 400


def test_queries_are_paged(platform: Platform) -> None:
    token = platform.token("pc", "issuer-admin-api:admin")
    for number in range(7):
        platform.call("POST", HOLDERS, {"holderId": f"h{number}", "did": DID}, bearer=token)

    def page(offset: int, limit: int) -> list[str]:
        found = platform.call("POST", f"{HOLDERS}/query", {"offset": offset, "limit": limit}, bearer=token).json()
        return [holder["holderId"] for holder in found]

    assert page(0, 3) == ["h0", "h1", "h2"]
    assert page(6, 3) == ["h6"]


@pytest.mark.parametrize(("base", "scope"), [(CONTEXTS, "management-api:admin"), (HUB, "identity-api:admin")])
def test_lists_are_paged_by_fifty_unless_asked_otherwise(platform: Platform, base: str, scope: str) -> None:
    token = platform.token("pc", scope)
    for number in range(52):
        did = f"did:web:{number}"
        body: dict[str, Any] = {**CONTEXT, "@id": f"p{number}", "identity": did}
        body |= {**PARTICIPANT, "participantContextId": f"p{number}", "did": did}
        assert platform.call("POST", base, body, bearer=token).status_code == 200

    def page(query: str) -> list[str]:
        found = platform.call("GET", f"{base}{query}", bearer=token).json()
        return [one.get("@id") or one["participantContextId"] for one in found]

    assert len(page("")) == 50
    assert page("?offset=50") == ["p50", "p51"]
    assert page("?offset=1&limit=2") == ["p1", "p2"]
    assert platform.call("GET", f"{base}?limit=many", bearer=token).status_code == 400


def test_a_token_is_refused_when_its_time_is_over() -> None:
    # Its times are those of the wall clock, in whole seconds: one without a life is over when it arrives.
    platform = Platform(token_lifetime=0)
    try:
        token = platform.token("pc", "management-api:admin")
        assert platform.call("GET", CONTEXTS, bearer=token).status_code == 401
    finally:
        platform.stop()


@pytest.mark.parametrize(
    "query",
    [
        {"limit": 0},
        {"sortOrder": "UP"},
        {"filterExpression": {}},
        {"filterExpression": [{"operandLeft": "did"}]},
        {"filterExpression": [{"operandLeft": "did", "operator": "~", "operandRight": "x"}]},
    ],
    ids=str,
)
def test_a_query_that_is_none_is_400(platform: Platform, query: dict[str, Any]) -> None:
    token = platform.token("pc", "issuer-admin-api:admin")
    platform.call("POST", HOLDERS, HOLDER, bearer=token)
    assert platform.call("POST", f"{HOLDERS}/query", query, bearer=token).status_code == 400
