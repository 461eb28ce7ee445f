"""The token exchange's memory, and what it makes of refusals."""

from __future__ import annotations

from urllib.parse import parse_qs

import httpx2
import pytest

from cfm_core.clients.http import HttpClient
from cfm_core.clients.jwtlet import MOST_REMEMBERED, NoTokenError, TokenExchange
from cfm_core.errors import FatalError, RecoverableError


class Exchange:
    """Counts its answers, and has a clock of its own."""

    def __init__(self, status: int = 200, body: object = None, lifetime: object = 100) -> None:
        self.status, self.body, self.lifetime = status, body, lifetime
        self.forms: list[dict[str, list[str]]] = []
        self.now = 0.0
        self.subject = "subject-1"
        http = HttpClient(transport=httpx2.MockTransport(self._answer))
        self.tokens = TokenExchange(http, "http://jwtlet", lambda: self.subject, clock=lambda: self.now)

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        self.forms.append(parse_qs(request.content.decode()))
        if self.body is not None or self.status != 200:
            return httpx2.Response(self.status, json=self.body)
        return httpx2.Response(200, json={"access_token": f"token-{len(self.forms)}", "expires_in": self.lifetime})


def test_a_token_is_asked_for_as_the_contract_says() -> None:
    exchange = Exchange()
    assert exchange.tokens.token("pc", ["b", "a"]) == "token-1"
    assert exchange.forms == [
        {
            "grant_type": ["urn:ietf:params:oauth:grant-type:token-exchange"],
            "subject_token": ["subject-1"],
            "subject_token_type": ["urn:ietf:params:oauth:token-type:jwt"],
            "resource": ["pc"],
            "scope": ["a b"],
            "audience": ["edcv"],
        }
    ]


def test_a_token_is_used_for_four_fifths_of_its_life() -> None:
    exchange = Exchange()
    exchange.tokens.token("pc", ["a"])
    exchange.now = 79.9
    assert exchange.tokens.token("pc", ["a"]) == "token-1"
    exchange.now = 80
    assert exchange.tokens.token("pc", ["a"]) == "token-2"


def test_tokens_differ_by_resource_and_scopes_but_not_by_their_order() -> None:
    exchange = Exchange()
    asked = [("pc", ["a", "b"]), ("pc", ["b", "a"]), ("pc", ["a"]), ("other", ["a", "b"])]
    assert [exchange.tokens.token(*one) for one in asked] == ["token-1", "token-1", "token-2", "token-3"]


def test_a_forgotten_token_is_asked_for_anew_with_the_subject_token_of_the_day() -> None:
    exchange = Exchange()
    exchange.tokens.token("pc", ["a"])
    exchange.subject = "subject-2"
    exchange.tokens.forget("pc", ["a"])
    assert exchange.tokens.token("pc", ["a"]) == "token-2"
    assert exchange.forms[1]["subject_token"] == ["subject-2"]


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (403, {"error": "unauthorized_client"}, NoTokenError),
        (400, {"error": "invalid_grant"}, RecoverableError),
        (400, {"error": "invalid_scope"}, FatalError),
        (422, "missing field", FatalError),
        (500, {"error": "server_error"}, RecoverableError),
        (200, {"access_token": ""}, FatalError),
        (200, {"access_token": "t", "expires_in": "x"}, FatalError),
        (200, [], FatalError),
    ],
)
def test_a_refusal_has_its_class(status: int, body: object, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        Exchange(status, body).tokens.token("pc", ["a"])
    assert type(caught.value) is error
    assert "subject-1" not in str(caught.value)


def test_a_refusal_says_what_was_asked_for() -> None:
    with pytest.raises(
        NoTokenError, match="no token for 'pc' with scope 'a b' and audience 'edcv': unauthorized_client"
    ):
        Exchange(403, {"error": "unauthorized_client"}).tokens.token("pc", ["a", "b"])


def test_the_memory_is_bounded_and_gives_up_the_oldest_tokens() -> None:
    exchange = Exchange()
    for number in range(MOST_REMEMBERED):
        exchange.tokens.token(f"pc-{number}", ["a"])
    exchange.tokens.forget("pc-0", ["a"])
    exchange.tokens.token("pc-0", ["a"])  # is now the newest
    asked = len(exchange.forms)
    exchange.tokens.token("one more", ["a"])
    for remembered in ("pc-0", "pc-2", "one more"):
        exchange.tokens.token(remembered, ["a"])
    assert len(exchange.forms) == asked + 1
    exchange.tokens.token("pc-1", ["a"])
    assert len(exchange.forms) == asked + 2
