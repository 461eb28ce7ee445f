"""What every answer has, and what requests may look like."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator

import pytest

from cfm_core.assembly.telemetry import json_handler
from cfm_core.settings import Settings
from cfm_core.store.database import Database
from cfm_core.web.problems import PROBLEMS, Problem
from tests.integration.http.api import ABSENT, BASE, Api, Fabric, contents

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def logs() -> Iterator[io.StringIO]:
    """What is logged, as it is written."""
    handler = json_handler()
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(text := io.StringIO())
    logging.getLogger("cfm_core").addHandler(handler)
    yield text
    logging.getLogger("cfm_core").removeHandler(handler)


def test_a_field_that_nobody_knows_is_named_with_the_one_that_is_meant(api: Api) -> None:
    answer = api.post("/cells", {"state": "active", "externalIdd": "x", "zzz": 1})
    assert answer.status == 201
    assert answer.headers["Warning"] == (
        '299 - "there is no field /externalIdd; did you mean externalId?", 299 - "there is no field /zzz"'
    )
    assert "Warning" not in api.post("/cells", {"STATE": "active"}).headers


def test_in_strict_mode_a_field_that_nobody_knows_is_an_error(api: Api) -> None:
    for mode in ("Strict", "strict"):
        answer = api.post(f"/tenants?fieldValidation={mode}", {"propertys": {}})
        assert (answer.status, [one["pointer"] for one in answer.json["errors"]]) == (400, ["/propertys"])
    assert api.get("/tenants").text == "[]"
    assert api.post("/tenants?fieldValidation=Warn", {"propertys": {}}).status == 201


def test_names_of_fields_cannot_break_out_of_the_warning(api: Api) -> None:
    answer = api.post("/tenants", {'a"\r\nSet-Cookie: x=1\u2028é': 1, "y" * 5000: 1} | {f"f{n}": 1 for n in range(50)})
    assert answer.status == 201
    assert answer.headers["Warning"].isascii()
    assert answer.headers["Warning"].isprintable()
    assert len(answer.headers["Warning"]) < 2000


def test_a_collection_and_an_entity_may_be_asked_for_with_a_slash_behind(fabric: Fabric) -> None:
    for path in ("/tenants", fabric.tenant, "/cells", fabric.profiles):
        assert fabric.api.get(path + "/").text == fabric.api.get(path).text
        assert (fabric.api.get(path + "//").status, fabric.api.get(path + "//").text) == (404, "404 page not found\n")
    assert fabric.api.post("/tenants/query/", {"predicate": "true"}).status == 200


def test_head_has_the_headers_of_get_and_no_body(fabric: Fabric) -> None:
    for path in ("/tenants", fabric.tenant, "//health"):
        got, head = fabric.api.get(path), fabric.api.request("HEAD", path)
        assert (head.status, head.text) == (200, "")
        ignored = {"X-Request-Id"}
        assert {k: v for k, v in head.headers.items() if k not in ignored} == {
            k: v for k, v in got.headers.items() if k not in ignored
        }


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/tenants", "GET, HEAD, POST"),
        ("POST", f"/tenants/{ABSENT}", "DELETE, GET, HEAD, PATCH"),
        ("OPTIONS", "/cells", "GET, HEAD, POST"),
        ("DELETE", "/participant-profiles/query", "POST"),
        ("POST", "//health", "GET, HEAD"),
    ],
)
def test_a_method_that_a_path_does_not_answer_is_told_which_it_does(
    api: Api, method: str, path: str, allowed: str
) -> None:
    answer = api.request(method, path)
    assert (answer.status, answer.headers["Allow"], answer.text) == (405, allowed, "")


@pytest.mark.parametrize("path", ["/nothing", f"/tenants/{ABSENT}/nothing", "/tenants/a%0Ab", "/tenants/a%2Fb", "//"])
def test_a_path_that_nobody_knows_is_404_in_plain_text(api: Api, path: str) -> None:
    answer = api.get(path)
    assert (answer.status, answer.text) == (404, "404 page not found\n")
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/tenants", 200), ("GET", f"/tenants/{ABSENT}", 404), ("GET", "/nothing", 404), ("PUT", "/tenants", 405)],
)
def test_ids_of_request_and_trace_come_back(api: Api, method: str, path: str, status: int) -> None:
    answer = api.request(method, path, X_Request_Id="me:1.x-Y_2", traceparent=TRACE)
    assert answer.status == status
    assert (answer.headers["X-Request-Id"], answer.headers["traceparent"]) == ("me:1.x-Y_2", TRACE)
    if answer.headers.get("Content-Type") == "application/json" and status == 404:
        assert answer.json["requestId"] == "me:1.x-Y_2"
    for odd in ("", "a b", "x" * 129, 'a"', "é"):
        other = api.request(method, path, X_Request_Id=odd, traceparent=odd)
        assert len(other.headers["X-Request-Id"]) == 32
        assert "traceparent" not in other.headers


def test_ids_of_request_and_trace_are_in_every_line_of_the_log(
    serve: Callable[[Settings], None], logs: io.StringIO
) -> None:
    serve(Settings(database_url="postgresql://nobody@127.0.0.1:1/none", auth="off"))
    answer = Api().get(f"/tenants/{ABSENT}", X_Request_Id="mine", traceparent=TRACE)
    assert answer.status == 503
    lines = [json.loads(line) for line in logs.getvalue().splitlines()]
    assert lines
    assert {(line["request_id"], line["traceparent"]) for line in lines} == {("mine", TRACE)}


def test_every_answer_says_how_it_may_be_kept_and_read(fabric: Fabric) -> None:
    answers = [
        *(fabric.api.get(path) for path in ("/tenants", fabric.tenant, "/nothing", f"/cells/{ABSENT}", "//health")),
        fabric.api.put("/tenants", {}),
        fabric.api.post("/tenants", {}),
        fabric.api.get(fabric.tenant, if_none_match="*"),
    ]
    assert {answer.headers["X-Content-Type-Options"] for answer in answers} == {"nosniff"}
    assert {answer.headers["Cache-Control"] for answer in answers} == {"private, no-cache"}


def test_addresses_are_those_of_the_outermost_proxy(fabric: Fabric) -> None:
    proxied = {"X_Forwarded_Proto": "https", "X_Forwarded_Host": "cfm.example:8443, inner", "X_Forwarded_Prefix": "/a"}
    listed = fabric.api.get("/tenants?limit=1", **proxied)
    assert f'<https://cfm.example:8443/a{BASE}/tenants?offset=0&limit=1>; rel="first"' in listed.headers["Link"]
    created = fabric.api.post("/tenants", {}, **proxied)
    assert created.headers["Location"] == f"/a{BASE}/tenants/{created.json['id']}"
    missing = fabric.api.get(f"/tenants/{ABSENT}", **proxied).json
    assert (missing["type"], missing["instance"]) == ("/a/problems/not-found", f"/a{BASE}/tenants/{ABSENT}")


@pytest.mark.parametrize("value", ["a b", '"', "<x>", "é", "a,", "", "//x", "javascript:"])
def test_nothing_that_a_proxy_says_breaks_an_address(fabric: Fabric, value: str) -> None:
    answer = fabric.api.get("/tenants", X_Forwarded_Host=value, X_Forwarded_Prefix=value, X_Forwarded_Proto=value)
    assert answer.status == 200
    for link in answer.headers["Link"].split(", "):
        assert link.startswith((f"<http://localhost{BASE}/tenants?", f"<http://a{BASE}/tenants?"))


@pytest.mark.parametrize(
    "odd", ["%0D%0ASet-Cookie:x=1", "%0D", "%3E%3B%20rel=next", "%22", "%E2%82%AC", "a%20b", "%00"]
)
def test_nothing_in_a_request_breaks_out_of_a_header(fabric: Fabric, odd: str, database: Database) -> None:
    before = contents(database)
    for answer in (
        fabric.api.get(f"/tenants/{odd}/participant-profiles"),
        fabric.api.get(f"/tenants?x={odd}&{odd}=x&limit=1"),
        fabric.api.get(f"/tenants/{odd}"),
        fabric.api.put(f"/cells/{odd}", {"state": "active"}),
        fabric.api.get(f"//problems/{odd}"),
        fabric.api.get(f"/tenants?q={odd}"),
        fabric.api.get(f"/tenants?after={odd}"),
    ):
        assert answer.status < 500
        for name, value in answer.headers.items():
            assert name.lower() != "set-cookie"
            assert value.isascii()
            assert value.isprintable()
            assert "<" not in value[1:] or value.count("<") == value.count(">") == value.count('rel="')
    assert contents(database) == before


def test_a_problem_is_told_as_the_caller_wants_it(api: Api) -> None:
    plain, problem = (api.get(f"/tenants/{ABSENT}", accept=media) for media in ("*/*", "application/problem+json"))
    assert plain.headers["Content-Type"] == "application/json"
    assert problem.headers["Content-Type"] == "application/problem+json"
    expected = {
        "type": "/problems/not-found",
        "title": "Not Found",
        "status": 404,
        "instance": f"{BASE}/tenants/{ABSENT}",
        "retryable": False,
        "error": "Not Found",
        "code": 404,
    }
    for answer in (plain, problem):
        document = answer.json
        assert document.pop("requestId") == answer.headers["X-Request-Id"]
        assert document.pop("detail") == document.pop("message") == f"Not found: no tenant '{ABSENT}'"
        assert document == expected


@pytest.mark.parametrize("kind", PROBLEMS, ids=lambda kind: kind.name)
def test_the_type_of_a_problem_can_be_looked_up(api: Api, kind: Problem) -> None:
    name = kind.name
    told = api.get(f"//problems/{name}")
    assert (told.status, told.json["name"]) == (200, name)
    page = api.get(f"//problems/{name}", accept="text/html,*/*")
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert told.json["title"] in page.text


def test_an_unknown_type_of_problem_is_a_problem(api: Api) -> None:
    assert api.get("//problems/none").json["type"] == "/problems/not-found"


def test_the_page_about_the_api_needs_nothing_from_elsewhere(api: Api) -> None:
    page = api.get("//docs", X_Forwarded_Prefix="/a")
    assert page.status == 200
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    addresses = [part.split('"')[0] for part in page.text.replace('src="', 'href="').split('href="')[1:]]
    assert len(addresses) == 5
    for address in addresses:
        assert address.startswith("/a/docs/")
        answer = api.get("/" + address.removeprefix("/a"))
        assert (answer.status, answer.headers["Cache-Control"]) == (200, "public, max-age=86400")
    for absent in ("nothing", "..", "swagger-ui.js", "%2e%2e%2fVERSION"):
        assert api.get(f"//docs/{absent}").status == 404


def test_the_document_and_its_page_need_no_token(serve: Callable[[Settings], None]) -> None:
    serve(Settings(auth_issuer="https://i", auth_audience="a", auth_jwks_url="https://i/keys"))
    for path in ("//openapi.json", "//docs", "//docs/start.js", "//problems/conflict"):
        assert Api().get(path).status == 200
    assert Api().get("/nothing").status == 401
