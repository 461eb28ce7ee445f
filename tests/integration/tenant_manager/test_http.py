from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import pytest

from cfm_core.settings import Settings
from tests.integration.tenant_manager.api import ROUTER, Api, Fabric, client_of, deliver

ABSENT = "00000000-0000-4000-8000-000000000000"


def test_a_tenant_is_created_read_changed_listed_and_deleted(api: Api) -> None:
    created = api.post("/tenants", {"PROPERTIES": {"group": "suppliers", "ünïcode": "<&>"}, "unknown": 1})
    tenant = created.json["id"]
    assert created.status == 201
    assert created.headers["Location"] == f"/api/v1alpha1/tenants/{tenant}"
    assert created.headers["Content-Type"] == "application/json"
    read = api.get(f"/tenants/{tenant}/")
    assert (read.status, read.text) == (200, created.text)
    changed = api.patch(f"/tenants/{tenant}", {"properties": {"a": None}, "removed": ["ünïcode"]})
    assert changed.status == 200
    assert changed.json == {"id": tenant, "version": 1, "properties": {"group": "suppliers", "a": None}}
    listed = api.get("/tenants")
    assert (listed.status, listed.json) == (200, [changed.json])
    queried = api.post("/tenants/query", {"predicate": "properties.group = 'suppliers'"})
    assert (queried.status, queried.json, queried.headers["X-Total-Count"]) == (200, [changed.json], "1")
    gone = api.delete(f"/tenants/{tenant}")
    assert (gone.status, gone.text, gone.headers["Content-Type"]) == (200, "", "application/json")
    assert api.get(f"/tenants/{tenant}").status == 404


def test_an_empty_diff_and_a_null_one_change_nothing(api: Api) -> None:
    created = api.post("/tenants", {"properties": {"a": 1}})
    for raw in (b"{}", b"null", b'{"properties": null, "removed": null}'):
        answer = api.request("PATCH", f"/tenants/{created.json['id']}", raw=raw)
        assert (answer.status, answer.text) == (200, created.text)


def test_a_page_has_its_total_and_links(api: Api) -> None:
    ids = sorted(api.post("/tenants", {}).json["id"] for _ in range(5))
    answer = api.get("/tenants?offset=1&limit=2")
    assert [tenant["id"] for tenant in answer.json] == ids[1:3]
    assert answer.headers["X-Total-Count"] == "5"
    base = "http://localhost/api/v1alpha1/tenants"
    assert answer.headers["Link"].split(", ") == [
        f'<{base}?offset=1&limit=2>; rel="self"',
        f'<{base}?offset=3&limit=2&after={ids[2]}>; rel="next"',
        f'<{base}?offset=0&limit=2>; rel="prev"',
        f'<{base}?offset=0&limit=2>; rel="first"',
        f'<{base}?offset=4&limit=2>; rel="last"',
    ]
    for path in ("/tenants", "/tenants?limit=&offset=", "/tenants?limit=0", "/tenants?limit=100000"):
        assert [tenant["id"] for tenant in api.get(path).json] == ids
    beyond = api.get("/tenants?offset=9")
    assert (beyond.json, beyond.headers["X-Total-Count"]) == ([], "5")
    queried = api.post("/tenants/query", {"predicate": "true", "offset": 4, "limit": 3})
    assert [tenant["id"] for tenant in queried.json] == ids[4:]


@pytest.mark.parametrize("query", ["limit=x", "offset=1.5", "offset=-1", "limit=-1", "limit=" + "9" * 5000, "limit=²"])
def test_a_bad_page_is_refused(api: Api, query: str) -> None:
    answer = api.get(f"/tenants?{query}")
    assert answer.status == 400
    assert answer.json["message"].startswith("Invalid ")


@pytest.mark.parametrize(
    "body",
    [
        {"predicate": ""},
        {},
        {"predicate": "nope = 1"},
        {"predicate": "a ="},
        {"predicate": "id = 'a\0b'"},
        {"predicate": "true", "limit": "5"},
        {"predicate": "true", "limit": 1.5},
        {"predicate": "true", "limit": True},
        {"predicate": "true", "offset": -1},
        {"predicate": "true", "offset": 2**63},
        {"predicate": 5},
    ],
)
@pytest.mark.parametrize("path", ["/tenants/query", "/participant-profiles/query"])
def test_a_bad_query_is_refused(api: Api, path: str, body: Any) -> None:
    answer = api.post(path, body)
    assert (answer.status, answer.json["code"], answer.json["error"]) == (400, 400, "Bad Request")


def test_a_parse_error_says_where(api: Api) -> None:
    answer = api.post("/tenants/query", {"predicate": "id == 'x'"})
    assert answer.json["message"].startswith("Client error: parse error: position 5: ")


def test_a_cell_is_created_read_listed_and_deleted(api: Api) -> None:
    document = {
        "state": "Active",
        "externalId": "west",
        "stateTimestamp": "2026-11-23T07:07:23Z",
        "properties": {"k": 1},
    }
    created = api.post("/cells", document)
    cell = created.json["id"]
    assert (created.status, created.headers["Location"]) == (201, f"/api/v1alpha1/cells/{cell}")
    assert created.json == document | {"id": cell, "version": 0, "state": "active"}
    assert api.get(f"/cells/{cell}").text == created.text
    assert api.get("/cells").text == f"[{created.text}]"
    assert api.post("/cells", document).status == 409
    assert (api.delete(f"/cells/{cell}").status, api.delete(f"/cells/{cell}").status) == (200, 404)
    assert api.get("/cells").text == "[]"


def test_a_dataspace_profile_is_created_read_listed_deployed_and_deleted(api: Api) -> None:
    created = api.post("/dataspace-profiles", {"dataspaceSpec": {"protocolstack": ["dsp"]}, "artifacts": ["a"]})
    profile = created.json["id"]
    assert (created.status, created.headers["Location"]) == (201, f"/api/v1alpha1/dataspace-profiles/{profile}")
    assert created.json["dataspaceSpec"] == {"protocolStack": ["dsp"]}
    assert api.get(f"/dataspace-profiles/{profile}").text == created.text
    assert api.get("/dataspace-profiles").text == f"[{created.text}]"
    deployments = f"/dataspace-profiles/{profile}/deployments"
    assert api.post(deployments).status == 422
    cell = api.post("/cells", {"state": "active"}).json["id"]
    assert api.post(deployments, {"cellId": ABSENT}).status == 404
    assert api.post(deployments, {"cellId": cell, "profileId": ABSENT}).status == 400
    for body in (None, {"cellId": cell, "profileId": profile}, {"cellId": cell}, {"cellId": None}):
        answer = api.post(deployments, body)
        assert (answer.status, answer.text) == (202, "")
    (deployment,) = api.get(f"/dataspace-profiles/{profile}").json["deployments"]
    assert (deployment["cellId"], deployment["state"]) == (cell, "active")
    in_use = api.delete(f"/cells/{cell}")
    assert (in_use.status, in_use.json["usedBy"]) == (409, [{"kind": "dataspaceProfile", "id": profile}])
    assert [api.delete(f"/dataspace-profiles/{profile}").status for _ in range(2)] == [200, 404]


def test_a_participant_is_deployed_read_queried_and_disposed(fabric: Fabric) -> None:
    api = fabric.api
    accepted = api.post(fabric.profiles, {"identifier": "did:web:foo", "dataspaceProfileIds": [fabric.dataspace]})
    assert accepted.status == 202
    profile = accepted.json["id"]
    assert len(accepted.json["orchestrationId"]) == 36
    shown = {key: value for key, value in accepted.json.items() if key != "orchestrationId"}
    assert fabric.profile(profile) == shown
    assert api.get(fabric.profiles).json == [shown]
    queried = api.post("/participant-profiles/query", {"predicate": "identifier = 'did:web:foo'"})
    assert (queried.json, queried.headers["X-Total-Count"]) == ([shown], "1")
    wrong_state = api.delete(f"{fabric.profiles}/{profile}")
    assert (wrong_state.status, wrong_state.json["allowedActions"]) == (409, [])
    assert api.post(fabric.profiles, {"identifier": "did:web:foo"}).status == 409
    refused = api.delete(f"/tenants/{fabric.tenant}")
    assert refused.status == 400
    assert "cannot delete tenant with participants" in refused.json["message"]

    deliver("apply_orchestration_responses", [response_event(accepted.json, success=True)])
    disposing = api.delete(f"{fabric.profiles}/{profile}")
    assert (disposing.status, disposing.text) == (202, "")
    assert {vpa["state"] for vpa in fabric.profile(profile)["vpas"]} == {"disposing"}


def response_event(deployed: Any, *, success: bool) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": "1",
        "source": "test",
        "type": "test",
        "data": {
            "id": "r",
            "manifestId": deployed["orchestrationId"],
            "correlationId": deployed["id"],
            "orchestrationType": "cfm.orchestration.vpa.deploy",
            "success": success,
            "properties": {},
        },
    }


def test_the_profiles_of_an_unknown_tenant_are_an_empty_list(api: Api) -> None:
    for tenant in (ABSENT, "no-uuid", "%00"):
        answer = api.get(f"/tenants/{tenant}/participant-profiles")
        assert (answer.status, answer.text) == (200, "[]")


@pytest.mark.parametrize("unknown", [ABSENT, "no-uuid", "%00", "a%00b", "..", "%27", "x" * 5000, "%F0%9F%90%98", "%ff"])
def test_an_unknown_id_is_not_found(fabric: Fabric, unknown: str, contents: Callable[[], list[str]]) -> None:
    before = contents()
    requests: list[tuple[str, str, Any]] = [
        ("GET", f"/tenants/{unknown}", None),
        ("PATCH", f"/tenants/{unknown}", {"properties": {"a": 1}}),
        ("DELETE", f"/tenants/{unknown}", None),
        ("GET", f"/cells/{unknown}", None),
        ("DELETE", f"/cells/{unknown}", None),
        ("GET", f"/dataspace-profiles/{unknown}", None),
        ("DELETE", f"/dataspace-profiles/{unknown}", None),
        ("POST", f"/dataspace-profiles/{unknown}/deployments", None),
        ("POST", f"/tenants/{unknown}/participant-profiles", {"identifier": "did:web:foo"}),
        ("GET", f"{fabric.profiles}/{unknown}", None),
        ("DELETE", f"{fabric.profiles}/{unknown}", None),
    ]
    for method, path, body in requests:
        answer = fabric.api.request(method, path, body)
        assert (answer.status, answer.json["code"]) == (404, 404), (method, path)
    assert contents() == before


MALFORMED = [
    b"",
    b"{",
    b"[]",
    b'"x"',
    b"5",
    b"{} {}",
    b"\xff",
    b"\xed\xa0\x80",
    b'{"properties": "x"}',
    b'{"properties": []}',
    b'{"properties": {"a": "\\u0000"}}',
    b'{"properties": {"\\u0000": 1}}',
    b'{"properties": {"a": "\\ud800"}}',
    b'{"properties": {"a": NaN}}',
    b'{"properties": {"a": Infinity}}',
    b'{"properties": {"a": 1e999}}',
    b'{"properties": {"a": ' + b"9" * 5000 + b"}}",
    b'{"properties": {"a": ' + b"[" * 50 + b"]" * 50 + b"}}",
    b'{"properties": ' + b"[" * 100_000,
]


@pytest.mark.parametrize("raw", MALFORMED, ids=range(len(MALFORMED)))
def test_a_malformed_body_is_refused_and_changes_nothing(
    fabric: Fabric, raw: bytes, contents: Callable[[], list[str]]
) -> None:
    before = contents()
    for method, path in [
        ("POST", "/tenants"),
        ("PATCH", f"/tenants/{fabric.tenant}"),
        ("POST", "/cells"),
        ("POST", "/dataspace-profiles"),
        ("POST", fabric.profiles),
        ("POST", "/tenants/query"),
    ]:
        answer = fabric.api.request(method, path, raw=raw)
        assert answer.status == 400, (method, path)
        assert answer.json["message"].startswith(("Invalid JSON: ", "Invalid payload: ", "Client error: parse error: "))
        assert len(answer.text) < 2000
    assert contents() == before


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        ("/cells", {}, "/state"),
        ("/cells", {"state": None}, "/state"),
        ("/cells", {"state": "asleep"}, "/state"),
        ("/cells", {"state": 5}, "/state"),
        ("/cells", {"state": "active", "stateTimestamp": ""}, "/stateTimestamp"),
        ("/cells", {"state": "active", "stateTimestamp": "2026-11-23 07:07:23Z"}, "/stateTimestamp"),
        ("/cells", {"state": "active", "stateTimestamp": "2026-11-23T07:07:23"}, "/stateTimestamp"),
        ("/cells", {"state": "active", "stateTimestamp": "2026-02-30T07:07:23Z"}, "/stateTimestamp"),
        ("/cells", {"state": "active", "stateTimestamp": "0001-01-01T00:00:00+01:00"}, "/stateTimestamp"),
        ("/cells", {"state": "active", "stateTimestamp": 1700000000}, "/stateTimestamp"),
        ("/cells", {"state": "active", "externalId": "ü" * 1001}, "/externalId"),
        ("/dataspace-profiles", {"artifacts": [1]}, "/artifacts/0"),
        (
            "/dataspace-profiles",
            {"dataspaceSpec": {"credentialSpecs": [{"id": 5}]}},
            "/dataspaceSpec/credentialSpecs/0/id",
        ),
        ("{profiles}", {}, "/identifier"),
        ("{profiles}", {"identifier": ""}, "/identifier"),
        ("{profiles}", {"identifier": " "}, "/identifier"),
        ("{profiles}", {"identifier": "x" * 2001}, "/identifier"),
        ("{profiles}", {"identifier": "a\0"}, "/identifier"),
        ("{profiles}", {"identifier": "x", "cellId": 5}, "/cellId"),
        ("{profiles}", {"identifier": "x", "dataspaceProfileIds": "x"}, "/dataspaceProfileIds"),
        ("{profiles}", {"identifier": "x", "participantRoles": {"a": "oem"}}, "/participantRoles/a"),
        ("{profiles}", {"identifier": "x", "vpaProperties": {"a": 1}}, "/vpaProperties/a"),
        ("{profiles}", {"identifier": "x", "properties": {"cfm.vpa.state": {}}}, "/properties"),
        ("/tenants/{tenant}", {"removed": "a"}, "/removed"),
        ("/tenants/{tenant}", {"removed": [1]}, "/removed/0"),
    ],
)
def test_what_is_wrong_is_pointed_at_and_changes_nothing(
    fabric: Fabric, path: str, body: Any, pointer: str, contents: Callable[[], list[str]]
) -> None:
    before = contents()
    method = "PATCH" if "{tenant}" in path else "POST"
    answer = fabric.api.request(method, path.format(profiles=fabric.profiles, tenant=fabric.tenant), body)
    assert answer.status == 400
    assert [error["pointer"] for error in answer.json["errors"]] == [pointer]
    assert contents() == before


def test_a_refusal_of_the_model_points_at_its_cause_and_changes_nothing(
    fabric: Fabric, contents: Callable[[], list[str]]
) -> None:
    before = contents()
    cases: list[tuple[dict[str, Any], str]] = [
        ({"dataspaceProfileIds": [fabric.dataspace, ABSENT]}, "/dataspaceProfileIds/1"),
        ({"participantRoles": {ABSENT: []}}, f"/participantRoles/{ABSENT}"),
        ({"cellId": ABSENT}, "/cellId"),
    ]
    for fields, pointer in cases:
        answer = fabric.api.post(fabric.profiles, {"identifier": "x"} | fields)
        assert (answer.status, answer.json["error"]) == (422, "Unprocessable Entity")
        assert [error["pointer"] for error in answer.json["errors"]] == [pointer]
    assert contents() == before


def test_a_body_that_is_too_large_is_refused(api: Api) -> None:
    answer = api.post("/tenants", {"properties": {"a": "x" * 1024 * 1024}})
    assert (answer.status, answer.json["code"]) == (413, 413)


def test_a_body_that_breaks_off_is_refused_even_where_it_is_whole_json(api: Api) -> None:
    create = ROUTER.match("POST", "/api/v1alpha1/tenants").function
    assert create is not None
    answer = client_of(create).post(
        "/api/v1alpha1/tenants",
        input_stream=io.BytesIO(b'{"properties": {}}'),
        environ_overrides={"wsgi.input_terminated": True, "CONTENT_LENGTH": "40"},
    )
    assert answer.status_code == 400
    assert "the body has 18 of the 40 bytes" in answer.text
    assert api.get("/tenants").json == []


def test_a_body_of_unannounced_length_is_limited_too(api: Api) -> None:
    create = ROUTER.match("POST", "/api/v1alpha1/tenants").function
    assert create is not None

    body = io.BytesIO(b'{"properties": {"a": "' + b"x" * 2 * 1024 * 1024)
    answer = client_of(create).post(
        "/api/v1alpha1/tenants",
        input_stream=body,
        headers={"Transfer-Encoding": "chunked"},
        environ_overrides={"wsgi.input_terminated": True, "CONTENT_LENGTH": ""},
    )
    assert answer.status_code == 413
    assert body.tell() < 1024 * 1024 + 2


def test_large_numbers_and_every_text_come_back_as_they_were(api: Api) -> None:
    properties = {"n": 12345678901234567890, "d": 0.1, "t": 'a"\\\n\u2028😀<&>', "": 1, "null": None}
    tenant = api.post("/tenants", {"properties": properties}).json["id"]
    assert api.get(f"/tenants/{tenant}").json["properties"] == properties


def test_a_duplicate_key_counts_as_its_last_value(api: Api) -> None:
    answer = api.request("POST", "/tenants", raw=b'{"properties": {"a": 1, "a": 2}}')
    assert answer.json["properties"] == {"a": 2}


@pytest.mark.parametrize("path", ["/health", "/livez", "/readyz"])
def test_health_needs_neither_token_nor_database(serve: Callable[[Settings], None], path: str) -> None:
    serve(Settings(database_url="postgresql://nobody@127.0.0.1:1/none", auth="off"))
    function = ROUTER.match("GET", path).function
    assert function is not None
    answer = client_of(function).get(path)
    assert (answer.status_code, json.loads(answer.get_data())) == (200, {"message": "OK"})


def test_a_database_that_does_not_answer_is_unavailable(serve: Callable[[Settings], None]) -> None:
    serve(Settings(database_url="postgresql://nobody@127.0.0.1:1/none", auth="off"))
    answer = Api().get(f"/tenants/{ABSENT}")
    assert (answer.status, answer.json["retryable"]) == (503, True)
    assert "Retry-After" in answer.headers


def test_the_same_functions_run_over_memory(serve: Callable[[Settings], None]) -> None:
    serve(Settings(store="memory", auth="off"))
    fabric = Fabric(Api())
    deployed = fabric.deploy()
    deliver("apply_orchestration_responses", [response_event(deployed, success=True)])
    assert {vpa["state"] for vpa in fabric.profile(deployed["id"])["vpas"]} == {"active"}
    assert fabric.api.get("/tenants").headers["X-Total-Count"] == "1"
