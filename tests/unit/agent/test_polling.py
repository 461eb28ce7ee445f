from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from cfm_core.agent import ActivityEnvironment, Fatal, Schedule
from cfm_core.agent.polling import GIVE_UP_AFTER, LONGEST, SHORTEST, done_looking, look_again, since_key


def looking_for(age: timedelta) -> Schedule | Fatal:
    values = {"activity.activity-1.since": (datetime.now(UTC) - age).isoformat()}
    return look_again(ActivityEnvironment(values=values).context(), "the post")


def test_the_first_look_is_followed_soon_and_noted() -> None:
    ctx = ActivityEnvironment().context()
    assert look_again(ctx, "the post") == Schedule(SHORTEST)
    assert list(ctx.recorded_values) == [since_key(ctx)]


def test_later_looks_are_ever_more_seldom() -> None:
    found = looking_for(timedelta(seconds=20))
    assert isinstance(found, Schedule)
    assert timedelta(seconds=10) <= found.after < timedelta(seconds=11)
    assert looking_for(timedelta(minutes=10)) == Schedule(LONGEST)


def test_a_clock_that_went_back_does_no_harm() -> None:
    assert looking_for(timedelta(minutes=-10)) == Schedule(SHORTEST)


@pytest.mark.parametrize("note", ["rubbish", 7, "2026-01-01T00:00:00"])
def test_a_note_that_cannot_be_read_begins_anew(note: object) -> None:
    ctx = ActivityEnvironment(values={"activity.activity-1.since": note}).context()
    assert look_again(ctx, "the post") == Schedule(SHORTEST)


def test_at_last_it_gives_up() -> None:
    assert looking_for(GIVE_UP_AFTER) == Fatal("the post: still not there after 15 minutes")


def test_the_note_is_taken_away_in_the_end() -> None:
    ctx = ActivityEnvironment().context()
    done_looking(ctx)
    assert not ctx.recorded_deletions
    look_again(ctx, "the post")
    done_looking(ctx)
    assert list(ctx.recorded_deletions) == [since_key(ctx)]
