from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from cfm_core.contracts.activity import ActivityTypeAnnouncement
from cfm_core.declaration import EventFunction
from cfm_core.errors import FatalError
from cfm_core.eventing.cloudevents import CloudEvent
from cfm_core.eventing.targets import Target, dump, load, target_of

DNS = ActivityTypeAnnouncement(
    activity_type="acme.dns",
    timeout=timedelta(seconds=45),
    max_attempts=5,
    backoff=timedelta(seconds=1.5),
    backoff_limit=timedelta(minutes=5),
)


def handler(events: Sequence[CloudEvent[object]]) -> None:
    """Does nothing."""


def test_a_target_says_what_its_declaration_says() -> None:
    declaration = EventFunction(
        name="dns",
        source=Path("dns.py"),
        handler=handler,
        requires=(),
        subject="event.cfm.activity.acme.dns",
        data=None,
        batch=16,
        slots=3,
        timeout=timedelta(seconds=45),
        activity=DNS,
    )
    assert target_of(declaration, "http://host/dns") == Target(
        name="dns",
        url="http://host/dns",
        subject="event.cfm.activity.acme.dns",
        batch=16,
        slots=3,
        timeout=timedelta(seconds=45),
        activity=DNS.to_json(),
    )


def test_targets_are_read_as_they_were_written() -> None:
    targets = (
        Target(name="a", url="http://h/a", subject="event.a", timeout=timedelta(minutes=2), activity=DNS.to_json()),
        Target(name="b", url="https://h/b", every=timedelta(seconds=0.5), batch=1, slots=1),
        Target(name="c", url="https://h/c", subject="events.keypair.>", of_agent=True),
    )
    assert load(dump(targets)) == targets
    assert json.loads(dump(targets))["targets"][1]["every"] == "PT0.5S"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("PT0.5S", 0.5), ("PT30S", 30), ("PT1M30S", 90), ("PT1H", 3600), ("P1DT1S", 86401)],
)
def test_durations_are_those_of_iso_8601(text: str, expected: float) -> None:
    document = {"targets": [{"name": "a", "url": "http://h", "every": text}]}
    assert load(json.dumps(document))[0].every == timedelta(seconds=expected)


@pytest.mark.parametrize(
    "wrong",
    [
        "{}",
        "not json",
        '{"targets": [{"name": "a", "url": "http://h"}]}',
        '{"targets": [{"name": "a", "url": "http://h", "subject": "event.a", "every": "PT1S"}]}',
        '{"targets": [{"name": "a", "url": "ftp://h", "subject": "event.a"}]}',
        '{"targets": [{"name": "a", "url": "http://h", "every": "1 s"}]}',
        '{"targets": [{"name": "a", "url": "http://h", "every": "P"}]}',
        '{"targets": [{"name": "a", "url": "http://h", "subject": "event.a", "slots": 0}]}',
        '{"targets": [{"name": "a", "url": "http://h", "subject": "event.a"},'
        ' {"name": "b", "url": "http://h", "subject": "event.a"}]}',
    ],
)
def test_a_file_that_makes_no_sense_is_refused(wrong: str) -> None:
    with pytest.raises(FatalError):
        load(wrong)
