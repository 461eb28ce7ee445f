"""Which key signs, and when an event's word can be taken for what is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cfm_core.clients.identity_hub import KeyPair, KeyState
from cfm_core.clients.siglet import KeyMapping
from cfm_core.keys.service import SHOWS_WITHIN, KeyChange
from cfm_core.keys.signing import signing_key

NOW = datetime(2026, 7, 24, 10, tzinfo=UTC)


def pair(name: str, state: KeyState = KeyState.ACTIVATED, **fields: Any) -> KeyPair:
    given = {"usage": frozenset({"sign_token"}), "timestamp": 1, **fields}
    return KeyPair(id=name, key_id=f"did#{name}", alias=f"alias-{name}", state=state, **given)


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([], None),
        ([pair("a", KeyState.CREATED), pair("b", KeyState.ROTATED), pair("c", KeyState.REVOKED)], None),
        ([pair("a"), pair("b", KeyState.CREATED, timestamp=9)], "a"),
        ([pair("new", timestamp=2), pair("old", timestamp=1)], "new"),
        ([pair("a"), pair("b", usage=frozenset({"sign_credentials"}), timestamp=9)], "a"),
        ([pair("a", usage=frozenset())], None),
        ([pair("a", usage=None)], "a"),
        ([pair("a"), pair("b", is_default=True), pair("c")], "b"),
        ([pair("b"), pair("a")], "b"),
        ([pair("a"), pair("b")], "b"),
    ],
    ids=str,
)
def test_the_newest_key_in_use_that_may_sign_tokens_signs(pairs: list[KeyPair], expected: str | None) -> None:
    found = signing_key(pairs)
    assert found == (None if expected is None else KeyMapping(f"alias-{expected}", f"did#{expected}"))


@pytest.mark.parametrize("by", ["a", "did#a"])
@pytest.mark.parametrize(
    ("state", "came_into_use", "went_out_of_use"),
    [
        (None, False, True),
        (KeyState.CREATED, False, False),
        (KeyState.ACTIVATED, True, False),
        (KeyState.ROTATED, True, True),
        (KeyState.REVOKED, True, True),
    ],
)
def test_a_change_shows_where_the_key_is_as_it_says_or_further(
    by: str, state: KeyState | None, came_into_use: bool, went_out_of_use: bool
) -> None:
    pairs = [pair("other", KeyState.CREATED), pair("another")] + ([] if state is None else [pair("a", state)])
    assert KeyChange(by, usable=True).shows_in(pairs) is came_into_use
    assert KeyChange(by, usable=False).shows_in(pairs) is went_out_of_use


def test_the_end_of_all_keys_shows_when_none_can_be_used_any_more() -> None:
    end = KeyChange("", usable=False)
    assert end.shows_in([])
    assert end.shows_in([pair("a", KeyState.REVOKED)])
    assert not end.shows_in([pair("a", KeyState.REVOKED), pair("b")])


@pytest.mark.parametrize(
    ("at", "fresh"),
    [
        (NOW, True),
        (NOW - SHOWS_WITHIN, False),
        (NOW - SHOWS_WITHIN + timedelta(seconds=1), True),
        (NOW + timedelta(seconds=1), True),
        (NOW + timedelta(hours=1), False),
        (None, False),
    ],
)
def test_a_change_is_fresh_for_a_while_whichever_clock_is_ahead(at: datetime | None, fresh: bool) -> None:
    assert KeyChange("a", usable=True, at=at).is_fresh(NOW) is fresh
