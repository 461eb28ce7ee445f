"""What an event function answers to each way of being called."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import functions_framework
import pytest
from werkzeug.test import Client, TestResponse

from cfm_core import deployment
from cfm_core.assembly import ServiceAssembler
from cfm_core.assembly.telemetry import json_handler
from cfm_core.contracts import event_tokens
from cfm_core.eventing.edge import MOST_BYTES
from cfm_core.settings import Settings

SOURCE = '''
from pydantic import BaseModel

from cfm_core import trace
from cfm_core.contracts.reply import OutboxRow, Reply
from cfm_core.errors import NotFoundError, RecoverableError
from cfm_core.eventing.edge import failure_of
from cfm_core.function import event_function


class Thing(BaseModel):
    name: str


@event_function(subject="event.things", data=Thing)
def take_some_things(events):
    """Takes things; some by their names badly."""
    reply = Reply()
    for event in events:
        match event.data.name:
            case "crash":
                raise KeyError("a secret of ours")
            case "away":
                reply.failures[event.id] = failure_of(RecoverableError("the shelf is away", retry_after=7))
            case "unknown":
                reply.failures[event.id] = failure_of(NotFoundError("thing", "unknown"))
            case "traced":
                reply.outbox.append(OutboxRow(2, "event.traced", [dict(event.trace)]))
            case "within":
                reply.outbox.append(OutboxRow(3, "event.within", [dict(trace.headers())]))
            case name:
                reply.outbox.append(OutboxRow(1, "event.taken", [{"id": name}]))
    return reply
'''
KEY = "the-key-of-the-trigger"
TOKEN = event_tokens.derived(KEY, "take_some_things")
BATCH = "application/cloudevents-batch+json"
STRUCTURED = "application/cloudevents+json"


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Any:
    source = tmp_path_factory.mktemp("functions") / "edge_things.py"
    source.write_text(SOURCE)
    create: Callable[[str, str], Any] = functions_framework.create_app
    return create("take_some_things", str(source))


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    """The file with what opens the function."""
    file = tmp_path / "tokens.json"
    file.write_text(event_tokens.dump([KEY], ["take_some_things"]))
    return file


@pytest.fixture
def client(app: Any, tokens: Path) -> Iterator[Client]:
    settings = Settings(
        event_tokens_file=str(tokens), auth_issuer="i", auth_audience="a", auth_jwks_url="file:///nowhere"
    )
    deployment.use(ServiceAssembler(deployment.assemblies(settings), settings))
    yield Client(app)
    deployment.use(None)


@pytest.fixture
def logs(client: Client) -> Iterator[io.StringIO]:
    """What is logged, as a process writes it."""
    handler = json_handler()
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(text := io.StringIO())
    logging.getLogger().addHandler(handler)
    yield text
    logging.getLogger().removeHandler(handler)


def an_event(name: str) -> dict[str, Any]:
    return {"specversion": "1.0", "id": f"id of {name}", "source": "test", "type": "thing", "data": {"name": name}}


def post(client: Client, body: object, content_type: str = BATCH, **headers: str) -> TestResponse:
    data = body if isinstance(body, str | bytes) else json.dumps(body)
    headers = {"Authorization": f"Bearer {TOKEN}"} | {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post("/", data=data, content_type=content_type, headers=headers)


ROW = {"id": 1, "subject": "event.taken", "events": [{"id": "pen"}]}


def test_a_batch_is_answered_with_what_became_of_each(client: Client) -> None:
    answer = post(client, [an_event("pen"), an_event("away"), an_event("unknown")])
    assert (answer.status_code, answer.json) == (
        200,
        {
            "failures": [
                {"id": "id of away", "status": 503, "reason": "the shelf is away", "retryAfter": 7},
                {"id": "id of unknown", "status": 422, "reason": "no thing 'unknown'"},
            ],
            "outbox": [ROW],
        },
    )


def test_an_event_whose_data_is_unfit_does_not_hold_the_others(client: Client) -> None:
    answer = post(client, [{**an_event("pen"), "id": "unfit", "data": {"name": 5}}, an_event("pen")])
    assert answer.json is not None
    assert [failure["id"] for failure in answer.json["failures"]] == ["unfit"]
    assert answer.json["failures"][0]["status"] == 422
    assert "name" in answer.json["failures"][0]["reason"]
    assert answer.json["outbox"] == [ROW]


def test_an_event_belongs_to_its_own_trace_or_else_to_that_of_the_request(client: Client) -> None:
    own, of_request = f"00-{'1' * 32}-{'1' * 16}-01", f"00-{'2' * 32}-{'2' * 16}-01"
    events = [{**an_event("traced"), "traceparent": own}, {**an_event("traced"), "id": "other"}]
    answer = post(client, events, traceparent=of_request)
    assert answer.json is not None
    assert [row["events"][0] for row in answer.json["outbox"]] == [{"traceparent": own}, {"traceparent": of_request}]


def test_what_is_done_for_events_of_one_trace_belongs_to_it_and_for_several_to_none(client: Client) -> None:
    one, other = (
        {"traceparent": f"00-{digit * 32}-{digit * 16}-01", "tracestate": "v=1", "baggage": "a=1"} for digit in "12"
    )

    def within(*contexts: dict[str, str]) -> list[dict[str, str]]:
        answer = post(client, [{**an_event("within"), "id": str(n)} | found for n, found in enumerate(contexts)])
        assert answer.json is not None
        return [row["events"][0] for row in answer.json["outbox"]]

    assert within(one, one) == [one, one]
    assert within(one, other) == [{}, {}]
    assert within(one, {}) == [{}, {}]
    assert within({"traceparent": "odd", "baggage": "a=1"}) == [{}]


def test_a_line_about_events_of_one_trace_says_which(client: Client, logs: io.StringIO) -> None:
    parent = f"00-{'1' * 32}-{'1' * 16}-01"
    post(client, [an_event("crash") | {"traceparent": parent}])
    post(client, [an_event("crash")])
    lines = [json.loads(line) for line in logs.getvalue().splitlines()]
    assert [line.get("traceparent") for line in lines if line["message"] == "take_some_things failed"] == [parent, None]


def test_a_single_event_is_answered_by_its_status_alone(client: Client) -> None:
    taken = post(client, an_event("pen"), STRUCTURED)
    assert (taken.status_code, taken.data) == (204, b"")
    away = post(client, an_event("away"), STRUCTURED)
    assert (away.status_code, away.headers["Retry-After"]) == (503, "7")
    assert post(client, an_event("unknown"), STRUCTURED).status_code == 422


def test_a_single_event_is_answered_with_the_report_where_that_is_preferred(client: Client) -> None:
    answer = post(client, an_event("pen"), STRUCTURED, Prefer="return=representation")
    assert (answer.status_code, answer.json) == (200, {"outbox": [ROW]})


def test_binary_mode_is_understood(client: Client) -> None:
    attributes = {"ce_specversion": "1.0", "ce_id": "1", "ce_source": "test", "ce_type": "thing"}
    assert post(client, {"name": "pen"}, "application/json", **attributes).status_code == 204
    assert post(client, {"name": "away"}, "application/json", **attributes).status_code == 503


def test_an_empty_batch_is_no_work(client: Client) -> None:
    answer = post(client, [])
    assert (answer.status_code, answer.json) == (200, {})


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ("{", BATCH),
        ("{}", BATCH),
        ('[{"id": "1"}]', BATCH),
        ("[5]", BATCH),
        ("{}", STRUCTURED),
        ("rubbish", STRUCTURED),
        ("{}", "application/json"),
    ],
)
def test_what_is_no_event_is_the_senders_mistake(client: Client, body: str, content_type: str) -> None:
    assert post(client, body, content_type).status_code == 400


@pytest.mark.parametrize("authorization", ["", "Bearer ", "Bearer another", "Basic x", "Bearer sch\xf6n"])
def test_only_the_trigger_is_listened_to(client: Client, authorization: str) -> None:
    assert post(client, [an_event("pen")], Authorization=authorization).status_code == 401


def test_a_token_of_another_function_opens_nothing_here(client: Client) -> None:
    for function in ("take_other_things", ""):
        shown = f"Bearer {event_tokens.derived(KEY, function)}"
        assert post(client, [an_event("pen")], Authorization=shown).status_code == 401


def test_a_stranger_does_not_learn_whether_the_function_works_nor_start_anything(client: Client) -> None:
    assert post(client, "{", Authorization="Bearer another").status_code == 401


def test_both_tokens_count_while_the_key_is_changed(client: Client, tokens: Path) -> None:
    shown = f"Bearer {event_tokens.derived('the-key-from-now-on', 'take_some_things')}"
    assert post(client, [an_event("pen")], Authorization=shown).status_code == 401
    tokens.write_text(event_tokens.dump(["the-key-from-now-on", KEY], ["take_some_things"]))
    assert post(client, [an_event("pen")], Authorization=shown).status_code == 200
    assert post(client, [an_event("pen")]).status_code == 200
    tokens.write_text(event_tokens.dump(["the-key-from-now-on"], ["take_some_things"]))
    assert post(client, [an_event("pen")], Authorization=shown).status_code == 200
    assert post(client, [an_event("pen")]).status_code == 401


def test_a_function_whose_tokens_are_missing_is_not_ready(client: Client, tokens: Path) -> None:
    tokens.unlink()
    answer = post(client, [an_event("pen")])
    assert answer.status_code == 503
    assert "tokens.json cannot be read" in answer.get_data(as_text=True)


def test_a_handler_that_crashes_fails_the_whole_batch(client: Client) -> None:
    assert post(client, [an_event("pen"), an_event("crash")]).status_code == 500
    assert post(client, an_event("crash"), STRUCTURED).status_code == 500


def test_without_a_token_of_its_own_a_function_takes_nothing(app: Any) -> None:
    settings = Settings(auth_issuer="i", auth_audience="a", auth_jwks_url="file:///nowhere")
    deployment.use(ServiceAssembler(deployment.assemblies(settings), settings))
    assert post(Client(app), [an_event("pen")]).status_code == 503
    deployment.use(None)


def test_nothing_is_read_of_what_strangers_send(client: Client) -> None:
    class Endless(io.RawIOBase):
        taken = 0

        def readinto(self, buffer: Any) -> int:
            Endless.taken += len(buffer)
            assert Endless.taken < 10_000_000
            buffer[:] = b"x" * len(buffer)
            return len(buffer)

        def readable(self) -> bool:
            return True

    environ = {"wsgi.input": Endless(), "CONTENT_LENGTH": "1000000000"}
    answer = client.post("/", environ_overrides=environ, content_type=BATCH)
    assert (answer.status_code, Endless.taken) == (401, 0)


@pytest.mark.parametrize(
    ("headers", "length", "status"),
    [({"Content-Encoding": "gzip"}, 10, 415), ({}, MOST_BYTES + 1, 413)],
)
def test_deliveries_that_are_compressed_or_too_large_are_refused(
    client: Client, headers: dict[str, str], length: int, status: int
) -> None:
    told = {"Authorization": f"Bearer {TOKEN}", "Content-Type": BATCH, **headers}
    assert client.post("/", headers=told, environ_overrides={"CONTENT_LENGTH": str(length)}).status_code == status


def test_answers_are_kept_by_nobody(client: Client) -> None:
    for answer in (client.get("/"), client.post("/", data=b"")):
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
