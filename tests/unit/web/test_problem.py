from __future__ import annotations

import flask
import pytest
from werkzeug.test import EnvironBuilder

from cfm_core.errors import (
    CfmError,
    ConflictError,
    FatalError,
    FieldError,
    ForbiddenError,
    InvalidTokenError,
    NotFoundError,
    PreconditionFailedError,
    RecoverableError,
    RefusedError,
    TooLargeError,
    UnauthorizedError,
    ValidationError,
)
from cfm_core.web.problem import ProblemDocument, problem
from cfm_core.web.problems import PROBLEMS


def told(error: CfmError) -> flask.Response:
    return problem(error, flask.Request(EnvironBuilder(path="/a/ü").get_environ()), "r-1")


def test_a_problem_has_the_fields_that_are_documented() -> None:
    document = told(ValidationError("no", [FieldError("/a", "b")])).get_json()
    assert list(document) == [field.alias for field in ProblemDocument.model_fields.values()]
    assert document == {
        "type": "/problems/bad-request",
        "title": "Bad Request",
        "status": 400,
        "detail": "no",
        "instance": "/a/%C3%BC",
        "retryable": False,
        "requestId": "r-1",
        "error": "Bad Request",
        "message": "no",
        "code": 400,
        "errors": [{"pointer": "/a", "detail": "b"}],
    }
    ProblemDocument.model_validate(document)


@pytest.mark.parametrize(
    ("error", "name", "headers"),
    [
        (UnauthorizedError("x"), "unauthorized", {"WWW-Authenticate": 'Bearer realm="cfm"'}),
        (
            *(InvalidTokenError("x has expired"), "unauthorized"),
            {"WWW-Authenticate": 'Bearer realm="cfm", error="invalid_token", error_description="x has expired"'},
        ),
        (
            *(ForbiddenError("no 'a:b'", "a:b"), "forbidden"),
            {
                "WWW-Authenticate": 'Bearer realm="cfm", error="insufficient_scope", '
                'error_description="no \'a:b\'", scope="a:b"'
            },
        ),
        (
            *(ForbiddenError("not yours"), "forbidden"),
            {"WWW-Authenticate": 'Bearer realm="cfm", error="insufficient_scope", error_description="not yours"'},
        ),
        (NotFoundError("thing", "x"), "not-found", {}),
        (ConflictError("x"), "conflict", {}),
        (ConflictError("x", {"retryable": True}), "conflict", {"Retry-After": "1"}),
        (PreconditionFailedError("x"), "precondition-failed", {}),
        (TooLargeError("x"), "content-too-large", {}),
        (RefusedError("x"), "unprocessable-content", {}),
        (RecoverableError("x"), "service-unavailable", {"Retry-After": "1"}),
        (RecoverableError("x", 2.1), "service-unavailable", {"Retry-After": "3"}),
        (FatalError("x"), "internal-server-error", {}),
    ],
)
def test_each_error_has_its_kind_of_problem(error: CfmError, name: str, headers: dict[str, str]) -> None:
    response = told(error)
    document = response.get_json()
    assert (document["type"], document["code"]) == (f"/problems/{name}", error.status)
    assert document["retryable"] == ("Retry-After" in headers)
    wanted = ("WWW-Authenticate", "Retry-After")
    assert {key: value for key, value in response.headers.items() if key in wanted} == headers


def test_a_challenge_holds_nothing_that_ends_it() -> None:
    challenge = told(
        InvalidTokenError(
            'a"b\\c\r\nSet-Cookie: ü',
        )
    ).headers["WWW-Authenticate"]
    assert challenge == 'Bearer realm="cfm", error="invalid_token", error_description="abcSet-Cookie: "'


def test_a_conflict_tells_what_it_is_about() -> None:
    document = told(ConflictError("in use", {"usedBy": [{"kind": "cell", "id": "c"}]})).get_json()
    assert document["usedBy"] == [{"kind": "cell", "id": "c"}]


def test_nothing_internal_is_told() -> None:
    response = told(FatalError("SELECT * FROM secrets"))
    assert "SELECT" not in response.get_data(as_text=True)
    assert response.get_json()["message"] == "Internal server error occurred [r-1]"


def test_little_of_a_long_request_is_repeated() -> None:
    long = "x" * 1_000_000
    response = told(ValidationError(long, [FieldError(long, long)] * 1000))
    assert len(response.get_json()["errors"]) == 20
    assert len(response.get_data()) < 100_000


def test_every_kind_of_problem_has_a_name_and_a_status_of_its_own() -> None:
    assert len({kind.name for kind in PROBLEMS}) == len({kind.status for kind in PROBLEMS}) == len(PROBLEMS)
    for error in CfmError.__subclasses__():
        for known in (error, *error.__subclasses__()):
            if known.__module__ == "cfm_core.errors":
                assert any(kind.status == known.status for kind in PROBLEMS), known
