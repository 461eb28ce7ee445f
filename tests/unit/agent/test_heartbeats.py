"""What an agent says of how far it is, and what becomes of that."""

from __future__ import annotations

import json
import socket
import time

import httpx2
import pytest

from cfm_core.agent import ActivityContext, ActivityEnvironment, ActivityResult, Complete, Fatal, Retry
from cfm_core.agent.heartbeats import Heartbeats
from cfm_core.clients.http import HttpClient
from cfm_core.contracts.activity import ActivityDispatch, Address

ADDRESS = Address(url="http://cfm/api/v1alpha1/orchestrations/o/activities/a/heartbeat", token="t")


def heartbeats(status: int, seen: list[httpx2.Request]) -> Heartbeats:
    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return httpx2.Response(status, json={})

    return Heartbeats(HttpClient(transport=httpx2.MockTransport(answer)))


def test_a_heartbeat_is_a_post_with_the_token_of_the_dispatch() -> None:
    seen: list[httpx2.Request] = []
    assert heartbeats(200, seen).send(ADDRESS, {"n": 1})
    (request,) = seen
    assert (request.method, str(request.url)) == ("POST", ADDRESS.url)
    assert json.loads(request.content) == {"token": "t", "progress": {"n": 1}}


@pytest.mark.parametrize(("status", "wanted"), [(409, False), (404, False), (503, True), (500, True), (400, True)])
def test_only_an_attempt_that_is_superseded_is_not_wanted_any_more(status: int, wanted: bool) -> None:
    assert heartbeats(status, []).send(ADDRESS, None) is wanted


def test_without_an_address_nothing_is_sent() -> None:
    seen: list[httpx2.Request] = []
    assert heartbeats(409, seen).send(None, 1)
    assert seen == []


class Working:
    def __init__(self, *progress: object) -> None:
        self._progress = progress

    def deploy(self, ctx: ActivityContext) -> ActivityResult:
        for one in self._progress:
            if not ctx.heartbeat(one):
                return Retry("superseded")
        return Complete()


def test_a_test_sees_the_progress() -> None:
    env = ActivityEnvironment()
    assert env.run(Working("half")) == Complete()
    assert env.progress == "half"


@pytest.mark.parametrize(("progress", "words"), [("x" * 1999, "2000 bytes"), (object(), "not JSON")])
def test_progress_that_cannot_be_sent_is_fatal(progress: object, words: str) -> None:
    env = ActivityEnvironment()
    result = env.run(Working(progress))
    assert isinstance(result, Fatal)
    assert words in result.reason
    assert env.progress is None


def test_progress_with_a_secret_is_fatal_and_does_not_show_it() -> None:
    class Talkative:
        def deploy(self, ctx: ActivityContext) -> ActivityResult:
            ctx.heartbeat(f"logged in with {ctx.secrets['password']}")
            return Complete()

    Talkative.__activity__ = type("Declared", (), {"activity_type": "t", "secrets": ("password",)})  # type: ignore[attr-defined]
    result = ActivityEnvironment(secrets={"password": "swordfish-1"}).run(Talkative())
    assert isinstance(result, Fatal)
    assert "swordfish-1" not in result.reason


def test_of_many_calls_within_a_second_one_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[object] = []

    def beat(progress: object) -> bool:
        sent.append(progress)
        return False

    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    ctx = ActivityContext(
        ActivityDispatch(
            orchestration_id="o",
            phase=0,
            ord=0,
            token="t",
            activity_id="a",
            activity_type="t",
            discriminator="x",
            correlation_id="c",
            attempt=1,
        ),
        beat=beat,
    )
    assert [ctx.heartbeat(n) for n in range(3)] == [False, False, False]
    now = 101.0
    ctx.heartbeat(3)
    assert sent == [0, 3]


def test_no_heartbeat_goes_where_its_address_must_not_lead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CFM_OUTBOUND_NETWORKS", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as inside:
        inside.setblocking(False)
        address = Address(url=f"http://127.0.0.1:{inside.getsockname()[1]}/", token="t")
        assert Heartbeats().send(address, None)
        with pytest.raises(BlockingIOError):
            inside.accept()
