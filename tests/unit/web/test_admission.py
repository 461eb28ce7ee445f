"""Whom the limits of the edge count, and what a subject is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import flask
import pytest
from werkzeug.test import EnvironBuilder

from cfm_core.errors import ForbiddenError, InvalidTokenError, TooManyRequestsError, UnauthorizedError
from cfm_core.web.admission import INTERNAL, Limits
from cfm_core.web.auth import Principal
from cfm_core.web.rates import Buckets


class Doorman:
    """Accepts tokens that begin with ``good``, and remembers them; counts how many signatures it has checked."""

    def __init__(self) -> None:
        self.checked = 0
        self._known: set[str] = set()

    def authenticate(self, authorization: str | None) -> Principal:
        if authorization is None:
            raise UnauthorizedError("a bearer token is required")
        self.checked += 1
        if not authorization.startswith("good"):
            raise InvalidTokenError("bad")
        self._known.add(authorization)
        return self.remembered(authorization) or Principal("", None)

    def remembered(self, authorization: str | None) -> Principal | None:
        if authorization not in self._known:
            return None
        return Principal(authorization.removeprefix("good "), frozenset(), "issuer")


def limits(subjects: int = 3, strangers: int = 3, proxies: int = 0) -> Limits:
    clock = SimpleNamespace(now=0.0)

    def buckets(name: str, burst: int) -> Buckets:
        return Buckets(name, 0.001, burst, clock=lambda: clock.now)

    return Limits(buckets("subject", subjects), buckets("stranger", strangers), proxies)


def request(address: str = "192.0.2.1", authorization: str | None = None, **environ: Any) -> flask.Request:
    made = EnvironBuilder(path="/", environ_overrides={"REMOTE_ADDR": address, **environ}).get_environ()
    return flask.Request(made | ({} if authorization is None else {"HTTP_AUTHORIZATION": authorization}))


def test_a_subject_is_counted_wherever_it_comes_from() -> None:
    limited, doorman = limits(), Doorman()
    for number in range(3):
        limited.authenticated(request(f"192.0.2.{number}", "good ann"), doorman)
    with pytest.raises(TooManyRequestsError):
        limited.authenticated(request("192.0.2.9", "good ann"), doorman)
    assert limited.authenticated(request("192.0.2.9", "good bob"), doorman).subject == "bob"


@pytest.mark.parametrize("authorization", [None, "bad"])
def test_an_address_that_has_been_refused_too_often_gets_no_signature_checked(authorization: str | None) -> None:
    limited, doorman = limits(), Doorman()
    limited.authenticated(request("192.0.2.1", "good ann"), doorman)
    for _ in range(3):
        with pytest.raises(UnauthorizedError):
            limited.authenticated(request("192.0.2.1", authorization), doorman)
    checked = doorman.checked
    for shown in (authorization, "bad", "good stranger"):
        with pytest.raises(TooManyRequestsError):
            limited.authenticated(request("192.0.2.1", shown), doorman)
    assert doorman.checked == checked
    # Who is known already goes on, and so does everybody else.
    assert limited.authenticated(request("192.0.2.1", "good ann"), doorman).subject == "ann"
    assert limited.authenticated(request("192.0.2.2", "good bob"), doorman).subject == "bob"


def test_good_tokens_do_not_count_against_their_address() -> None:
    limited, doorman = limits(), Doorman()
    for number in range(50):
        limited.authenticated(request("192.0.2.1", f"good {number}"), doorman)


def test_what_needs_no_token_is_counted_by_address() -> None:
    limited = limits()
    for _ in range(3):
        limited.let_in(request(), shows_token=False)
    with pytest.raises(TooManyRequestsError):
        limited.let_in(request(), shows_token=False)
    limited.let_in(request("192.0.2.2"), shows_token=False)


def test_a_door_for_the_inside_has_no_limit() -> None:
    limited = limits()
    for _ in range(50):
        limited.let_in(request(**{INTERNAL: "1"}), shows_token=False)
    # Nobody outside can say so.
    with pytest.raises(TooManyRequestsError):
        for _ in range(50):
            limited.let_in(request(HTTP_CFM_INTERNAL="1"), shows_token=False)


def test_whoever_guesses_at_tokens_of_another_kind_is_refused_soon() -> None:
    limited = limits(subjects=100)
    for _ in range(3):
        limited.let_in(request(), shows_token=True)
        with pytest.raises(ForbiddenError), limited.counting_refusals(request()):
            raise ForbiddenError("no")
    with pytest.raises(TooManyRequestsError):
        limited.let_in(request(), shows_token=True)
    # Health is asked for at the same address, perhaps by others.
    limited.let_in(request(), shows_token=False)


@pytest.mark.parametrize(
    ("proxies", "remote", "forwarded", "address"),
    [
        (0, "192.0.2.1", None, "192.0.2.1"),
        (0, "192.0.2.1", "198.51.100.1", "192.0.2.1"),
        (1, "192.0.2.1", None, "192.0.2.1"),
        (1, "192.0.2.1", "", "192.0.2.1"),
        (1, "192.0.2.1", "198.51.100.1", "198.51.100.1"),
        (1, "192.0.2.1", "203.0.113.9, 198.51.100.1", "198.51.100.1"),
        (2, "192.0.2.1", "203.0.113.9, 198.51.100.1 , 198.51.100.2", "198.51.100.1"),
        (2, "192.0.2.1", "198.51.100.2", "192.0.2.1"),
        (1, "192.0.2.1", "nobody", "192.0.2.1"),
        (1, "192.0.2.1", "x" * 10_000, "192.0.2.1"),
        (0, "2001:db8:1:2:3:4:5:6", None, "2001:db8:1:2::/64"),
        (0, "::ffff:192.0.2.1", None, "192.0.2.1"),
        (0, "", None, ""),
        (0, "unix:", None, ""),
    ],
)
def test_an_address_is_what_trusted_proxies_tell(
    proxies: int, remote: str, forwarded: str | None, address: str
) -> None:
    told = {} if forwarded is None else {"HTTP_X_FORWARDED_FOR": forwarded}
    assert limits(proxies=proxies).address_of(request(remote, **told)) == address
