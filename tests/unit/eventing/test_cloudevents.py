from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from cfm_core.errors import ValidationError
from cfm_core.eventing.cloudevents import BATCH, STRUCTURED, event, from_nats, from_request, time_of, to_nats

MANIFEST = event(type="m", source="/a b", subject='ä "x"\r\nNats-Msg-Id: 1', data={"id": "m-1"}, id="100% é")


def test_the_contracts_form_has_the_document_alone_as_its_body() -> None:
    body, headers = to_nats([MANIFEST | {"traceparent": "00-a-b-01"}], bare=True)
    assert json.loads(body) == {"id": "m-1"}
    assert headers["traceparent"] == "00-a-b-01"
    assert all(value.isascii() and "\n" not in value for value in headers.values())


def test_an_event_in_the_contracts_form_is_read_as_it_was() -> None:
    body, headers = to_nats([MANIFEST], bare=True)
    (read,) = from_nats("event.m", headers, body, fallback_id="x")
    assert {name: read[name] for name in ("id", "source", "type", "subject", "data")} == {
        name: MANIFEST[name] for name in ("id", "source", "type", "subject", "data")
    }


def test_a_batch_is_read_as_it_was() -> None:
    body, headers = to_nats([MANIFEST, MANIFEST], bare=False)
    assert from_nats("event.x", headers, body, fallback_id="x") == [MANIFEST, MANIFEST]


def test_a_bare_document_becomes_an_event_of_its_subject() -> None:
    (read,) = from_nats("event.m", {"traceparent": "00-a-b-01"}, b'{"id": "m-1"}', fallback_id="s-17")
    assert (read["id"], read["subject"], read["data"]) == ("s-17", "event.m", {"id": "m-1"})
    assert read["traceparent"] == "00-a-b-01"


def test_a_structured_event_keeps_the_trace_context_beside_it() -> None:
    body = json.dumps(MANIFEST).encode()
    (read,) = from_nats("event.m", {"Content-Type": STRUCTURED, "traceparent": "00-a-b-01"}, body, fallback_id="x")
    assert (read["id"], read["data"], read["traceparent"]) == (MANIFEST["id"], MANIFEST["data"], "00-a-b-01")


@pytest.mark.parametrize(
    ("said", "understood"),
    [
        ("2026-07-24T10:00:00Z", datetime(2026, 7, 24, 10, tzinfo=UTC)),
        ("2026-07-24T12:00:00.000000123+02:00", datetime(2026, 7, 24, 10, tzinfo=UTC)),
        ("2026-07-24T10:00:00", None),
        ("yesterday", None),
        (None, None),
        (7, None),
    ],
)
def test_the_time_of_an_event_is_read_where_it_says_one(said: object, understood: datetime | None) -> None:
    assert time_of({"time": said}) == understood
    assert time_of({}) is None


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (None, b"not json"),
        ({"Content-Type": "application/cloudevents-batch+json"}, b'[{"id": "x"}]'),
        ({"Content-Type": "application/cloudevents+json"}, b"{}"),
        ({"ce-specversion": "1.0"}, b"{}"),
    ],
)
def test_what_is_no_event_is_refused(headers: dict[str, str] | None, body: bytes) -> None:
    with pytest.raises(ValidationError):
        from_nats("event.m", headers, body, fallback_id="x")


@pytest.mark.parametrize("content_type", [BATCH, STRUCTURED])
def test_what_is_nested_beyond_all_measure_is_refused(content_type: str) -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    with pytest.raises(ValidationError):
        from_request({"Content-Type": content_type}, deep)
