"""Clients that let a gateway wait: more of them than it answers at a time, and everybody else is answered meanwhile."""

from __future__ import annotations

import contextlib
import select
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from local.keeper import base_environ
from local.server import GATEWAY_THREADS
from local.servers.process import answers, free_port, spawn, stop, wait_until

FUNCTIONS = """
import threading
from pathlib import Path

import flask
from pydantic import BaseModel

from cfm_core.function import http_function
from cfm_core.web.answers import json_value

HERE = Path(__file__).parent


class Thing(BaseModel):
    name: str = ""


@http_function("GET", "/quick", scope=None)
def quick(request: flask.Request) -> flask.Response:
    return json_value({"quick": True})


@http_function("GET", "/pages", scope=None)
def pages(request: flask.Request) -> flask.Response:
    return flask.Response(b"x" * (1 << 20) for _ in range(16))


@http_function("POST", "/things", scope=None, body=Thing, body_is_optional=True)
def make_thing(request: flask.Request, thing: Thing) -> flask.Response:
    return json_value({"name": thing.name}, 201)


@http_function("GET", "/thorough", scope=None)
def thorough(request: flask.Request) -> flask.Response:
    (HERE / "begun").touch()
    while not (HERE / "released").exists():
        threading.Event().wait(0.01)
    return json_value({"thorough": True})
"""

SERVER = """
import sys
from pathlib import Path

from cfm_core.web.router import Router
from local.server import FunctionApps, Gateway, Options, functions_of, serve

functions = functions_of(Path(sys.argv[1]))
options = Options(role="gateway", port=int(sys.argv[2]), patience=float(sys.argv[3]))
serve(options, lambda _: Gateway(Router(functions), FunctionApps().of))
"""

PATIENCE = 2.0
SLOW_CLIENTS = 8 * GATEWAY_THREADS
LATEST = 20.0
"""Seconds until a slow client has been sent away; many times the patience, for a busy machine."""


@dataclass(frozen=True, slots=True)
class Server:
    """A gateway with few functions and little patience."""

    port: int
    home: Path

    def connect(self) -> socket.socket:
        connection = socket.socket()
        # A client that reads nothing is to be felt early.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(LATEST)
        connection.connect(("127.0.0.1", self.port))
        return connection

    def ask(self, request: bytes) -> bytes:
        """The answer to ``request`` on a connection of its own, until the server closes it."""
        with contextlib.closing(self.connect()) as connection:
            connection.sendall(request)
            return rest_of(connection)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("slow")
    source, log, port = home / "slow_things.py", home / "server.log", free_port()
    source.write_text(FUNCTIONS)
    argv = [sys.executable, "-c", SERVER, str(source), str(port), str(PATIENCE)]
    process = spawn(argv, log=log, env=base_environ())
    try:
        wait_until(lambda: answers("127.0.0.1", port), process=process, log=log, what="the server")
        yield Server(port, home)
    finally:
        stop(process)


def head(method: str, path: str, *fields: str) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", *fields, "", ""]).encode()


def rest_of(connection: socket.socket) -> bytes:
    """What is still received until the connection ends, however it does."""
    received = bytearray()
    with contextlib.suppress(ConnectionError):
        while part := connection.recv(65536):
            received += part
    return bytes(received)


@contextlib.contextmanager
def slow_clients(server: Server, request: bytes) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(contextlib.closing(server.connect())) for _ in range(SLOW_CLIENTS)]
        for client in clients:
            client.sendall(request)
        yield clients


def send_until_refused(clients: Iterable[socket.socket], parts: Callable[[], bytes]) -> None:
    """Go on sending a part on each connection, until none takes more."""
    deadline = time.monotonic() + LATEST
    left = list(clients)
    while left:
        assert time.monotonic() < deadline, f"{len(left)} connections are still there"
        # A connection that has something to be read has been answered, or ended.
        done, _, _ = select.select(left, [], [], 0.1)
        left = [client for client in left if client not in done]
        for client in left:
            with contextlib.suppress(ConnectionError):
                client.sendall(parts())


def assert_others_are_answered(server: Server, slow: Iterable[socket.socket]) -> None:
    """Others are answered while all the slow clients are there."""
    assert server.ask(head("GET", "/quick", "Connection: close")).startswith(b"HTTP/1.1 200 ")
    request = head("POST", "/things", "Connection: close", "Content-Length: 12") + b'{"name":"x"}'
    assert server.ask(request).startswith(b"HTTP/1.1 201 ")
    ended = select.poll()
    for client in slow:
        ended.register(client, select.POLLRDHUP)
    assert ended.poll(0) == []


def test_clients_that_take_no_answer_are_sent_away(server: Server) -> None:
    with slow_clients(server, head("GET", "/pages")) as clients:
        assert_others_are_answered(server, clients)
        hung_up = select.poll()
        for client in clients:
            hung_up.register(client, select.POLLHUP)
        gone: set[int] = set()
        while len(gone) < len(clients):
            found = hung_up.poll(LATEST * 1000)
            assert found, f"{len(clients) - len(gone)} connections are still there"
            for descriptor, _ in found:
                hung_up.unregister(descriptor)
                gone.add(descriptor)


@pytest.mark.parametrize(
    ("fields", "sent"),
    [
        (["Content-Length: 12"], b""),
        (["Content-Length: 12"], b'{"name"'),
        (["Transfer-Encoding: chunked"], b""),
        (["Transfer-Encoding: chunked"], b'7\r\n{"name"\r\n'),
    ],
)
def test_bodies_that_stop_halfway_are_answered_with_408(server: Server, fields: list[str], sent: bytes) -> None:
    with slow_clients(server, head("POST", "/things", *fields) + sent) as clients:
        assert_others_are_answered(server, clients)
        for client in clients:
            answer = rest_of(client)
            assert answer.startswith(b"HTTP/1.1 408 "), answer
            assert b'"type":"/problems/request-timeout"' in answer
            assert b'"retryable":true' in answer


def test_bodies_that_trickle_in_are_answered_with_408(server: Server) -> None:
    with slow_clients(server, head("POST", "/things", "Content-Length: 1000000")) as clients:
        assert_others_are_answered(server, clients)
        send_until_refused(clients, lambda: b"x")
        for client in clients:
            assert rest_of(client).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("sent", [b"", b"GET /quick HT", b"GET /quick HTTP/1.1\r\nX: "])
def test_connections_without_a_whole_head_are_ended(server: Server, sent: bytes) -> None:
    with slow_clients(server, sent) as clients:
        assert_others_are_answered(server, clients)
        for client in clients:
            assert rest_of(client) == b""


def test_heads_that_trickle_in_are_ended(server: Server) -> None:
    with slow_clients(server, b"GET /quick HTTP/1.1\r\nX: ") as clients:
        assert_others_are_answered(server, clients)
        send_until_refused(clients, lambda: b"x")


def test_a_connection_is_kept_for_the_next_request_and_ended_at_rest(server: Server) -> None:
    with contextlib.closing(server.connect()) as connection:
        for _ in range(2):
            connection.sendall(head("GET", "/quick"))
            answer = connection.recv(65536)
            assert answer.endswith(b'{"quick":true}'), answer
        assert rest_of(connection) == b""


def test_an_endless_body_is_refused_as_too_large_before_its_end(server: Server) -> None:
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    with slow_clients(server, head("POST", "/things", "Transfer-Encoding: chunked")) as clients:
        assert_others_are_answered(server, clients)
        send_until_refused(clients, lambda: chunk)
    with contextlib.closing(server.connect()) as connection:
        # Just too large: nothing is on its way any more that could push the answer aside.
        connection.sendall(head("POST", "/things", "Transfer-Encoding: chunked") + 16 * chunk + b"1\r\nx\r\n")
        assert_is_too_large(rest_of(connection))


def test_a_body_that_is_announced_as_too_large_is_not_awaited(server: Server) -> None:
    assert_is_too_large(server.ask(head("POST", "/things", "Content-Length: 1048577")))


def assert_is_too_large(answer: bytes) -> None:
    assert answer.startswith(b"HTTP/1.1 413 "), answer
    assert b'"type":"/problems/content-too-large"' in answer


def test_who_waits_for_a_function_that_takes_long_is_answered(server: Server) -> None:
    with contextlib.closing(server.connect()) as patient, contextlib.closing(server.connect()) as slow:
        patient.sendall(head("GET", "/thorough", "Connection: close"))
        wait_for(server.home / "begun")
        # Ends at its time limit only when nobody waits for a function any more.
        slow.sendall(head("POST", "/things", "Content-Length: 12"))
        readable, _, _ = select.select([patient, slow], [], [], 2 * PATIENCE)
        assert readable == []
        (server.home / "released").touch()
        assert rest_of(patient).endswith(b'{"thorough":true}')
        assert rest_of(slow).startswith(b"HTTP/1.1 408 ")


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + LATEST
    while not path.exists():
        assert time.monotonic() < deadline, f"there is no {path}"
        threading.Event().wait(0.01)
