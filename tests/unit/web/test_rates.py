from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from cfm_core.errors import TooManyRequestsError
from cfm_core.web.rates import Buckets


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def taken(buckets: Buckets, key: str, tries: int) -> int:
    """How many of so many requests are let through."""
    count = 0
    for _ in range(tries):
        try:
            buckets.take(key)
        except TooManyRequestsError:
            continue
        count += 1
    return count


def test_a_burst_is_let_through_and_then_what_comes_at_the_rate() -> None:
    clock = Clock()
    buckets = Buckets("subject", 10, 5, clock=clock)
    assert taken(buckets, "a", 20) == 5
    clock.now += 0.1
    assert taken(buckets, "a", 20) == 1
    clock.now += 0.35
    assert taken(buckets, "a", 20) == 3
    clock.now += 3600
    assert taken(buckets, "a", 20) == 5


def test_nobody_is_counted_for_another() -> None:
    buckets = Buckets("subject", 10, 5, clock=Clock())
    assert [taken(buckets, key, 9) for key in ("a", "b")] == [5, 5]


def test_a_refused_request_says_when_there_is_room_and_is_not_counted() -> None:
    clock = Clock()
    buckets = Buckets("subject", 0.5, 2, clock=clock)
    assert taken(buckets, "a", 2) == 2
    for _ in range(50):
        with pytest.raises(TooManyRequestsError, match=r"at most 2 at once, and 0\.5 a second") as caught:
            buckets.take("a")
        assert caught.value.retry_after == pytest.approx(2)
    clock.now += 2
    assert taken(buckets, "a", 9) == 1


def test_to_require_counts_nothing() -> None:
    buckets = Buckets("stranger", 10, 2, clock=Clock())
    for _ in range(50):
        buckets.require("a")
    assert taken(buckets, "a", 9) == 2
    with pytest.raises(TooManyRequestsError):
        buckets.require("a")
    buckets.require("b")


def test_without_a_rate_there_is_no_limit() -> None:
    assert taken(Buckets("subject", 0, 1, clock=Clock()), "a", 10_000) == 10_000


def test_whoever_invents_keys_neither_fills_the_memory_nor_gets_rid_of_a_limit_early() -> None:
    buckets = Buckets("subject", 1, 1, most=100, clock=Clock())
    buckets.take("a")
    for number in range(99):
        buckets.take(f"other {number}")
    assert taken(buckets, "a", 1) == 0
    for number in range(100_000):
        buckets.take(f"another {number}")
    assert len(buckets._full_at) + len(buckets._before) <= 200


def test_threads_together_get_no_more_than_one() -> None:
    buckets, together = Buckets("subject", 1, 500, clock=Clock()), threading.Barrier(8)

    def work() -> int:
        together.wait()
        return taken(buckets, "a", 400)

    with ThreadPoolExecutor(8) as threads:
        counts = [threads.submit(work) for _ in range(8)]
        assert sum(one.result() for one in counts) == 500
