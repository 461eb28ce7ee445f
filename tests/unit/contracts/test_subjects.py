from __future__ import annotations

import pytest

from cfm_core.contracts import subjects
from cfm_core.contracts.subjects import covers, dead_letter, is_letter_about


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
    assert covers(pattern, subject) is expected


def test_no_two_subjects_have_consumers_of_one_name() -> None:
    ours = [subjects.MANIFESTS, subjects.RESPONSES, subjects.RESULTS, subjects.INPUTS, subjects.CALLS]
    patterns = [subjects.ACTIVITY_TYPES, subjects.DEAD_LETTERS, subjects.KEY_PAIR_EVENTS]
    types = ["acme.dns", "acme-dns", "activity-types", "activity-types.all", "all", "dead-letter.all"]
    types += [">", "a.>", "a.all"]  # what a manager publishes, and what looks like it
    found = [*ours, *patterns, subjects.PARTICIPANT_CONTEXT_DELETED, *map(subjects.activity, types)]
    names = {subjects.consumer(subject) for subject in found}
    assert len(names) == len(found)
    assert not [name for name in names if {*name} & {*".*> "}]


@pytest.mark.parametrize(
    "subject",
    [subjects.MANIFESTS, subjects.RESULTS, subjects.ACTIVITY_TYPES, subjects.activity("a.b"), subjects.KEY_PAIR_EVENTS],
)
def test_a_letter_is_about_the_subject_that_it_is_published_for(subject: str) -> None:
    published = dead_letter(subject)
    assert subjects.covers(subjects.DEAD_LETTERS, published)
    assert published.count(".") == 3
    assert is_letter_about(subject, published)


@pytest.mark.parametrize(
    "subject",
    [
        subjects.MANIFESTS,
        subjects.activity("a"),
        subjects.activity("a.b.c"),
        subjects.activity("a-b"),
        # What would be a consumer of the same name.
        "event.cfm=activity=a=b",
        "event.cfm.activity.a=b",
        "cfm.activity.a.b",
        "cfm=activity=a=b",
        "",
    ],
)
def test_a_letter_is_about_no_other_subject(subject: str) -> None:
    assert not is_letter_about(subject, dead_letter(subjects.activity("a.b")))


@pytest.mark.parametrize(
    ("subject", "published_for"),
    [
        (subjects.activity(">"), subjects.activity("all")),
        (subjects.activity("a.>"), subjects.activity("a.all")),
        (subjects.activity("*"), subjects.activity("*")),
        ("event.cfm-events.keypair", subjects.KEY_PAIR_EVENTS),
        ("event.cfm.again.a", "event.cfm.again.a"),
        ("event.anything", "event.anything"),
    ],
)
def test_a_letter_is_about_nothing_that_no_function_takes_in(subject: str, published_for: str) -> None:
    assert not is_letter_about(subject, dead_letter(published_for))


def test_no_letter_is_about_anything_that_was_published_elsewhere() -> None:
    assert not is_letter_about(subjects.RESULTS, subjects.RESULTS)
    assert not is_letter_about(subjects.RESULTS, subjects.DEAD_LETTERS)
    assert not is_letter_about(subjects.RESULTS, "")
