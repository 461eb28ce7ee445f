"""Every declared function, and everything that is not declared: who is let in, and who is not."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from urllib.parse import quote

import flask
import pytest
from werkzeug.test import Client, TestResponse

import functions
from cfm_core.declaration import EventFunction, HttpFunction, discover
from cfm_core.web.auth import ALL_SCOPES
from local.server import INTERNAL, FunctionApps
from tests.integration.http.api import BASE, FUNCTIONS, GATEWAY, Fabric
from tests.support.tokens import Issuer

DECLARED = discover(functions)
HTTP = [one for one in DECLARED if isinstance(one, HttpFunction)]
GUARDED = [one for one in HTTP if one.scope is not None]
OPEN = [one for one in HTTP if one.scope is None]
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")

APPS = FunctionApps()


def asked(how: str, function: HttpFunction, method: str, path: str, token: str = "") -> TestResponse:
    """The answer of the gateway, or of the function served alone."""
    app = GATEWAY if how == "gateway" else APPS.of(function)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return Client(app).open(path, method=method, headers=headers, data=b"{" if method in {"POST", "PATCH"} else b"")


def name_of(function: HttpFunction) -> str:
    return function.name


both_ways = pytest.mark.parametrize("how", ["gateway", "alone"])
each_guarded = pytest.mark.parametrize("function", GUARDED, ids=name_of)


def test_the_gateway_knows_all_that_is_declared() -> None:
    assert {one.name for one in FUNCTIONS} == {one.name for one in HTTP}


@both_ways
@each_guarded
def test_nobody_is_let_in_without_a_token(shared_fabric: Fabric, function: HttpFunction, how: str) -> None:
    for method in function.methods:
        refused = asked(how, function, method, shared_fabric.fill(function.path))
        assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, 'Bearer realm="cfm"')
        if method != "HEAD":
            document = refused.get_json()
            assert (document["error"], document["message"]) == ("Unauthorized", "a bearer token is required")


@both_ways
@each_guarded
def test_nobody_is_let_in_with_all_scopes_but_the_right_one(
    shared_fabric: Fabric, shared_issuer: Issuer, function: HttpFunction, how: str
) -> None:
    token = shared_issuer.token(*(scope for scope in ALL_SCOPES if scope != function.scope), f"{function.scope}s", "*")
    message = f"Access not granted: required scope '{function.scope}' not present"
    for method in function.methods:
        refused = asked(how, function, method, shared_fabric.fill(function.path), token)
        assert refused.status_code == 403
        assert refused.headers["WWW-Authenticate"] == (
            f'Bearer realm="cfm", error="insufficient_scope", error_description="{message}", scope="{function.scope}"'
        )
        if method != "HEAD":
            document = refused.get_json()
            assert (document["error"], document["message"], document["code"]) == ("Forbidden", message, 403)


@both_ways
@each_guarded
def test_the_right_scope_alone_lets_in(
    shared_fabric: Fabric, shared_issuer: Issuer, function: HttpFunction, how: str
) -> None:
    assert function.scope is not None
    token = shared_issuer.token(function.scope)
    for method in function.methods:
        answer = asked(how, function, method, shared_fabric.fill(function.path), token)
        assert answer.status_code not in {401, 403}, answer.text
        assert answer.status_code < 500, answer.text
        assert "WWW-Authenticate" not in answer.headers


@both_ways
@pytest.mark.parametrize("function", OPEN, ids=name_of)
def test_what_needs_no_scope_does_not_look_at_tokens(
    shared_fabric: Fabric, shared_issuer: Issuer, function: HttpFunction, how: str
) -> None:
    path = shared_fabric.fill(function.path)
    statuses = {asked(how, function, function.method, path, token).status_code for token in ("", "x", "a.b.c")}
    assert len(statuses) == 1
    assert 401 not in statuses


@each_guarded
def test_no_other_spelling_of_a_path_lets_in(shared_fabric: Fabric, function: HttpFunction) -> None:
    path = shared_fabric.fill(function.path)
    last = path.rpartition("/")[2]
    others = {
        *(path + "/", path + "//", path + "/.", path + "/x", path + "%2f", path + "%00", path + ";a=b", path + "?a=b"),
        *("/" + path, "/." + path, "/x/.." + path, path.upper(), path.replace("/", "//"), path.replace("/", "%2F")),
        path.removesuffix(last) + "".join(f"%{ord(letter):02x}" for letter in last),
        path.replace("v1alpha1", "v1"),
    }
    for other in others:
        for method in (function.method, "OPTIONS"):
            answer = Client(GATEWAY).open(other, method=method)
            assert answer.status_code in {401, 404}, (method, other, answer.status_code)
            assert not answer.text or shared_fabric.ids["tenants"] not in re.sub(r'"instance":"[^"]*"', "", answer.text)


@pytest.mark.parametrize("path", sorted({one.path for one in HTTP}))
def test_no_method_is_answered_that_is_not_declared(shared_fabric: Fabric, shared_issuer: Issuer, path: str) -> None:
    concrete, token = shared_fabric.fill(path), shared_issuer.token()
    # A word of the API can also be somebody's id.
    declared = {method for one in HTTP if one.match(concrete) is not None for method in one.methods}
    for method in {*METHODS} - declared:
        headers = {"Authorization": f"Bearer {token}"}
        assert Client(GATEWAY).open(concrete, method=method, headers=headers).status_code == 405
        expected = 401 if path.startswith(BASE + "/") else 405
        assert Client(GATEWAY).open(concrete, method=method).status_code == expected


@functools.cache
def undeclared_paths() -> frozenset[str]:
    """Paths that are declared for no HTTP function."""
    return frozenset(other_paths()) - {one.path for one in HTTP}


def other_paths() -> Iterator[str]:
    """What the frameworks serve besides, where event functions are in their own processes, and what others look for."""
    for function in HTTP:
        app = APPS.of(function)
        while not isinstance(app, flask.Flask):
            app = app.app  # type: ignore[attr-defined]
        for rule in app.url_map.iter_rules():
            yield re.sub(r"<[^>]*>", "x", rule.rule)
    for event_function in DECLARED:
        if isinstance(event_function, EventFunction):
            yield f"/{event_function.name}"
    yield from (INTERNAL, "/", BASE, BASE + "/", "/metrics", "/debug", "/.git/config", "/static/", "/api", "/console")


def test_nothing_is_reachable_that_is_not_declared(shared_api: object, shared_issuer: Issuer) -> None:
    token = shared_issuer.token()
    assert {"/static/x", "/robots.txt", "/start_orchestrations"} <= undeclared_paths()
    for path in undeclared_paths():
        for method in METHODS:
            bare = Client(GATEWAY).open(quote(path), method=method)
            assert bare.status_code == (401 if f"{path}/".startswith(BASE + "/") else 404), (method, path)
            bearing = Client(GATEWAY).open(quote(path), method=method, headers={"Authorization": f"Bearer {token}"})
            assert bearing.status_code == 404, (method, path)


@pytest.mark.parametrize("function", HTTP, ids=name_of)
def test_a_function_alone_serves_its_path_and_no_other(
    shared_api: object, shared_issuer: Issuer, function: HttpFunction
) -> None:
    token = shared_issuer.token()
    for path in undeclared_paths():
        answer = asked("alone", function, "GET", quote(path), token)
        assert answer.status_code == 404, path
