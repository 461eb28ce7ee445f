"""Announcements of activity types by many at once, late, and with crashes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from cfm_core.contracts import subjects
from cfm_core.contracts.activity import ActivityTypeAnnouncement
from cfm_core.contracts.reply import Reply
from cfm_core.eventing.cloudevents import CloudEvent
from cfm_core.provisioning.engine.service import Engine
from cfm_core.provisioning.engine.store import PostgresEngine
from cfm_core.store.database import Database
from tests.contract.provisioning.world import PostgresWorld
from tests.integration.provisioning.api import EVENTS
from tests.integration.provisioning.test_concurrency import THREADS, at_once
from tests.integration.provisioning.test_crashes import Crash

ANNOUNCED = "SELECT type, max_attempts FROM provision_manager.activity_type_policy ORDER BY type"


def announced(id_: str, activity_type: str, attempts: int, published: str = "") -> CloudEvent[Any]:
    second = timedelta(seconds=1)
    data = ActivityTypeAnnouncement(
        activity_type=activity_type, timeout=second, max_attempts=attempts, backoff=second, backoff_limit=second
    )
    return CloudEvent(id_, "s", "t", published or subjects.announcement(activity_type), data)


def handle(engine: Engine, events: Sequence[CloudEvent[Any]]) -> Reply:
    reply: Reply = EVENTS["register_activity_types"].handler(events, engine)
    return reply


def test_of_announcements_that_many_bring_each_counts_for_its_own_type(emptied_url: str) -> None:
    pool = Database(emptied_url, size=THREADS)
    engine = PostgresEngine(pool)
    batch = [
        announced("a", "a", 2),
        announced("forged", "b", 1, subjects.announcement("a")),
        announced("b", "b", 3),
    ]
    refused = at_once(lambda n: [*handle(engine, batch[n % 2 :]).failures])
    assert refused == [["forged"]] * THREADS
    assert pool.rows(ANNOUNCED) == [["a", 2], ["b", 3]]
    pool.close()


def test_the_last_word_counts_and_a_late_one_is_put_right_by_the_next(world: PostgresWorld) -> None:
    for attempts in 2, 3, 2, 3:
        handle(world.engine, [announced(f"{attempts}", "a", attempts)])
        assert world.database.rows(ANNOUNCED) == [["a", attempts]]


def test_an_announcement_that_is_not_committed_leaves_nothing_and_can_be_repeated(world: PostgresWorld) -> None:
    batch = [announced("a", "a", 2), announced("forged", "b", 1, subjects.announcement("a"))]
    with pytest.raises(Crash), world.database.joined():
        handle(world.engine, batch)
        raise Crash
    assert world.database.rows(ANNOUNCED) == []
    for _ in "after the crash", "once more":
        assert [*handle(world.engine, batch).failures] == ["forged"]
        assert world.database.rows(ANNOUNCED) == [["a", 2]]
