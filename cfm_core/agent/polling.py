"""Looking again and again at something that takes its time: often at first, ever more seldom, and not for ever."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cfm_core.agent.context import ActivityContext
from cfm_core.agent.results import Fatal, Schedule

SHORTEST = timedelta(seconds=0.5)
LONGEST = timedelta(seconds=30)
GIVE_UP_AFTER = timedelta(minutes=15)


def since_key(ctx: ActivityContext) -> str:
    """The value in which an activity keeps since when it has been looking."""
    return f"activity.{ctx.activity_id}.since"


def look_again(ctx: ActivityContext, what: str, *, give_up_after: timedelta = GIVE_UP_AFTER) -> Schedule | Fatal:
    """When to look at ``what`` again: after half the time that it has taken so far, within bounds; at last never more."""
    now = datetime.now(UTC)
    since = _instant(ctx.values.get(since_key(ctx)))
    if since is None:
        since = now
        ctx.set_value(since_key(ctx), now.isoformat())
    age = now - since
    if age >= give_up_after:
        return Fatal(f"{what}: still not there after {age.total_seconds() / 60:.0f} minutes")
    return Schedule(after=min(max(age / 2, SHORTEST), LONGEST))


def done_looking(ctx: ActivityContext) -> None:
    """Forget since when this activity has been looking."""
    if since_key(ctx) in ctx.values:
        ctx.delete_value(since_key(ctx))


def _instant(text: object) -> datetime | None:
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return found if found.tzinfo else None
