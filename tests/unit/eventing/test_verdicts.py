from __future__ import annotations

import math

import pytest

from cfm_core.eventing.verdicts import NO_CONNECTION, TIMEOUT, Verdict, backoff, delay, is_overload, verdict


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ((200, 202, 204), Verdict.DONE),
        ((NO_CONNECTION, TIMEOUT, 404, 408, 409, 425, 429, 500, 502, 503, 504), Verdict.AGAIN),
        ((401, 403), Verdict.BARRED),
        ((301, 302, 307, 400, 410, 413, 415, 422), Verdict.DEAD),
    ],
)
def test_a_status_has_the_meaning_of_the_delivery_contract(statuses: tuple[int, ...], expected: Verdict) -> None:
    assert [verdict(status) for status in statuses] == [expected] * len(statuses)


def test_a_function_asks_for_less_when_it_is_overloaded_or_not_there() -> None:
    assert [status for status in (NO_CONNECTION, TIMEOUT, 404, 429, 500, 502, 503, 504) if is_overload(status)] == [
        NO_CONNECTION,
        429,
        503,
        504,
    ]


def test_the_backoff_doubles_up_to_half_a_minute() -> None:
    assert [backoff(attempts) for attempts in (1, 2, 3, 9, 10, 10_000)] == [0.1, 0.2, 0.4, 25.6, 30, 30]


@pytest.mark.parametrize(
    ("retry_after", "least"), [(None, 0.2), (5.0, 5.0), (0.0, 0.2), (-1.0, 0.2), (math.inf, 300.0), (math.nan, 0.2)]
)
def test_what_a_function_asks_for_counts_when_it_is_longer(retry_after: float | None, least: float) -> None:
    assert delay(2, retry_after) == least


def test_a_delay_is_spread_by_up_to_a_quarter() -> None:
    assert delay(2, spread=1.0) == 0.25
