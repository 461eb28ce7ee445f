from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from cfm_core.errors import ValidationError
from cfm_core.eventing.cloudevents import BATCH, STRUCTURED, event, from_nats, from_request, time_of, to_nats

MANIFEST = event(type="m", source="/a b", subject='ä "x"\r\nNats-Msg-Id: 1', data={"id": "m-1"}, id="100% é")
PARENT = f"00-{'a' * 32}-{'b' * 16}-01"
OTHER = f"00-{'c' * 32}-{'d' * 16}-00"
CONTEXT = {"traceparent": PARENT, "tracestate": "v=1", "baggage": "user=a%20b"}


def test_the_contracts_form_has_the_document_alone_as_its_body() -> None:
    body, headers = to_nats([MANIFEST | {"traceparent": PARENT}], bare=True)
    assert json.loads(body) == {"id": "m-1"}
    assert headers["traceparent"] == PARENT
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
    (read,) = from_nats("event.m", {"traceparent": PARENT}, b'{"id": "m-1"}', fallback_id="s-17")
    assert (read["id"], read["subject"], read["data"]) == ("s-17", "event.m", {"id": "m-1"})
    assert read["traceparent"] == PARENT


def test_a_structured_event_keeps_the_trace_context_beside_it() -> None:
    body = json.dumps(MANIFEST).encode()
    (read,) = from_nats("event.m", {"Content-Type": STRUCTURED, "traceparent": PARENT}, body, fallback_id="x")
    assert (read["id"], read["data"], read["traceparent"]) == (MANIFEST["id"], MANIFEST["data"], PARENT)


def test_in_the_contracts_form_the_trace_context_is_in_headers_of_its_own_names_alone() -> None:
    body, headers = to_nats([MANIFEST | CONTEXT], bare=True)
    assert {name: value for name, value in headers.items() if not name.startswith("ce-")} == {
        **CONTEXT,
        "Content-Type": "application/json",
    }
    assert not [name for name in headers if name.removeprefix("ce-") in CONTEXT and name.startswith("ce-")]
    (read,) = from_nats("event.m", headers, body, fallback_id="x")
    assert {name: read[name] for name in CONTEXT} == CONTEXT


def test_an_event_without_a_trace_context_is_the_same_as_ever() -> None:
    assert event(type="m", source="s", subject="x", data=1, id="e", belongs_to={}) == {
        "specversion": "1.0",
        "id": "e",
        "source": "s",
        "type": "m",
        "subject": "x",
        "datacontenttype": "application/json",
        "data": 1,
    }
    assert not {*CONTEXT} & {*to_nats([MANIFEST], bare=True)[1]}


@pytest.mark.parametrize("odd", ["00-a-b-01", f"{PARENT}\r\nNats-Msg-Id: 1", f"ff{PARENT[2:]}", ""])
def test_a_trace_context_that_does_not_hold_goes_no_further(odd: str) -> None:
    headers = to_nats([MANIFEST | CONTEXT | {"traceparent": odd}], bare=True)[1]
    assert not {*CONTEXT} & {*headers}
    (read,) = from_nats("event.m", CONTEXT | {"traceparent": odd}, b"{}", fallback_id="x")
    assert not {*CONTEXT} & {*read}


def test_a_trace_context_of_the_event_itself_counts_and_is_not_mixed_with_the_one_beside_it() -> None:
    body = json.dumps(MANIFEST | {"traceparent": OTHER}).encode()
    (read,) = from_nats("event.m", CONTEXT | {"Content-Type": STRUCTURED}, body, fallback_id="x")
    assert {name: read[name] for name in CONTEXT if name in read} == {"traceparent": OTHER}


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
