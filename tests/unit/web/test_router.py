from __future__ import annotations

from pathlib import Path

import flask
import pytest

from cfm_core.declaration import HttpFunction
from cfm_core.errors import FatalError
from cfm_core.function import http_function
from cfm_core.web.router import Match, Router


def function(method: str, path: str) -> HttpFunction:
    def handler(request: flask.Request) -> flask.Response:
        return flask.Response()

    handler.__name__ = f"{method}_{path}".lower()
    declaration = http_function(method, path, scope=None)(handler).declaration
    assert isinstance(declaration, HttpFunction)
    return declaration


LIST = function("GET", "/api/things")
CREATE = function("POST", "/api/things")
QUERY = function("POST", "/api/things/query")
READ = function("GET", "/api/things/{thing_id}")
DELETE = function("DELETE", "/api/things/{thing_id}")
PARTS = function("GET", "/api/things/{thing_id}/parts/{part_id}")
ROUTER = Router([LIST, CREATE, QUERY, READ, DELETE, PARTS])


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/api/things", Match(LIST, {})),
        ("GET", "/api/things/", Match(LIST, {})),
        ("HEAD", "/api/things", Match(LIST, {})),
        ("POST", "/api/things", Match(CREATE, {})),
        ("POST", "/api/things/query", Match(QUERY, {})),
        ("GET", "/api/things/7", Match(READ, {"thing_id": "7"})),
        ("DELETE", "/api/things/a.b:c/", Match(DELETE, {"thing_id": "a.b:c"})),
        ("GET", "/api/things/7/parts/8", Match(PARTS, {"thing_id": "7", "part_id": "8"})),
        ("PUT", "/api/things", Match(None, {}, ("GET", "HEAD", "POST"))),
        ("POST", "/api/things/7", Match(None, {}, ("DELETE", "GET", "HEAD"))),
        ("GET", "/api/things/query", Match(READ, {"thing_id": "query"})),
        ("PUT", "/api/things/query", Match(None, {}, ("DELETE", "GET", "HEAD", "POST"))),
        ("GET", "/api/other", Match(None, {})),
        ("GET", "/api/things/7/parts", Match(None, {})),
    ],
)
def test_a_request_finds_its_function(method: str, path: str, expected: Match) -> None:
    assert ROUTER.match(method, path) == expected


def test_two_functions_for_one_route_are_refused() -> None:
    with pytest.raises(FatalError, match="both answer GET /api/things"):
        Router([LIST, function("GET", "/api/things")])


def test_two_functions_for_one_pattern_are_refused_whatever_the_variables_are_called() -> None:
    with pytest.raises(FatalError, match="both answer"):
        Router([READ, function("GET", "/api/things/{id}")])


def test_a_function_knows_the_file_it_is_declared_in() -> None:
    assert LIST.source == Path(__file__).resolve()
