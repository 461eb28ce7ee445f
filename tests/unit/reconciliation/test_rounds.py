"""Rounds look at a bounded part, and consecutive ones at everything."""

from __future__ import annotations

import random
import uuid
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import cast

import pytest

from cfm_core.clients.tenant_manager import ParticipantRecord, TenantManager
from cfm_core.reconciliation.rounds import pages_of, participants_of, round_number

EVERY = timedelta(minutes=5)
NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)


class Records:
    """As many participants, with random ids, as a Tenant Manager pages through."""

    def __init__(self, count: int) -> None:
        dice = random.Random(1)
        ids = sorted(str(uuid.UUID(int=dice.getrandbits(128), version=4)) for _ in range(count))
        self.records = [ParticipantRecord(one, "t", "did", (), {}, (), {}) for one in ids]
        self.calls = 0

    def participants(self, predicate: str, *, after: str = "", limit: int) -> list[ParticipantRecord]:
        self.calls += 1
        return [one for one in self.records if one.id > after][:limit]


def looked_at(records: Records, number: int, most: int) -> list[str]:
    return [one.id for one in participants_of(cast(TenantManager, records), "true", number, most)]


def test_rounds_are_numbered_by_time() -> None:
    assert round_number(NOON + EVERY, EVERY) == round_number(NOON, EVERY) + 1
    assert round_number(NOON + EVERY / 2, EVERY) == round_number(NOON, EVERY)


@pytest.mark.parametrize("count", [0, 1, 19, 20, 21])
def test_few_participants_are_all_looked_at_once_in_each_round(count: int) -> None:
    records = Records(count)
    for number in range(50):
        found = looked_at(records, number, 20)
        assert len(found) == len(set(found)) == min(count, 20)


def test_of_many_each_is_looked_at_about_as_often_and_none_waits_long() -> None:
    records, most, count = Records(1000), 20, 1000
    begun = round_number(NOON, EVERY)
    seen = [set(looked_at(records, begun + number, most)) for number in range(1000)]
    assert all(len(one) == most for one in seen)
    assert records.calls <= 2 * 1000
    often = Counter(one for found in seen for one in found)
    assert set(often) == {one.id for one in records.records}
    # Twenty times each, were the ids perfectly even.
    assert min(often.values()) >= 10
    assert max(often.values()) <= 40
    for record in records.records:
        rounds = [number for number, found in enumerate(seen) if record.id in found]
        assert max(later - earlier for earlier, later in pairwise([0, *rounds, 1000])) <= 4 * count / most


@pytest.mark.parametrize("count", [0, 1, 10, 11, 40, 41, 200, 401])
def test_consecutive_rounds_come_through_a_whole_list_with_few_pages_each(count: int) -> None:
    entries = list(range(count))
    seen: set[int] = set()
    for number in range(100, 132):
        pages = list(pages_of(lambda offset, limit: entries[offset : offset + limit], number, 10, most=4))
        assert len(pages) <= 4
        assert all(entries[offset : offset + 10] == page for offset, page in pages)
        seen.update(one for _, page in pages for one in page)
    assert seen == set(entries)


def test_without_a_number_all_pages_are_given() -> None:
    entries = list(range(95))
    pages = list(pages_of(lambda offset, limit: entries[offset : offset + limit], None, 10, most=4))
    assert [one for _, page in pages for one in page] == entries
