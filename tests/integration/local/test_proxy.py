"""The gateway of a stack in which every function has a process of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import flask
import pytest
from werkzeug.test import Client

from cfm_core.declaration import HttpFunction
from cfm_core.function import http_function
from cfm_core.web.body import LIMIT
from cfm_core.web.router import Router
from local.admission import Admission
from local.connections import Connections
from local.proxy import Upstreams
from local.server import Gateway
from local.servers.process import free_port


@http_function("POST", "/proxied/{name}", scope=None)
def proxied_function(request: flask.Request, name: str) -> flask.Response:
    """Is declared for its route only: what answers is the upstream."""
    return flask.Response(status=500)


class Echo(BaseHTTPRequestHandler):
    """Answers with what it was asked."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        if int(self.headers["Content-Length"]) > LIMIT:
            self.send_error(413)
            return
        body = self.rfile.read(int(self.headers["Content-Length"]))
        seen = {"Host", "Authorization", "Content-Type", "X-Request-Id"}
        headers = "".join(f"{name}: {value}\n" for name, value in sorted(self.headers.items()) if name in seen)
        answer = f"{self.command} {self.path}\n{headers}\n".encode() + body
        self.send_response(201)
        self.send_header("Location", "/somewhere")
        self.send_header("Connection", "close")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture
def upstream() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def gateway(port: int) -> Client:
    declaration = proxied_function.declaration
    assert isinstance(declaration, HttpFunction)
    return Client(Gateway(Router([declaration]), Upstreams({"proxied_function": port}).of))


def test_a_request_arrives_as_it_was_sent_and_its_answer_as_it_was_given(upstream: int) -> None:
    answer = gateway(upstream).post(
        "/proxied/%E2%82%AC%20x?limit=1&q=a%3Db",
        data=b"\x00 body",
        headers={"Authorization": "Bearer t", "X-Request-Id": "r", "Content-Type": "text/x", "Host": "cfm.example"},
    )
    assert (answer.status_code, answer.headers["Location"]) == (201, "/somewhere")
    assert "Connection" not in answer.headers
    assert answer.data == (
        b"POST /proxied/%E2%82%AC%20x?limit=1&q=a%3Db\n"
        b"Authorization: Bearer t\nContent-Type: text/x\nHost: cfm.example\nX-Request-Id: r\n\n\x00 body"
    )


def test_a_body_that_is_too_large_is_refused_by_the_function(upstream: int) -> None:
    connections = Connections(free_port(), patience=30)
    client = Client(Admission(gateway(upstream).application, 1, connections))
    assert client.post("/proxied/x", data=b"x" * LIMIT).status_code == 201
    assert client.post("/proxied/x", data=b"x" * (LIMIT + 1)).status_code == 413


def test_a_function_that_is_away_is_503_and_worth_another_try(tmp_path: Path) -> None:
    answer = gateway(free_port()).post("/proxied/x", data=b"")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert answer.json is not None
    assert answer.json["retryable"] is True
