from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cfm_core.query.patterns import ending_with, like, matcher, starting_with


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        ("abc", "abc", True),
        ("abc", "abcd", False),
        ("a%", "a", True),
        ("a%", "ba", False),
        ("%c", "abc", True),
        ("%b%", "abc", True),
        ("a%b%c", "a-b-bc", True),
        ("ab%bc", "abc", False),
        ("_", "é", True),
        ("_", "", False),
        ("_", "\n", True),
        ("%_%", "", False),
        ("", "", True),
        ("%", "", True),
        ("a\\%", "a%", True),
        ("a\\%", "ab", False),
        ("a\\_b", "a_b", True),
        ("a\\\\%", "a\\b", True),
        ("\\a", "a", True),
        ("a\\", "a\\", True),
        ("A", "a", False),
        ("a.c", "abc", False),
    ],
)
def test_a_pattern_is_that_of_sql(pattern: str, text: str, matches: bool) -> None:
    assert matcher(like(pattern))(text) is matches


@settings(derandomize=True, deadline=None)
@given(st.text("ab%_\\"), st.text("ab%_\\", max_size=6))
def test_a_pattern_matches_what_the_regular_expression_does(pattern: str, text: str) -> None:
    parts = re.findall(r"\\.|.", pattern)
    expression = "".join(
        {"%": ".*", "_": "."}.get(part) or re.escape(part[1:] if len(part) == 2 else part) for part in parts
    )
    assert matcher(like(pattern))(text) is (re.fullmatch(expression, text, re.DOTALL) is not None)


@settings(derandomize=True, deadline=None)
@given(st.text("ab%_\\"), st.text("ab%_\\", max_size=6))
def test_beginnings_and_ends_are_taken_literally(part: str, text: str) -> None:
    assert matcher(starting_with(part))(text) is text.startswith(part)
    assert matcher(ending_with(part))(text) is text.endswith(part)


@pytest.mark.parametrize(
    ("pattern", "prefix", "is_prefix"),
    [
        ("abc%", "abc", True),
        ("a\\%%", "a%", True),
        ("%", "", True),
        ("abc", "abc", False),
        ("ab_%", "ab", False),
        ("ab%c%", "ab", False),
        ("%a", "", False),
    ],
)
def test_a_pattern_knows_how_its_matches_begin(pattern: str, prefix: str, is_prefix: bool) -> None:
    assert (like(pattern).prefix, like(pattern).is_prefix) == (prefix, is_prefix)


def test_no_pattern_takes_long() -> None:
    matches = matcher(like("%a_" * 500 + "b"))
    began = time.process_time()
    assert not matches("a" * 100_000)
    assert time.process_time() - began < 2
