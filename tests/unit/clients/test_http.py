"""What an outcome of an HTTP call means to the one who called."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx2
import pytest

from cfm_core import trace
from cfm_core.clients.destinations import Destinations
from cfm_core.clients.http import LONGEST_MESSAGE, MOST_IDLE, Answer, HttpClient, segment
from cfm_core.errors import FatalError, RecoverableError

URL = "http://user:pw@hub:7081/api?secret=1"


def client(handler: Callable[[httpx2.Request], httpx2.Response]) -> HttpClient:
    return HttpClient(transport=httpx2.MockTransport(handler))


def answering(status: int, body: str = "", **headers: str) -> HttpClient:
    return client(lambda request: httpx2.Response(status, text=body, headers=headers))


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_any_2xx_is_given(status: int) -> None:
    assert answering(status).send("GET", URL).status == status


def test_a_status_that_the_caller_expects_is_given() -> None:
    assert answering(409, "x").send("POST", URL, expect=(404, 409)).body == b"x"


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_a_status_that_passes_is_recoverable(status: int) -> None:
    with pytest.raises(RecoverableError, match=f"GET http://hub:7081/api answered {status}: unwell"):
        answering(status, "unwell").send("GET", URL)


@pytest.mark.parametrize("status", [301, 307, 400, 401, 403, 404, 405, 409, 422, 501, 505])
def test_any_other_status_is_fatal(status: int) -> None:
    with pytest.raises(FatalError, match=f"answered {status}"):
        answering(status, "no", Location="http://elsewhere").send("GET", URL)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [("7", 7.0), ("0.5", 0.5), ("-3", 0.0), ("soon", None), ("", None), ("99999999", None)],
)
def test_retry_after_is_kept(said: str, seconds: float | None) -> None:
    with pytest.raises(RecoverableError) as caught:
        answering(503, **{"Retry-After": said}).send("GET", URL)
    assert caught.value.retry_after == seconds


def test_retry_after_may_be_a_date() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    with pytest.raises(RecoverableError) as caught:
        answering(429, **{"Retry-After": date}).send("GET", URL)
    assert caught.value.retry_after == pytest.approx(100, abs=2)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (httpx2.ConnectTimeout("x"), "no connection within 5 s"),
        (httpx2.ReadTimeout("x"), "no answer within 10 s"),
        (httpx2.WriteTimeout("x"), "no answer within 10 s"),
        (httpx2.ConnectError("refused"), "ConnectError: refused"),
        (httpx2.ReadError("reset"), "ReadError: reset"),
        (httpx2.RemoteProtocolError("gone"), "RemoteProtocolError: gone"),
    ],
)
def test_no_answer_is_recoverable_and_says_what_was_waited_for(error: Exception, words: str) -> None:
    def fail(request: httpx2.Request) -> httpx2.Response:
        raise error

    with pytest.raises(RecoverableError, match=words) as caught:
        client(fail).send("GET", URL)
    assert "pw" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_an_address_that_is_none_is_fatal() -> None:
    with pytest.raises(FatalError, match="the address is wrong"):
        HttpClient().send("GET", "hub:7081")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('[{"message":"no such thing","type":"ObjectNotFound"}]', "no such thing"),
        ('{"error":"unauthorized_client"}', "unauthorized_client"),
        ('{"message":"m","error":"e"}', "m"),
        ('{"errorMessage":"exists"}', "exists"),
        ("[]", "[]"),
        ("[7]", "[7]"),
        ("plain\n  text", "plain text"),
        ("", ""),
        ("x" * 999, "x" * (LONGEST_MESSAGE - 1) + "…"),
    ],
)
def test_the_servers_message_is_found_whatever_form_it_has(body: str, message: str) -> None:
    assert Answer("GET x", 400, {}, body.encode()).message == message


def test_a_body_that_is_not_utf8_does_no_harm() -> None:
    assert Answer("GET x", 400, {}, b"\xff!").message == "\ufffd!"


@pytest.mark.parametrize(("read", "body"), [("json", b"<"), ("object", b"[]"), ("objects", b"{}"), ("objects", b"[1]")])
def test_a_body_of_another_form_is_fatal(read: str, body: bytes) -> None:
    with pytest.raises(FatalError, match="GET x answered 200 with something that is not"):
        getattr(Answer("GET x", 200, {}, body), read)()


def test_a_segment_is_encoded_but_for_colons() -> None:
    assert segment("a:b/c%3A d") == "a:b%2Fc%253A%20d"


def test_a_call_belongs_to_the_trace_of_what_it_is_made_for() -> None:
    parent = f"00-{'a' * 32}-{'b' * 16}-01"
    seen = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        seen.append((request.headers.get("traceparent"), request.headers["authorization"]))
        return httpx2.Response(200)

    with trace.within({"traceparent": parent}):
        client(handler).send("GET", "http://hub/", bearer="t")
    client(handler).send("GET", "http://hub/", bearer="t")
    assert seen == [(parent, "Bearer t"), (None, "Bearer t")]


@pytest.mark.parametrize("named_by_data", [True, False])
def test_what_callers_tell_each_other_is_for_no_address_that_comes_from_data(named_by_data: bool) -> None:
    context = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "tracestate": "v=1", "baggage": "user=ann"}
    seen = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        seen.append({name: request.headers[name] for name in trace.NAMES if name in request.headers})
        return httpx2.Response(200, content=iter([b"{}"]))

    only_to = Destinations.of("10.0.0.0/8") if named_by_data else None
    with trace.within(context):
        HttpClient(transport=httpx2.MockTransport(handler), only_to=only_to).send("GET", "http://10.0.0.1/")
    assert seen == [{name: context[name] for name in context if name != "baggage" or not named_by_data}]


class Server:
    """A transport that holds answers back until it is told to go on, and knows how many are with it at a time."""

    def __init__(self) -> None:
        self.inside = threading.Semaphore(0)
        self.go_on = threading.Event()
        self.fails = False
        self.closed = 0

    def client(self) -> HttpClient:
        server = self

        class Transport(httpx2.BaseTransport):
            def handle_request(self, request: httpx2.Request) -> httpx2.Response:
                server.inside.release()
                assert server.go_on.wait(10)
                if server.fails:
                    raise httpx2.ReadError("reset")
                return httpx2.Response(200)

            def close(self) -> None:
                server.closed += 1

        return HttpClient(transport=Transport())


def test_calls_at_the_same_time_do_not_wait_for_each_other_and_what_is_used_again_is_closed_once() -> None:
    server = Server()
    client = server.client()
    with ThreadPoolExecutor(100) as threads:
        calls = [threads.submit(client.send, "GET", URL) for _ in range(100)]
        for _ in range(100):
            assert server.inside.acquire(timeout=10)
        server.go_on.set()
        assert {call.result().status for call in calls} == {200}
    # So many more than are kept were needed at a time.
    assert server.closed == 100 - MOST_IDLE
    for _ in range(10):
        client.send("GET", URL)
    assert server.closed == 100 - MOST_IDLE
    client.close()
    assert server.closed == 100


def test_a_call_that_is_under_way_when_the_client_is_closed_ends_well_and_keeps_nothing() -> None:
    server = Server()
    client = server.client()
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(client.send, "GET", URL)
        assert server.inside.acquire(timeout=10)
        client.close()
        assert server.closed == 0
        server.go_on.set()
        assert call.result().status == 200
    assert server.closed == 1


def test_a_call_that_fails_gives_its_connections_back() -> None:
    server = Server()
    server.go_on.set()
    client = server.client()
    for server.fails in (True, False, True, False):
        with contextlib.suppress(RecoverableError):
            client.send("GET", URL)
    client.close()
    assert server.closed == 1
