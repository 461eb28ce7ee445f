"""The processes that serve functions: routes, internal paths, and their end."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from werkzeug.test import Client, TestResponse

from cfm_core import deployment
from cfm_core.assembly import ServiceAssembler
from cfm_core.contracts import event_tokens
from cfm_core.declaration import HttpFunction
from cfm_core.errors import FatalError
from cfm_core.settings import Settings
from cfm_core.web.router import Router
from local import health
from local.keeper import base_environ
from local.server import INTERNAL, FunctionApps, Gateway, Named, functions_of
from local.servers.process import free_port, spawn, stop, wait_until
from tests.support.tokens import Issuer

EVENT_KEY = "the-key-of-the-trigger"
EVENT_TOKEN = event_tokens.derived(EVENT_KEY, "take_things")

FUNCTIONS = """
import threading
from pathlib import Path

import flask

from cfm_core.function import event_function, http_function
from cfm_core.contracts.reply import Reply
from cfm_core.web.answers import json_value

HERE = Path(__file__).parent


@http_function("GET", "/api/v1alpha1/things/{thing_id}", scope="things:read")
def get_thing(request: flask.Request, thing_id: str) -> flask.Response:
    return json_value({"id": thing_id})


@http_function("POST", "/api/v1alpha1/things", scope="things:write")
def create_thing(request: flask.Request) -> flask.Response:
    return json_value({"made": request.get_json()}, 201)


@http_function("GET", "/open", scope=None)
def open_to_all(request: flask.Request) -> flask.Response:
    return json_value({"open": True})


@event_function(subject="event.cfm.things")
def take_things(events) -> Reply:
    (HERE / "begun").touch()
    while not (HERE / "released").exists():
        threading.Event().wait(0.01)
    return Reply()
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("functions") / "some_things.py"
    path.write_text(FUNCTIONS)
    return path


@pytest.fixture
def issuer(tmp_path: Path) -> Issuer:
    return Issuer(tmp_path)


@pytest.fixture
def gateway(source: Path, issuer: Issuer) -> Iterator[Client]:
    settings = Settings.from_environ(issuer.environ | {"CFM_STORE": "memory"})
    deployment.use(ServiceAssembler(deployment.assemblies(settings), settings))
    http = [function for function in functions_of(source) if isinstance(function, HttpFunction)]
    yield Client(Gateway(Router(http), FunctionApps().of))
    deployment.use(None)


def ask(client: Client, method: str, path: str, issuer: Issuer | None = None) -> TestResponse:
    scopes = ("things:read", "things:write")
    headers = {"Authorization": f"Bearer {issuer.token(*scopes)}"} if issuer else {}
    return client.open(path, method=method, headers=headers, json={} if method == "POST" else None)


def test_a_request_reaches_the_function_of_its_route_with_its_variables(gateway: Client, issuer: Issuer) -> None:
    assert ask(gateway, "GET", "/api/v1alpha1/things/7", issuer).json == {"id": "7"}
    assert ask(gateway, "POST", "/api/v1alpha1/things", issuer).status_code == 201


def test_a_path_variable_may_hold_any_character(gateway: Client, issuer: Issuer) -> None:
    assert ask(gateway, "GET", "/api/v1alpha1/things/%E2%82%AC%20%22", issuer).json == {"id": '€ "'}


def test_head_is_answered_like_get_without_a_body(gateway: Client, issuer: Issuer) -> None:
    answer = ask(gateway, "HEAD", "/api/v1alpha1/things/7", issuer)
    assert (answer.status_code, answer.data, answer.headers["Content-Length"]) == (200, b"", "10")


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/api/v1alpha1/nothing"), ("PUT", "/api/v1alpha1/things"), ("GET", "/api/v1alpha1")],
)
def test_below_the_api_a_token_is_asked_for_before_anything_is_told(gateway: Client, method: str, path: str) -> None:
    answer = ask(gateway, method, path)
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, 'Bearer realm="cfm"')
    assert answer.json is not None
    assert answer.json["error"] == "Unauthorized"


def test_an_unknown_path_is_404_in_plain_text(gateway: Client, issuer: Issuer) -> None:
    for path, who in (("/api/v1alpha1/nothing", issuer), ("/elsewhere", None)):
        answer = ask(gateway, "GET", path, who)
        assert (answer.status_code, answer.text) == (404, "404 page not found\n")
        assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"


def test_an_unknown_method_is_405_without_a_body(gateway: Client, issuer: Issuer) -> None:
    for path, who, allowed in (("/api/v1alpha1/things", issuer, "POST"), ("/open", None, "GET, HEAD")):
        answer = ask(gateway, "PUT", path, who)
        assert (answer.status_code, answer.headers["Allow"], answer.data) == (405, allowed, b"")
        assert "Content-Type" not in answer.headers


def test_the_gateway_serves_no_event_function_and_no_internal_path(gateway: Client) -> None:
    assert ask(gateway, "POST", "/take_things").status_code == 404
    assert ask(gateway, "GET", INTERNAL).status_code == 404


def test_an_internal_server_tells_what_it_serves_and_where(source: Path) -> None:
    client = Client(Named(functions_of(source), "http://127.0.0.1:1234"))
    described = {function["name"]: function["target"] for function in client.get(INTERNAL).json or ()}
    assert list(described) == ["get_thing", "create_thing", "open_to_all", "take_things"]
    assert described["take_things"] == {
        "name": "take_things",
        "url": "http://127.0.0.1:1234/take_things",
        "subject": "event.cfm.things",
        "every": None,
        "batch": 256,
        "slots": 2,
        "timeout": "PT30S",
        "activity": None,
        "ofAgent": False,
    }
    assert client.get("/elsewhere").status_code == 404


def test_a_file_that_declares_nothing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty_agent.py"
    path.write_text("x = 1\n")
    with pytest.raises(FatalError, match="declares no function"):
        functions_of(path)


def test_a_file_may_not_be_named_like_a_module_of_python(tmp_path: Path) -> None:
    path = tmp_path / "secrets.py"
    path.write_text("x = 1\n")
    with pytest.raises(FatalError, match="rename it"):
        functions_of(path)


@contextmanager
def served(source: Path, port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    tokens = log.with_suffix(".tokens")
    tokens.write_text(event_tokens.dump([EVENT_KEY], ["take_things"]))
    process = spawn(
        [sys.executable, "-m", "local.server", "file", "--port", str(port), "--source", source],
        log=log,
        env=base_environ() | {"CFM_EVENT_TOKENS_FILE": str(tokens)},
    )
    try:
        check = f"http://127.0.0.1:{port}{INTERNAL}"
        wait_until(lambda: health.healthy(check), process=process, log=log, what="the server")
        yield process
    finally:
        stop(process)


def test_a_request_in_hand_is_answered_before_the_server_ends(source: Path, tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "server.log"
    with served(source, port, log) as process:
        call = [sys.executable, "-c", CALL, str(port), EVENT_TOKEN]
        with subprocess.Popen(call, stdout=subprocess.PIPE, text=True) as caller:
            wait_until((source.parent / "begun").exists, process=process, log=log, what="the call")
            process.send_signal(signal.SIGTERM)
            wait_until(lambda: "Shutting down" in log.read_text(), process=process, log=log, what="the end")
            (source.parent / "released").touch()
            assert caller.communicate(timeout=20)[0] == "200 {}\n"
        assert process.wait(20) == 0


CALL = """
import http.client, json, sys

connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=30)
batch = json.dumps([{"id": "1", "source": "s", "type": "t", "specversion": "1.0"}])
headers = {"Content-Type": "application/cloudevents-batch+json", "Authorization": f"Bearer {sys.argv[2]}"}
connection.request("POST", "/take_things", batch, headers)
answer = connection.getresponse()
print(answer.status, answer.read().decode())
"""
