"""The control surface: faults, state, and who may use it; and the process around the stand-ins."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from tests.contract.standins.conftest import SECRET, Platform

JWKS = "/jwtlet/.well-known/jwks.json"


def fault(platform: Platform, **described: Any) -> httpx2.Response:
    return platform.call("POST", "/_control/faults", {"service": "jwtlet", **described}, bearer=SECRET)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/state"),
        ("GET", "/calls"),
        ("GET", "/traces"),
        ("GET", "/faults"),
        ("POST", "/faults"),
        ("DELETE", "/faults"),
        ("POST", "/keys"),
        ("POST", "/calendar"),
    ],
)
def test_the_control_surface_takes_its_own_token_only(platform: Platform, method: str, path: str) -> None:
    for bearer in ("", "wrong", platform.service_token()):
        assert platform.call(method, f"/_control{path}", bearer=bearer).status_code == 401


def test_health_is_told_to_everybody(platform: Platform) -> None:
    assert platform.call("GET", "/health").status_code == 200


def test_a_fault_lasts_as_often_as_it_was_told(platform: Platform) -> None:
    fault(platform, status=503, times=2, retryAfter=1.5)
    answers = [platform.call("GET", JWKS) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [503, 503, 200]
    assert answers[0].headers["Retry-After"] == "1.5"


def test_a_fault_without_times_lasts_until_it_is_removed(platform: Platform) -> None:
    fault(platform, status=500)
    assert {platform.call("GET", JWKS).status_code for _ in range(5)} == {500}
    assert len(platform.call("GET", "/_control/faults", bearer=SECRET).json()) == 1
    assert platform.call("DELETE", "/_control/faults", bearer=SECRET).status_code == 204
    assert platform.call("GET", JWKS).status_code == 200


def test_a_fault_meets_only_the_requests_that_it_describes(platform: Platform) -> None:
    fault(platform, status=500, method="post", path="/mappings")
    assert platform.call("GET", JWKS).status_code == 200
    assert platform.call("GET", "/jwtlet/api/v1/mappings").status_code == 401
    assert platform.call("POST", "/jwtlet/api/v1/mappings").status_code == 500
    assert platform.call("GET", "/vault/v1/secret/data/a").status_code == 403


def test_the_path_of_a_fault_is_an_expression(platform: Platform) -> None:
    fault(platform, status=500, path="/mappings$")
    assert platform.call("POST", "/jwtlet/api/v1/mappings").status_code == 500
    assert platform.call("DELETE", "/jwtlet/api/v1/mappings/client").status_code == 401


@pytest.mark.parametrize("wrong", [{}, [], {"aheadSeconds": "soon"}, {"aheadSeconds": 1e300}, None], ids=str)
def test_a_calendar_that_makes_no_sense_is_refused(platform: Platform, wrong: Any) -> None:
    assert platform.call("POST", "/_control/calendar", wrong, bearer=SECRET).status_code == 400


def test_the_calls_of_each_service_are_counted_whatever_comes_of_them(platform: Platform) -> None:
    fault(platform, status=500, times=1)
    for path in (JWKS, JWKS, "/vault/v1/secret/data/a"):
        platform.call("GET", path)
    counted = platform.call("GET", "/_control/calls", bearer=SECRET).json()
    assert {name: count for name, count in counted.items() if count} == {"jwtlet": 2, "vault": 1}


def test_the_trace_contexts_of_requests_are_told_once_each(platform: Platform) -> None:
    first, second = {"traceparent": "one", "baggage": "a=1"}, {"traceparent": "two", "tracestate": "v=1"}
    for headers in (first, second, first, {}):
        platform.call("GET", JWKS, **headers)
    seen = platform.call("GET", "/_control/traces", bearer=SECRET).json()
    assert {name: found for name, found in seen.items() if found} == {"jwtlet": [first, second, {}]}


def test_no_more_trace_contexts_are_remembered_than_are_of_use(platform: Platform) -> None:
    for number in range(120):
        platform.call("GET", JWKS, traceparent=str(number))
    seen = platform.call("GET", "/_control/traces", bearer=SECRET).json()["jwtlet"]
    assert [one["traceparent"] for one in seen] == [str(number) for number in range(20, 120)]


def test_a_dropped_connection_has_no_answer(platform: Platform) -> None:
    fault(platform, drop=True, times=1)
    with pytest.raises(httpx2.RemoteProtocolError):
        platform.call("GET", JWKS)


def test_after_the_effect_the_request_has_taken_effect_all_the_same(platform: Platform) -> None:
    fault(platform, status=502, afterEffect=True, times=1)
    mapping = {"clientIdentifier": "c", "participantContext": "pc", "scopes": []}
    answer = platform.call("POST", "/jwtlet/api/v1/mappings", mapping, bearer=platform.service_token())
    assert answer.status_code == 502
    state = platform.call("GET", "/_control/state", bearer=SECRET).json()
    assert [one["participantContext"] for one in state["jwtlet"]["mappings"]] == ["pc"]


def test_what_hangs_is_let_go_when_faults_are_removed_and_others_are_served_meanwhile(platform: Platform) -> None:
    fault(platform, hang=True, path="/.well-known")
    with ThreadPoolExecutor(1) as threads:
        hanging = threads.submit(platform.call, "GET", JWKS)
        assert platform.call("GET", "/jwtlet/health").status_code == 200
        while not hanging.done():
            platform.call("DELETE", "/_control/faults", bearer=SECRET)
        # Either it came to hang and was let go without an answer, or the fault was gone before it came.
        assert isinstance(hanging.exception(), httpx2.RemoteProtocolError | None)


def test_a_fault_that_flaps_comes_and_goes(platform: Platform) -> None:
    fault(platform, status=503, flapping=[2, 1], times=3)
    seen = [platform.call("GET", JWKS).status_code for _ in range(7)]
    assert seen == [503, 503, 200, 503, 200, 200, 200]


def test_a_fault_that_flaps_counts_only_the_requests_that_fit(platform: Platform) -> None:
    fault(platform, status=503, flapping=[1, 1], method="GET")
    seen = []
    for _ in range(3):
        seen.append(platform.call("GET", JWKS).status_code)
        platform.call("POST", "/jwtlet/token")
    assert seen == [503, 200, 503]


@pytest.mark.parametrize(
    "described",
    [
        {},
        {"status": "many"},
        {"status": 500, "wrong": 1},
        {"service": "nobody", "status": 500},
        {"times": 1},
        {"status": 500, "path": "("},
        {"status": 500, "flapping": 2},
        {"status": 500, "flapping": [0, 1]},
        {"status": 500, "flapping": [1, 2, 3]},
    ],
    ids=str,
)
def test_a_fault_that_makes_no_sense_is_400(platform: Platform, described: dict[str, Any]) -> None:
    assert fault(platform, **described).status_code == 400


def test_the_state_holds_no_secret(platform: Platform) -> None:
    platform.call("POST", "/vault/v1/secret/data/a", {"data": {"content": "s3cret"}}, **{"X-Vault-Token": SECRET})
    answer = platform.call("GET", "/_control/state", bearer=SECRET)
    assert answer.json()["vault"]["secrets"] == [{"mount": "secret", "path": "a", "versions": 1}]
    assert "s3cret" not in answer.text


def run(*arguments: str, token: str = SECRET) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "local.standins", *arguments],
        env=os.environ | {"CFM_STANDINS_TOKEN": token},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_process_serves_until_it_is_told_to_stop() -> None:
    with run("--port", "0") as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        assert httpx2.get(f"{url}/health").status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


def test_a_process_without_a_token_does_not_start() -> None:
    with run("--port", "0", token="") as process:
        assert "CFM_STANDINS_TOKEN" in process.communicate(timeout=10)[1]
        assert process.returncode == 2


def test_a_port_that_is_taken_is_named(platform: Platform) -> None:
    port = platform.standins.url.rpartition(":")[2]
    with run("--port", port) as process:
        assert f"cannot listen on 127.0.0.1:{port}" in process.communicate(timeout=10)[1]
        assert process.returncode == 1
