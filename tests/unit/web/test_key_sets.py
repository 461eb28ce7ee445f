"""When keys are fetched, and which of them verify what."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import IncompleteRead
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from cfm_core.errors import InvalidTokenError, RecoverableError
from cfm_core.web.key_sets import FRESH_SECONDS, PAUSE_SECONDS, TIMEOUT_SECONDS, TOLERATED_SECONDS, KeySet, jwks_url_of
from tests.support.tokens import jwk_of, key_set, new_key


class World:
    """A clock, and an issuer that is asked for its keys."""

    def __init__(self, *keys: dict[str, Any]) -> None:
        self.now = 1000.0
        self.looks = 0
        self.fetches = 0
        self.takes = 0.0
        self.answer: Callable[[], bytes] = lambda: key_set(*keys)
        self.keys = KeySet("https://issuer.test", self.fetch, self.clock)
        self._looked = threading.Condition()

    def clock(self) -> float:
        with self._looked:
            self.looks += 1
            self._looked.notify_all()
        return self.now

    def await_looks(self, times: int) -> None:
        """Return when somebody has looked at the clock for so many times."""
        with self._looked:
            assert self._looked.wait_for(lambda: self.looks >= times, 10)

    def fetch(self) -> bytes:
        self.fetches += 1
        self.now += self.takes
        return self.answer()

    def fails(self, error: Exception | None = None) -> None:
        def fail() -> bytes:
            raise error or OSError("nobody there")

        self.answer = fail

    def publishes(self, *keys: dict[str, Any]) -> None:
        self.answer = lambda: key_set(*keys)

    def has(self, key_id: str | None = "1", algorithm: str = "EdDSA") -> bool:
        try:
            self.keys.find(key_id, algorithm)
        except InvalidTokenError:
            return False
        return True


ONE, TWO = (jwk_of(new_key(), key_id, "EdDSA") for key_id in ("1", "2"))


def test_keys_are_fetched_when_they_are_needed_and_again_when_they_are_old() -> None:
    world = World(ONE)
    assert world.fetches == 0
    for _ in range(3):
        assert world.keys.find("1", "EdDSA")[1] == 1000.0 + FRESH_SECONDS
    assert world.fetches == 1
    world.now += FRESH_SECONDS
    assert world.keys.find("1", "EdDSA")[1] == 1000.0 + 2 * FRESH_SECONDS
    assert world.fetches == 2


def test_keys_are_as_old_as_the_question_for_them() -> None:
    world = World(ONE)
    world.takes = 4.0
    assert world.keys.find("1", "EdDSA")[1] == 1000.0 + FRESH_SECONDS


def test_a_minute_is_enough_for_old_keys_and_the_fetch() -> None:
    # Two answers are needed where the issuer has to say anew where its keys are; each is read to the end of one byte more.
    assert FRESH_SECONDS + 2 * TIMEOUT_SECONDS < 60


def test_for_an_unknown_key_the_set_is_fetched_again_once_at_most_so_often() -> None:
    world = World(ONE)
    assert world.has()
    for number in range(100):
        assert not world.has(f"unknown-{number}")
    assert world.fetches == 1
    world.now += PAUSE_SECONDS
    for number in range(100):
        assert not world.has(f"unknown-{number}")
    assert world.fetches == 2


def test_a_key_is_known_as_soon_as_it_is_asked_for_after_the_pause() -> None:
    world = World(ONE)
    assert world.has()
    world.publishes(ONE, TWO)
    world.now += PAUSE_SECONDS
    assert world.has("2")
    assert world.has("1")
    assert world.fetches == 2


def test_an_outage_is_tolerated_with_the_keys_that_there_are() -> None:
    world = World(ONE)
    assert world.has()
    world.fails()
    while world.now < 1000.0 + TOLERATED_SECONDS - PAUSE_SECONDS:
        world.now += PAUSE_SECONDS / 2
        assert world.has()
    assert world.fetches <= TOLERATED_SECONDS / PAUSE_SECONDS
    world.now += 2 * PAUSE_SECONDS
    with pytest.raises(RecoverableError) as caught:
        world.has()
    assert caught.value.retry_after == PAUSE_SECONDS
    world.publishes(ONE)
    world.now += PAUSE_SECONDS
    assert world.has()


def test_in_an_outage_nobody_is_told_that_a_key_is_unknown() -> None:
    world = World(ONE)
    assert world.has()
    world.fails()
    world.now += PAUSE_SECONDS
    for _ in range(3):
        with pytest.raises(RecoverableError):
            world.has("2")
        assert world.has("1")
    assert world.fetches == 2


def test_in_an_outage_keys_are_believed_until_the_next_try_only() -> None:
    world = World(ONE)
    assert world.has()
    world.fails()
    world.now += FRESH_SECONDS
    assert world.keys.find("1", "EdDSA")[1] == world.now + PAUSE_SECONDS


def test_without_any_keys_an_issuer_is_asked_at_most_so_often() -> None:
    world = World()
    world.fails()
    for _ in range(50):
        with pytest.raises(RecoverableError):
            world.has()
    assert world.fetches == 1
    world.publishes(ONE)
    world.now += PAUSE_SECONDS
    assert world.has()


@pytest.mark.parametrize(
    "answer",
    [b"", b"<html>", b"[]", b"5", b"{}", b'{"keys": {}}', b'{"keys": null}', b"\xff\xfe", b"[" * 100_000],
    ids=lambda answer: repr(answer[:10]),
)
def test_what_is_no_key_set_counts_as_an_outage(answer: bytes, caplog: pytest.LogCaptureFixture) -> None:
    world = World(ONE)
    assert world.has()
    world.answer = lambda: answer
    world.now += FRESH_SECONDS
    assert world.has()
    assert "the keys of issuer https://issuer.test cannot be fetched" in caplog.text


@pytest.mark.parametrize("error", [TimeoutError("late"), IncompleteRead(b""), ConnectionResetError()], ids=str)
def test_a_connection_that_breaks_counts_as_an_outage(error: Exception) -> None:
    world = World(ONE)
    assert world.has()
    world.fails(error)
    world.now += FRESH_SECONDS
    assert world.has()


def test_an_empty_set_is_no_outage_but_withdraws_every_key() -> None:
    world = World(ONE)
    assert world.has()
    world.publishes()
    world.now += FRESH_SECONDS
    assert not world.has()


def test_while_one_fetches_others_go_on_with_the_keys_that_there_are() -> None:
    world = World(ONE)
    assert world.has()
    begun, end = threading.Event(), threading.Event()

    def slowly() -> bytes:
        begun.set()
        assert end.wait(10)
        return key_set(TWO)

    world.answer = slowly
    world.now += FRESH_SECONDS
    with ThreadPoolExecutor(1) as pool:
        fetching = pool.submit(world.has)
        assert begun.wait(10)
        assert world.has("1")
        end.set()
        assert fetching.result(10) is False
    assert world.has("2")
    assert world.fetches == 2


@pytest.mark.parametrize(("known_before", "looks"), [(False, 1), (True, 2)])
def test_all_who_need_a_key_wait_for_one_fetch(known_before: bool, looks: int) -> None:
    world = World(ONE)
    if known_before:
        assert world.has()
        world.now += PAUSE_SECONDS
    end = threading.Event()

    def slowly() -> bytes:
        assert end.wait(10)
        return key_set(ONE, TWO)

    world.answer = slowly
    before = world.looks
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(world.has, "2") for _ in range(8)]
        # Each looks at the clock before it waits, and whoever fetches does once more.
        world.await_looks(before + 8 * looks + 1)
        assert not any(one.done() for one in waiting)
        end.set()
        assert all(one.result(10) for one in waiting)
    assert world.fetches == 1 + known_before


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256", "EdDSA"])
def test_a_key_that_names_its_algorithm_verifies_nothing_else(algorithm: str) -> None:
    world = World(jwk_of(new_key(algorithm), "1", algorithm))
    assert [one for one in ("RS256", "PS256", "ES256", "EdDSA") if world.has("1", one)] == [algorithm]


def test_a_key_that_names_no_algorithm_verifies_what_its_kind_can() -> None:
    kinds = {"RS256": ["RS256", "PS256"], "ES256": ["ES256"], "EdDSA": ["EdDSA"]}
    for kind, verified in kinds.items():
        world = World(jwk_of(new_key(kind), "1", kind, alg=None))
        assert [one for one in ("RS256", "PS256", "ES256", "EdDSA") if world.has("1", one)] == verified


UNUSABLE: dict[str, Any] = {
    "to encrypt": jwk_of(new_key(), "1", "EdDSA", use="enc"),
    "for other operations": jwk_of(new_key(), "1", "EdDSA", key_ops=["sign"]),
    "operations that are none": jwk_of(new_key(), "1", "EdDSA", key_ops=5),
    "for another algorithm": jwk_of(new_key(), "1", "EdDSA", alg="HS256"),
    "of no kind": jwk_of(new_key(), "1", "EdDSA", kty=None),
    "of an unknown kind": jwk_of(new_key(), "1", "EdDSA", kty=["OKP"]),
    "a secret": {"kty": "oct", "kid": "1", "k": "c2VjcmV0", "alg": "HS256"},
    "a secret for another algorithm": {"kty": "oct", "kid": "1", "k": "c2VjcmV0", "alg": "EdDSA"},
    "without its curve": jwk_of(new_key(), "1", "EdDSA", crv=None),
    "on another curve": jwk_of(new_key("ES256"), "1", "ES256", crv="P-384"),
    "not on its curve": jwk_of(new_key("ES256"), "1", "ES256", x="AAAA"),
    "half": jwk_of(new_key(), "1", "EdDSA", x=None),
    "too short": jwk_of(rsa.generate_private_key(public_exponent=65537, key_size=1024), "1", "RS256"),
    "a text": "key",
    "nothing": None,
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_key_that_cannot_be_used_leaves_the_others(name: str) -> None:
    world = World(UNUSABLE[name], TWO)
    assert not any(world.has("1", algorithm) for algorithm in ("RS256", "PS256", "ES256", "EdDSA", "HS256"))
    assert world.has("2")


def test_of_two_keys_with_one_name_none_is_taken() -> None:
    assert not World(ONE, TWO | {"kid": "1"}).has("1")


def test_no_private_half_is_kept() -> None:
    world = World(ONE | {"d": "cHJpdmF0ZQ"})
    key, _ = world.keys.find("1", "EdDSA")
    assert not hasattr(key.key, "private_bytes")


def test_a_failed_fetch_is_logged_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.fails(OSError("no route to host"))
    with caplog.at_level(logging.WARNING), pytest.raises(RecoverableError):
        world.has()
    assert "the keys of issuer https://issuer.test cannot be fetched: no route to host" in caplog.text


def test_the_configuration_of_an_issuer_names_its_key_set() -> None:
    said = b'{"issuer": "https://a", "jwks_uri": "https://keys.example/a?b=c"}'
    assert jwks_url_of("https://a", said) == "https://keys.example/a?b=c"
    assert jwks_url_of("http://a", b'{"issuer": "http://a", "jwks_uri": "http://b/keys"}') == "http://b/keys"


@pytest.mark.parametrize(
    "said",
    [
        *(b"", b"[]", b"{}", b"null", b"<html>"),
        b'{"jwks_uri": "https://a/keys"}',
        b'{"issuer": "https://a"}',
        b'{"issuer": "https://a/", "jwks_uri": "https://a/keys"}',
        b'{"issuer": "https://b", "jwks_uri": "https://a/keys"}',
        b'{"issuer": "https://a", "jwks_uri": "http://a/keys"}',
        b'{"issuer": "https://a", "jwks_uri": "file:///etc/passwd"}',
        b'{"issuer": "https://a", "jwks_uri": "data:application/json,{}"}',
        b'{"issuer": "https://a", "jwks_uri": ["https://a/keys"]}',
        b'{"issuer": "https://a", "jwks_uri": "/keys"}',
    ],
)
def test_a_configuration_that_is_not_to_be_trusted_is_refused(said: bytes) -> None:
    with pytest.raises(ValueError):
        jwks_url_of("https://a", said)
