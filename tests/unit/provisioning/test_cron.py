from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cfm_core.errors import ValidationError
from cfm_core.provisioning.schedules.cron import next_time

BERLIN = "Europe/Berlin"
ZONES = ["UTC", BERLIN, "America/New_York", "Australia/Lord_Howe", "Pacific/Apia", "Asia/Kathmandu"]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def times(cron: str, zone: str, after: str, count: int) -> list[str]:
    found: list[str] = []
    instant: datetime | None = at(after)
    for _ in range(count):
        assert instant is not None
        instant = next_time(cron, zone, instant)
        assert instant is not None
        found.append(f"{instant:%m-%dT%H:%M}")
    return found


def test_the_clock_on_the_wall_of_the_zone_counts() -> None:
    assert times("0 6 * * *", BERLIN, "2026-01-10T00:00Z", 2) == ["01-10T05:00", "01-11T05:00"]
    assert times("0 6 * * *", BERLIN, "2026-07-10T00:00Z", 1) == ["07-10T04:00"]


def test_a_time_itself_is_not_behind_itself() -> None:
    assert times("*/5 * * * *", "UTC", "2026-01-10T00:05Z", 1) == ["01-10T00:10"]
    assert times("*/5 * * * *", "UTC", "2026-01-10T00:04:59.999999Z", 1) == ["01-10T00:05"]


def test_a_time_that_daylight_saving_time_leaves_out_comes_due_when_the_clock_has_gone_on() -> None:
    # On 29 March 2026 the clocks go from 2:00 to 3:00, which is 1:00 in UTC.
    assert times("30 2 * * *", BERLIN, "2026-03-28T02:00Z", 3) == ["03-29T01:00", "03-30T00:30", "03-31T00:30"]


def test_a_time_that_comes_twice_comes_due_the_first_time() -> None:
    # On 25 October 2026 the clocks go from 3:00 back to 2:00, which is 1:00 in UTC.
    assert times("30 2 * * *", BERLIN, "2026-10-24T12:00Z", 2) == ["10-25T00:30", "10-26T01:30"]
    assert times("30 2 * * *", BERLIN, "2026-10-25T01:10Z", 1) == ["10-26T01:30"], "in the hour that comes again"


def test_every_so_often_is_every_so_often_on_those_days_too() -> None:
    assert times("0 * * * *", BERLIN, "2026-03-28T23:30Z", 4) == [f"03-29T0{hour}:00" for hour in range(4)]
    assert times("*/30 * * * *", BERLIN, "2026-10-24T23:45Z", 6) == [
        *("10-25T00:00", "10-25T00:30", "10-25T01:00", "10-25T01:30", "10-25T02:00", "10-25T02:30"),
    ]
    assert times("*/30 2 * * *", BERLIN, "2026-03-28T12:00Z", 1) == ["03-30T00:00"], "there is no such hour on the 29th"


def test_either_day_is_enough_where_both_are_given() -> None:
    assert times("0 0 13 * FRI", "UTC", "2026-01-08T12:00Z", 3) == ["01-09T00:00", "01-13T00:00", "01-16T00:00"]
    assert times("0 0 L * *", "UTC", "2026-02-01T00:00Z", 1) == ["02-28T00:00"]


def test_a_time_that_never_comes_is_none() -> None:
    assert next_time("0 0 29 2 MON#1", "UTC", at("2026-01-01T00:00Z")) is not None, "either is enough"
    assert next_time("0 0 */29 2 MON#1", "UTC", at("2026-01-01T00:00Z")) is not None
    assert next_time("0 0 */40 2 MON#5", "UTC", at("2026-01-01T00:00Z")) is None


@pytest.mark.parametrize(
    "cron",
    [
        *("", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8", "@daily"),
        *(
            "*/0 * * * *",
            "5-1 * * * *",
            "a * * * *",
            "-1 * * * *",
            "1,,2 * * * *",
            "² * * * *",
            "0 0 31 2 *",
            "* " * 200,
        ),
    ],
)
def test_an_expression_that_cannot_be_read_is_refused_with_its_place(cron: str) -> None:
    with pytest.raises(ValidationError) as refused:
        next_time(cron, "UTC", at("2026-01-01T00:00Z"))
    assert [one.pointer for one in refused.value.errors] == ["/cron"]


@pytest.mark.parametrize(
    "zone", ["", "Berlin", "Europe", "../etc/passwd", "/etc/localtime", "localtime", "+02:00", "\0"]
)
def test_what_is_no_time_zone_is_refused(zone: str) -> None:
    with pytest.raises(ValidationError) as refused:
        next_time("0 0 * * *", zone, at("2026-01-01T00:00Z"))
    assert [one.pointer for one in refused.value.errors] == ["/timeZone"]


@settings(derandomize=True, deadline=None, max_examples=300)
@given(
    cron=st.sampled_from(["30 2 * * *", "*/7 * * * *", "15 */2 * * *", "0 0 * * *", "59 23 L * *", "5 1-3 * * SUN"]),
    zone=st.sampled_from(ZONES),
    after=st.datetimes(datetime(2011, 12, 1), datetime(2031, 1, 1), timezones=st.just(UTC)),
    between=st.floats(0, 1),
)
def test_times_go_on_and_do_not_depend_on_when_one_looks(cron: str, zone: str, after: datetime, between: float) -> None:
    found = next_time(cron, zone, after)
    assert found is not None
    assert found > after
    # The sub-second part is cut, so that it is still before what was found.
    assert next_time(cron, zone, after + (found - after - timedelta(microseconds=1)) * between) == found


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.lists(st.text("0123456789*/-,LW#MONFRI ", min_size=1, max_size=8), min_size=5, max_size=5).map(" ".join))
def test_whatever_is_given_is_reckoned_or_refused(cron: str) -> None:
    try:
        found = next_time(cron, BERLIN, at("2026-01-01T00:00Z"))
    except ValidationError:
        return
    assert found is None or found > at("2026-01-01T00:00Z")
