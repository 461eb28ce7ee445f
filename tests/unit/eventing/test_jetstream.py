from __future__ import annotations

import pytest

from cfm_core.eventing.jetstream import _covers


@pytest.mark.parametrize(
    ("pattern", "subject", "expected"),
    [
        ("event.*", "event.cfm-orchestration", True),
        ("event.*", "event.cfm.result", False),
        ("event.>", "event.cfm.>", True),
        ("event.cfm.>", "event.cfm.>", True),
        ("event.cfm.*", "event.cfm.>", False),
        ("event.cfm.result", "event.cfm.result", True),
        ("event.cfm.result", "event.cfm", False),
        (">", "event", True),
        ("event.>", "event", False),
    ],
)
def test_a_pattern_covers_what_all_matches_it(pattern: str, subject: str, expected: bool) -> None:
    assert _covers(pattern, subject) is expected
