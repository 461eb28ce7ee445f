"""Abuse of a gateway as it is served, over sockets: each request is refused as it should be, changes nothing, and while it is
under way somebody else is answered."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import json
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

import pytest

from cfm_core.store.database import Database, connect
from local.keeper import base_environ
from local.servers.postgres import EmbeddedPostgres
from local.servers.process import answers, free_port, spawn, stop, wait_until
from tests.integration.http.api import BASE, contents
from tests.support.tokens import Issuer

CONSOLE = "https://console.example"
LATEST = 20.0
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Answer:
    """``head`` has its names in lower case."""

    status: int
    head: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway in a process of its own, over a database of its own."""

    port: int
    database: Database
    token: str
    issuer: Issuer

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), LATEST)

    def send(self, raw: bytes) -> bytes:
        """All that is answered to ``raw``, on a connection of its own."""
        with contextlib.closing(self.connect()) as connection:
            with contextlib.suppress(ConnectionError):
                connection.sendall(raw)
            return rest_of(connection)

    def ask(self, method: str, path: str, *fields: str, body: bytes = b"", token: str | None = None) -> Answer:
        """The answer to a whole request; ``token`` is the gateway's unless another is given, or an empty one for none."""
        return parsed(self.send(self.request(method, path, *fields, body=body, token=token)))

    def request(self, method: str, path: str, *fields: str, body: bytes = b"", token: str | None = None) -> bytes:
        token = self.token if token is None else token
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", *fields]
        lines += [f"Authorization: Bearer {token}"] if token else []
        if body and not any(field.startswith(("Content-Length", "Transfer-Encoding")) for field in fields):
            lines.append(f"Content-Length: {len(body)}")
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def rest_of(connection: socket.socket) -> bytes:
    received = bytearray()
    with contextlib.suppress(ConnectionError):
        while part := connection.recv(65536):
            received += part
    return bytes(received)


def parsed(answer: bytes) -> Answer:
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    return Answer(
        int(first.split()[1]) if first else 0,
        {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)},
        body,
    )


Start = Callable[..., AbstractContextManager[Gateway]]


@pytest.fixture(scope="module")
def start(postgres: EmbeddedPostgres, template: str, tmp_path_factory: pytest.TempPathFactory) -> Start:
    """Starts a gateway whose environment has these variables, too."""
    issuer = Issuer(tmp_path_factory.mktemp("issuer"))

    @contextlib.contextmanager
    def started(**environ: str) -> Iterator[Gateway]:
        name, port = f"abuse_{next(_numbers)}", free_port()
        log = tmp_path_factory.mktemp(name) / "server.log"
        administrator = connect(postgres.url("postgres"))
        administrator.run(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        told = issuer.environ | {"CFM_DATABASE_URL": postgres.url(name), "CFM_COMPLETION_KEY": "k"} | environ
        argv = [sys.executable, "-m", "local.server", "gateway", "--port", str(port)]
        process = spawn(argv, log=log, env=base_environ() | told)
        try:
            wait_until(lambda: answers("127.0.0.1", port), process=process, log=log, what="the gateway")
            database = Database(postgres.url(name))
            yield Gateway(port, database, issuer.token(), issuer)
            database.close()
        finally:
            stop(process)
            administrator.run(f"DROP DATABASE {name} WITH (FORCE)")
            administrator.close()

    return started


@pytest.fixture(scope="module")
def gateway(start: Start) -> Iterator[Gateway]:
    with start(CFM_CORS_ORIGINS=CONSOLE) as found:
        yield found


def assert_refused(gateway: Gateway, raw: bytes, status: int, says: str = "") -> Answer:
    """``raw`` is refused and changes nothing; somebody else is answered before it has been sent as a whole."""
    before = contents(gateway.database)
    with contextlib.closing(gateway.connect()) as attacker:
        half = len(raw) // 2
        with contextlib.suppress(ConnectionError):
            attacker.sendall(raw[:half])
        assert gateway.ask("GET", f"{BASE}/tenants").status == 200
        with contextlib.suppress(ConnectionError):
            attacker.sendall(raw[half:])
        answer = parsed(rest_of(attacker))
    assert answer.status == status, answer
    assert says in answer.body.decode(), answer
    assert gateway.ask("GET", f"{BASE}/tenants").status == 200
    assert contents(gateway.database) == before
    return answer


TENANTS = f"{BASE}/tenants"

# Heads


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (["X: " + "a" * 300_000], 431),
        ([f"X{number}: {'a' * 4000}" for number in range(90)], 431),
        ([f"X{number}: a" for number in range(200)], 431),
        (["X: a\0b"], 400),
        (["X: a\rb"], 400),
        (["X : a"], 400),
        (["X: a", " folded: b"], 400),
        (["(x): a"], 400),
        (["no colon"], 400),
        (["Content-Length: -1"], 400),
        (["Content-Length: +2"], 400),
        (["Content-Length: 0x2"], 400),
        (["Content-Length: 2, 2"], 400),
        (["Content-Length: 2", "Content-Length: 3"], 400),
        (["Content-Length: 99999999999999999999"], 400),
        (["Transfer-Encoding: gzip"], 400),
        (["Transfer-Encoding: xchunked"], 400),
        (["Transfer-Encoding: chunked, gzip"], 400),
    ],
    ids=lambda value: value[0][:24] if isinstance(value, list) else value,
)
def test_a_head_that_is_too_large_or_ambiguous_is_refused(gateway: Gateway, fields: list[str], status: int) -> None:
    assert_refused(gateway, gateway.request("POST", TENANTS, *fields, body=b"{}" if status == 400 else b""), status)


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("GET /" + "a" * 70_000 + " HTTP/1.1", 414),
        ("GET / HTTP/3.0", 400),
        ("GET /", 400),
        ("G\0T / HTTP/1.1", 400),
        ("GET /\0 HTTP/1.1", 400),
        ("GET /\xff HTTP/1.1", 400),
        ("\x16\x03\x01\x02", 400),
        ("".join(map(chr, range(128, 256))), 400),
        ("GET " + "/" * 60_000 + " HTTP/1.1", 404),
        ("GET " + "/%2e%2e" * 5000 + "/etc/passwd HTTP/1.1", 404),
        ("GET /../../etc/passwd HTTP/1.1", 404),
        ("CONNECT db.internal:5432 HTTP/1.1", 404),
        ("G" * 5000 + " / HTTP/1.1", 404),
        (f"GET {TENANTS}/%00 HTTP/1.1", 404),
        (f"GET {TENANTS}/%ED%A0%80 HTTP/1.1", 404),
        (f"GET {TENANTS}/%zz HTTP/1.1", 404),
        (f"TRACE {TENANTS} HTTP/1.1", 405),
        (f"GET {TENANTS}?limit={'9' * 5000} HTTP/1.1", 400),
        (f"GET {TENANTS}?q={'(' * 20_000} HTTP/1.1", 400),
        (f"GET {TENANTS}?q=%00 HTTP/1.1", 400),
        (f"GET {TENANTS}?q=%ED%A0%80 HTTP/1.1", 400),
    ],
    ids=lambda value: value[:32].encode("unicode_escape").decode() if isinstance(value, str) else value,
)
def test_a_line_that_is_too_long_or_makes_no_sense_is_refused(gateway: Gateway, line: str, status: int) -> None:
    head = f"{line}\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {gateway.token}\r\n\r\n"
    assert_refused(gateway, head.encode("latin-1"), status)


def test_nobody_is_taken_over_to_another_protocol(gateway: Gateway) -> None:
    fields = ("Upgrade: websocket", "Sec-WebSocket-Key: eA==", "Sec-WebSocket-Version: 13")
    raw = gateway.request("GET", TENANTS, *fields).replace(b"Connection: close", b"Connection: close, Upgrade")
    answer = parsed(gateway.send(raw))
    assert (answer.status, answer.head["content-type"]) == (200, "application/json")


# Bodies


def nested(depth: int) -> bytes:
    return b'{"properties": ' + b'{"a":' * depth + b"1" + b"}" * depth + b"}"


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b'{"properties": {"x": "' + b"x" * (1024 * 1024) + b'"}}', 413, "more than 1048576 bytes"),
        (nested(40), 400, "nested more than"),
        (b"[" * 1_000_000, 400, "nested too deeply"),
        (nested(150_000), 400, "nested too deeply"),
        (b'{"properties": {"n": ' + b"9" * 1_000_000 + b"}}", 400, "too many digits"),
        (b'{"properties": {"n": 1e999}}', 400, "a number is too large"),
        (b'{"properties": {"n": NaN}}', 400, "NaN is not a JSON number"),
        (b'{"properties": {"n": Infinity}}', 400, "Infinity is not a JSON number"),
        (b'{"properties": {"x": "\\u0000"}}', 400, "/properties/x: contains a NUL character"),
        (b'{"properties": {"x": "\\ud800"}}', 400, "/properties/x: is not valid Unicode"),
        (b'{"properties": {"x": "\xed\xa0\x80"}}', 400, "is not UTF-8"),
        (b'{"properties": {"\\udfff": 1}}', 400, "is not valid Unicode"),
        (b'{"properties": 5}', 400, "/properties"),
        (b"{} {}", 400, "Extra data"),
        (b"\x1f\x8b\x08" + b"\0" * 100, 400, "Invalid JSON"),
    ],
    ids=range(15),
)
def test_a_body_that_no_store_could_keep_is_refused(gateway: Gateway, body: bytes, status: int, says: str) -> None:
    answer = assert_refused(gateway, gateway.request("POST", TENANTS, body=body), status, says)
    assert len(answer.body) < 3000
    assert json.loads(answer.body)["code"] == status


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "GZIP", "identity, gzip", "gzip, gzip"])
def test_nothing_compressed_is_inflated(gateway: Gateway, coding: str) -> None:
    bomb = gzip.compress(b'{"properties": {"x": "' + b"x" * 50_000_000 + b'"}}')
    assert len(bomb) < 100_000
    answer = assert_refused(gateway, gateway.request("POST", TENANTS, f"Content-Encoding: {coding}", body=bomb), 415)
    assert (answer.head["accept-encoding"], json.loads(answer.body)["type"]) == (
        "identity",
        "/problems/unsupported-media-type",
    )


def test_nothing_compressed_on_its_way_is_inflated(gateway: Gateway) -> None:
    raw = gateway.request("POST", TENANTS, "Transfer-Encoding: gzip, chunked", body=b"2\r\n{}\r\n0\r\n\r\n")
    assert_refused(gateway, raw, 415)


@pytest.mark.parametrize(
    "chunks", [b"FFFFFFFFFFFFFFFFF\r\n{}\r\n", b"-2\r\n{}\r\n", b"2;" + b"a" * 300_000, b"zz\r\n{}\r\n"]
)
def test_chunks_that_make_no_sense_are_refused(gateway: Gateway, chunks: bytes) -> None:
    fields = ("Transfer-Encoding: chunked", "Content-Type: application/json")
    assert_refused(gateway, gateway.request("POST", TENANTS, *fields, body=chunks + b"0\r\n\r\n"), 400)


def test_names_that_are_there_twice_are_told_or_refused_as_the_caller_wants_it(gateway: Gateway) -> None:
    body = b'{"properties": {"a": 1, "a": 2}}'
    answer = assert_refused(gateway, gateway.request("POST", f"{TENANTS}?fieldValidation=Strict", body=body), 400)
    assert json.loads(answer.body)["errors"][0]["pointer"] == "/properties/a"
    made = gateway.ask("POST", TENANTS, body=body)
    assert (made.status, json.loads(made.body)["properties"]) == (201, {"a": 2})
    assert made.head["warning"] == '299 - "/properties/a is there more than once; the last one holds"'


# Answers

PATHS = (
    "/health",
    "/nothing",
    TENANTS,
    f"{TENANTS}/nobody",
    "/docs",
    "/docs/start.js",
    "/openapi.json",
    "/problems/conflict",
)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
@pytest.mark.parametrize("with_token", [True, False])
def test_every_answer_is_protected(gateway: Gateway, path: str, method: str, with_token: bool) -> None:
    head = gateway.ask(method, path, token=None if with_token else "").head
    assert head["x-content-type-options"] == "nosniff"
    assert ("referrer-policy" in head) is head.get("content-type", "").startswith(("text/html", "text/javascript"))
    assert head["server"] == "cfm"
    assert "no-cache" in head["cache-control"] or path == "/docs/start.js"
    policy = dict(part.strip().partition(" ")[::2] for part in head["content-security-policy"].split(";"))
    assert (policy["default-src"], policy["frame-ancestors"]) == ("'none'", "'none'")
    assert not any("granian" in f"{name}{value}".lower() or "python" in value.lower() for name, value in head.items())


def test_a_browser_is_answered_before_it_sends_a_token(gateway: Gateway) -> None:
    asks = ("Access-Control-Request-Method: DELETE", "Access-Control-Request-Headers: authorization")
    answer = gateway.ask("OPTIONS", f"{TENANTS}/some", f"Origin: {CONSOLE}", *asks, token="")
    assert (answer.status, answer.body) == (204, b"")
    assert answer.head["access-control-allow-origin"] == CONSOLE
    assert answer.head["access-control-allow-methods"] == "DELETE, GET, HEAD, PATCH"
    assert answer.head["vary"] == "Origin"
    # Also an error can be read.
    assert gateway.ask("GET", TENANTS, f"Origin: {CONSOLE}", token="").head["access-control-allow-origin"] == CONSOLE


@pytest.mark.parametrize("origin", ["https://evil.example", "null", f"{CONSOLE}.evil.example", "*"])
def test_pages_of_other_origins_are_not_answered(gateway: Gateway, origin: str) -> None:
    asks = "Access-Control-Request-Method: DELETE"
    answer = gateway.ask("OPTIONS", f"{TENANTS}/some", f"Origin: {origin}", asks, token="")
    assert answer.status == 401
    assert "access-control-allow-origin" not in answer.head
    assert "access-control-allow-origin" not in gateway.ask("GET", TENANTS, f"Origin: {origin}").head


# Rates


@pytest.fixture(scope="module")
def strict(start: Start) -> Iterator[Gateway]:
    """A gateway that allows little, behind a proxy."""
    limits = {"CFM_RATE_LIMIT": "0.5", "CFM_RATE_LIMIT_BURST": "20"}
    strangers = {"CFM_STRANGER_RATE_LIMIT": "0.001", "CFM_STRANGER_RATE_LIMIT_BURST": "10"}
    with start(**limits, **strangers, CFM_TRUSTED_PROXIES="1") as found:
        yield found


def test_a_subject_that_asks_too_often_is_told_when_to_come_back_and_others_are_answered(strict: Gateway) -> None:
    busy, other = (strict.issuer.token(claims={"sub": subject}) for subject in ("busy", "other"))
    before = contents(strict.database)
    statuses: list[int] = []
    # With a little room for more while time goes by.
    while 429 not in statuses and len(statuses) < 200:
        statuses.append(strict.ask("GET", TENANTS, token=busy).status)
    assert (statuses[:20], statuses[-1]) == ([200] * 20, 429)
    refused = strict.ask("POST", TENANTS, body=b"{}", token=busy)
    assert refused.status == 429
    assert int(refused.head["retry-after"]) in {1, 2}
    assert refused.head["ratelimit-policy"] == '"subject";q=20;w=40'
    assert refused.head["ratelimit"] == f'"subject";r=0;t={refused.head["retry-after"]}'
    document = json.loads(refused.body)
    assert (document["type"], document["retryable"]) == ("/problems/too-many-requests", True)
    assert strict.ask("GET", TENANTS, token=other).status == 200
    assert contents(strict.database) == before
    deadline = time.monotonic() + LATEST
    while strict.ask("GET", TENANTS, token=busy).status != 200:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_whoever_shows_bad_tokens_is_refused_before_they_are_checked(strict: Gateway) -> None:
    here, there = "X-Forwarded-For: 198.51.100.7", "X-Forwarded-For: 198.51.100.8"
    known, late, new = (strict.issuer.token(claims={"sub": subject}) for subject in ("known", "late", "new"))
    assert strict.ask("GET", TENANTS, here, token=known).status == 200
    bad = known[:-4] + "AAAA"
    statuses = [strict.ask("GET", TENANTS, here, token=shown).status for shown in ("", bad) for _ in range(5)]
    assert statuses == [401] * 10
    for shown in ("", bad, late):
        refused = strict.ask("GET", TENANTS, here, token=shown)
        assert (refused.status, refused.head["ratelimit-policy"]) == (429, '"stranger";q=10;w=10000')
    # Known tokens go on, and so do others, and whoever looks at the health.
    assert strict.ask("GET", TENANTS, here, token=known).status == 200
    assert strict.ask("GET", TENANTS, there, token=new).status == 200
    assert strict.ask("GET", "/health", here, token="").status == 200
    # What comes before the proxy's own entry does not help.
    assert strict.ask("GET", TENANTS, "X-Forwarded-For: 203.0.113.1, 198.51.100.7", token="").status == 429


def test_whoever_guesses_at_the_token_of_an_activity_is_refused_soon(strict: Gateway) -> None:
    path, here = f"{BASE}/orchestrations/o/activities/a/complete", "X-Forwarded-For: 198.51.100.9"
    statuses = [
        strict.ask("POST", path, here, body=json.dumps({"token": f"guess {number}"}).encode(), token="").status
        for number in range(13)
    ]
    assert statuses == [404] * 10 + [429] * 3
