"""Issuers that are asked over HTTP for their keys."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from cfm_core.errors import InvalidTokenError, RecoverableError
from cfm_core.settings import Settings
from cfm_core.web.auth import TM_READ, TM_WRITE
from cfm_core.web.key_sets import FRESH_SECONDS, LARGEST, PAUSE_SECONDS, source_of
from cfm_core.web.tokens import JwtAuthenticator, TrustedIssuer
from local.servers.process import free_port
from tests.integration.http.api import Api
from tests.support.tokens import AUDIENCE, Issuer, jwk_of, key_set, new_key

CONFIGURATION = "/.well-known/openid-configuration"


class Provider:
    """An identity provider: what it answers at each path, and what it was asked."""

    def __init__(self) -> None:
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.asked.append(self.path)
                answer = provider.answers.get(self.path)
                if answer is None:
                    self.send_error(404)
                elif callable(answer):
                    answer(self)
                else:
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(answer)))
                    self.end_headers()
                    self.wfile.write(answer)

            def log_message(self, format: str, *args: Any) -> None:
                return

        self.asked: list[str] = []
        self.answers: dict[str, bytes | Callable[[BaseHTTPRequestHandler], None]] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def publishes(self, issuer: Issuer, path: str = "/keys") -> None:
        """Let the issuer's keys be at ``path``, and its configuration say so."""
        self.answers = {
            CONFIGURATION: json.dumps({"issuer": issuer.name, "jwks_uri": self.url + path}).encode(),
            path: issuer.file.read_bytes(),
        }

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def provider() -> Iterator[Provider]:
    provider = Provider()
    yield provider
    provider.close()


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def accepts(authenticator: JwtAuthenticator, token: str) -> bool:
    try:
        return authenticator.authenticate(f"Bearer {token}").subject == "tester"
    except InvalidTokenError:
        return False


@pytest.mark.parametrize("slash", ["", "/"])
def test_an_issuer_says_where_its_keys_are_once(tmp_path: Path, provider: Provider, slash: str) -> None:
    issuer, clock = Issuer(tmp_path, provider.url + slash, "RS256"), Clock()
    provider.publishes(issuer)
    authenticator = JwtAuthenticator([TrustedIssuer(issuer=issuer.name, audience=AUDIENCE)], clock=clock)
    assert provider.asked == []
    assert accepts(authenticator, issuer.token())
    assert provider.asked == [CONFIGURATION, "/keys"]
    clock.now += FRESH_SECONDS
    assert accepts(authenticator, issuer.token(TM_READ))
    assert provider.asked == [CONFIGURATION, "/keys", "/keys"]


def test_an_issuer_may_move_its_keys(tmp_path: Path, provider: Provider) -> None:
    issuer, clock = Issuer(tmp_path, provider.url), Clock()
    provider.publishes(issuer)
    authenticator = JwtAuthenticator([TrustedIssuer(issuer=issuer.name, audience=AUDIENCE)], clock=clock)
    assert accepts(authenticator, issuer.token())
    issuer.key, issuer.key_id = new_key(), "2"
    issuer.publish(jwk_of(issuer.key, "2", "EdDSA"))
    provider.publishes(issuer, "/elsewhere")
    clock.now += PAUSE_SECONDS
    with pytest.raises(RecoverableError):
        accepts(authenticator, issuer.token())
    clock.now += PAUSE_SECONDS
    assert accepts(authenticator, issuer.token())
    assert provider.asked[2:] == ["/keys", CONFIGURATION, "/elsewhere"]


def test_a_new_key_is_fetched_when_a_token_names_it(tmp_path: Path, provider: Provider) -> None:
    issuer, clock = Issuer(tmp_path), Clock()
    provider.publishes(issuer)
    trusted = TrustedIssuer(issuer=issuer.name, audience=AUDIENCE, jwks_url=f"{provider.url}/keys")
    authenticator = JwtAuthenticator([trusted], clock=clock)
    old = issuer.token()
    assert accepts(authenticator, old)
    issuer.key, issuer.key_id, first = new_key(), "2", jwk_of(issuer.key, "1", "EdDSA")
    provider.answers["/keys"] = key_set(first, jwk_of(issuer.key, "2", "EdDSA"))
    clock.now += PAUSE_SECONDS
    assert accepts(authenticator, issuer.token())
    assert accepts(authenticator, old)
    for number in range(20):
        assert not accepts(authenticator, issuer.token(headers={"kid": f"forged-{number}"}))
    assert provider.asked == ["/keys", "/keys"]


def test_an_outage_is_not_noticed_by_those_with_good_tokens(tmp_path: Path) -> None:
    issuer, clock, provider = Issuer(tmp_path), Clock(), Provider()
    try:
        provider.publishes(issuer)
        trusted = TrustedIssuer(issuer=issuer.name, audience=AUDIENCE, jwks_url=f"{provider.url}/keys")
        authenticator = JwtAuthenticator([trusted], clock=clock)
        assert accepts(authenticator, issuer.token())
    finally:
        provider.close()
    for _ in range(5):
        clock.now += FRESH_SECONDS
        assert accepts(authenticator, issuer.token())
        assert not accepts(authenticator, issuer.token(key=new_key()))


def no_keys(source: Callable[[], bytes]) -> str:
    """Why there are none."""
    with pytest.raises((OSError, ValueError)) as caught:
        source()
    return str(caught.value)


def test_no_redirect_is_followed(provider: Provider) -> None:
    def redirect(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", f"{provider.url}/others")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    provider.answers = {"/keys": redirect, "/others": b'{"keys": []}', CONFIGURATION: redirect}
    assert "302" in no_keys(source_of("x", f"{provider.url}/keys"))
    assert "302" in no_keys(source_of(provider.url, ""))
    assert provider.asked == ["/keys", CONFIGURATION]


def test_no_file_is_read_because_an_issuer_says_so(tmp_path: Path, provider: Provider) -> None:
    issuer = Issuer(tmp_path, provider.url)
    said = {"issuer": provider.url, "jwks_uri": issuer.file.as_uri()}
    provider.answers = {CONFIGURATION: json.dumps(said).encode()}
    assert "is no http: or https: address" in no_keys(source_of(provider.url, ""))


def test_no_more_is_read_than_keys_can_take(tmp_path: Path, provider: Provider) -> None:
    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        with pytest.raises(OSError):
            while True:
                handler.wfile.write(b" " * 65536)

    provider.answers = {"/keys": endless}
    assert f"larger than {LARGEST} bytes" in no_keys(source_of("x", f"{provider.url}/keys"))
    large = tmp_path / "jwks.json"
    large.write_bytes(b" " * (LARGEST + 1))
    assert f"larger than {LARGEST} bytes" in no_keys(source_of("x", large.as_uri()))


def test_an_issuer_that_does_not_answer_is_not_waited_for(provider: Provider) -> None:
    ended = threading.Event()

    def silently(_: BaseHTTPRequestHandler) -> None:
        ended.wait(10)

    provider.answers = {"/keys": silently}
    try:
        assert "timed out" in no_keys(source_of("x", f"{provider.url}/keys", timeout=0.2))
    finally:
        ended.set()


def test_an_issuer_that_answers_too_slowly_is_not_waited_for(provider: Provider) -> None:
    ended = threading.Event()

    def slowly(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        # Each byte comes well within the time that there is for all of them.
        for _ in range(300):
            if not ended.wait(0.01):
                handler.wfile.write(b" ")

    provider.answers = {"/keys": slowly}
    try:
        no_keys(source_of("x", f"{provider.url}/keys", timeout=1.0))
    finally:
        ended.set()


@pytest.mark.parametrize("answer", [b"", b"<html>", b"{}", b'{"keys": {}}'])
def test_what_is_no_key_set_is_the_issuers_fault(tmp_path: Path, provider: Provider, answer: bytes) -> None:
    issuer = Issuer(tmp_path)
    provider.answers = {"/keys": answer}
    trusted = TrustedIssuer(issuer=issuer.name, audience=AUDIENCE, jwks_url=f"{provider.url}/keys")
    with pytest.raises(RecoverableError):
        accepts(JwtAuthenticator([trusted]), issuer.token())


# Through the API


@pytest.fixture
def issuers(
    tmp_path: Path, provider: Provider, serve: Callable[[Settings], None], database_url: str
) -> tuple[Issuer, Issuer]:
    """One whose keys are a file, and one that says where they are; the other has an audience claim of its own."""
    first, second = Issuer(tmp_path), Issuer(tmp_path, provider.url, "ES256")
    provider.publishes(second)
    more = [{"issuer": second.name, "audience": "console", "audienceClaim": "azp"}]
    environ = {**first.environ, "CFM_AUTH_ISSUERS": json.dumps(more), "CFM_DATABASE_URL": database_url}
    serve(Settings.from_environ(environ))
    return first, second


def bearing(token: str) -> Api:
    return Api({"Authorization": f"Bearer {token}"})


def test_the_api_takes_tokens_of_each_issuer_for_the_audience_that_it_has(issuers: tuple[Issuer, Issuer]) -> None:
    first, second = issuers
    assert bearing(first.token(TM_READ)).get("/tenants").status == 200
    assert bearing(second.token(TM_READ, claims={"azp": "console", "aud": None})).get("/tenants").status == 200
    refused = bearing(second.token(TM_READ)).get("/tenants")
    assert (refused.status, refused.json["message"]) == (401, "the token has no claim azp")
    assert refused.headers["WWW-Authenticate"] == (
        'Bearer realm="cfm", error="invalid_token", error_description="the token has no claim azp"'
    )


def test_users_of_two_issuers_are_two_even_if_they_are_named_alike(issuers: tuple[Issuer, Issuer]) -> None:
    first, second = issuers
    made = [
        bearing(token).post("/tenants", {}, idempotency_key="k")
        for token in (first.token(TM_WRITE), second.token(TM_WRITE, claims={"azp": "console"})) * 2
    ]
    assert [one.status for one in made] == [201] * 4
    assert [one.headers.get("Idempotency-Replayed") for one in made] == [None, None, "true", "true"]
    ids = [one.json["id"] for one in made]
    assert ids[0] != ids[1]
    assert ids[:2] == ids[2:]


def test_keys_that_cannot_be_fetched_are_answered_with_when_to_come_again(
    tmp_path: Path, serve: Callable[[Settings], None], database_url: str
) -> None:
    issuer = Issuer(tmp_path, f"http://127.0.0.1:{free_port()}")
    environ = issuer.environ | {"CFM_AUTH_JWKS_URL": "", "CFM_DATABASE_URL": database_url}
    serve(Settings.from_environ(environ))
    for _ in range(2):
        answer = bearing(issuer.token()).get("/tenants")
        assert (answer.status, answer.headers["Retry-After"]) == (503, "10")
        assert answer.json["message"] == "the issuer's keys cannot be fetched now"
        assert "127.0.0.1" not in answer.text
    assert Api().get("/tenants").status == 401
