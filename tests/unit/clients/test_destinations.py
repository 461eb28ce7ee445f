"""Where addresses in data may lead, however they are written."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cfm_core.clients.destinations import LONGEST, Destinations, RefusedDestinationError
from cfm_core.clients.http import LARGEST_ANSWER, HttpClient
from cfm_core.errors import FatalError, RecoverableError
from cfm_core.web.key_sets import source_of
from tests.support.certificates import Authority

LOOPBACK = Destinations.of("127.0.0.0/8, ::1")
PUBLIC = "203.0.114.7"


def answering(*addresses: str) -> Callable[[str, int], list[str]]:
    """A name service that knows every name, at these addresses."""
    return lambda host, port: list(addresses)


@pytest.mark.parametrize(
    "url",
    [
        "https://hub.example/",
        "http://hub.example:8080/a?b=c#d",
        "https://hub.example:8443",
        f"http://{PUBLIC}/",
        "https://[2606:4700::1111]/",
        "https://xn--bcher-kva.example/",
    ],
)
def test_public_addresses_may_be_asked(url: str) -> None:
    Destinations().check(url)


REFUSED = {
    "must be http: or https:": [
        *("file:///etc/passwd", "ftp://a.example/", "gopher://a.example:70/_x", "unix:/run/x", "data:,x"),
        *("jar:http://a/!x", "//hub.example/", "hub.example", ""),
    ],
    "it names a user": [
        *("http://user@hub.example/", "http://u:p@hub.example/", "http://a.example@10.0.0.1/", "http://@hub.example/"),
    ],
    "names no host": [
        "http://",
        "http:///x",
        "http://:80/",
        "http://%31%32%37.0.0.1/",
        "http://a:0/",
        "http://[::1%25lo]/",
    ],
    "cannot be read": ["http://[::1", "http://a:99999/", "http://a:b/"],
    "characters that none may have": [
        *("http://a\\@b/", "http://a b/", "http://a\r\nX: y/", "http://a\0b/", "http://a\t/"),
        *("http://ａ.example/", "http://127。0。0。1/", "http://①②⑦.0.0.1/"),
    ],
    "more than": ["http://a/" + "x" * LONGEST],
    "port .* is not one": [
        *(f"http://hub.example:{port}/" for port in (1, 22, 25, 53, 110, 143, 389, 445, 587)),
        f"http://{PUBLIC}:25/",
    ],
}
"""Addresses by the reason for which they are refused."""
REFUSED_HOSTS = {
    "it is loopback": [
        *("127.0.0.1", "127.9.9.9", "localhost", "LOCALHOST", "localhost.", "a.localhost", "[::1]"),
        *("127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0x7f.1", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]"),
        *("[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[::127.0.0.1]"),
    ],
    "it is private": [
        *("10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "192.0.2.1", "198.18.0.1"),
        *("[fd00::1]", "[fc00::1]", "[2001:db8::1]", "[::ffff:10.0.0.1]"),
    ],
    "it is link-local": ["169.254.1.1", "[fe80::1]"],
    "where a cloud tells secrets": [
        *("169.254.169.254", "169.254.170.2", "100.100.100.200", "192.0.0.192", "2852039166", "0xa9fea9fe"),
        *("[fd00:ec2::254]", "[::ffff:169.254.169.254]", "[64:ff9b::a9fe:a9fe]"),
    ],
    "it is multicast": ["224.0.0.1", "239.1.2.3", "[ff02::1]"],
    "it is unspecified": ["0.0.0.0", "0", "[::]"],
    "it is": ["0.1.2.3", "100.64.0.1", "240.0.0.1", "255.255.255.255", "[fec0::1]"],
}


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        *((url, reason) for reason, urls in REFUSED.items() for url in urls),
        *((f"http://{host}/", reason) for reason, hosts in REFUSED_HOSTS.items() for host in hosts),
    ],
)
def test_everything_else_is_refused(url: str, reason: str) -> None:
    with pytest.raises(RefusedDestinationError, match=reason):
        Destinations().check(url)


def test_a_network_has_to_be_configured() -> None:
    Destinations.of("10.96.0.0/12").check("http://10.97.1.1:443/")
    for url in ("http://10.112.0.1/", "http://127.0.0.1/", "http://169.254.169.254/"):
        with pytest.raises(RefusedDestinationError):
            Destinations.of("10.96.0.0/12").check(url)
    for url in ("http://127.0.0.1:25/", "http://localhost:1/", "http://[::1]:8080/"):
        LOOPBACK.check(url)


def test_what_a_cloud_tells_a_machine_has_to_be_configured_by_itself() -> None:
    with pytest.raises(RefusedDestinationError, match="where a cloud tells secrets"):
        Destinations.of("169.254.0.0/16, 0.0.0.0/0").check("http://169.254.169.254/")
    Destinations.of("169.254.169.254").check("http://169.254.169.254/")


@pytest.mark.parametrize("text", ["10.0.0.1/8", "somewhere", "10.0.0.0/33", "127.0.0.1:80"])
def test_what_is_no_network_is_an_error_of_the_configuration(text: str) -> None:
    with pytest.raises(FatalError, match="CFM_OUTBOUND_NETWORKS"):
        Destinations.from_environ({"CFM_OUTBOUND_NETWORKS": text})


@pytest.mark.parametrize(
    "did", ["did:web:acme.example", "did:web:hub.example%3A7083:acme", "did:key:z6Mk", "did:web:hub.svc%3A10016:a#key"]
)
def test_a_did_that_leads_to_the_public_may_be_passed_on(did: str) -> None:
    Destinations().check_did(did)


@pytest.mark.parametrize(
    "did",
    [
        "did:web:127.0.0.1",
        "did:web:localhost%3A8080:acme",
        "did:web:169.254.169.254:latest",
        "did:web:%5B%3A%3A1%5D",
        "did:web:10.0.0.1%3A443",
        "did:web:user%40hub.example",
        "did:web:hub.example%2F..%2F",
        "did:web:hub.example%3A22",
        "did:web:hub.example%0d%0aX",
        "did:web:hub%253A7083",
        "did:web:2130706433",
        "did:web:",
    ],
)
def test_a_did_that_leads_inside_is_refused(did: str) -> None:
    with pytest.raises(RefusedDestinationError):
        Destinations().check_did(did)


@pytest.mark.parametrize(
    "addresses",
    [["127.0.0.1"], [PUBLIC, "10.0.0.1"], ["10.0.0.1", PUBLIC], ["::1"], ["::ffff:127.0.0.1"], ["fe80::1%eth0"]],
)
def test_a_name_that_leads_inside_is_refused_before_anything_is_asked(addresses: list[str]) -> None:
    destinations = Destinations(look_up=answering(*addresses))
    with pytest.raises(RefusedDestinationError):
        destinations.connect("rebind.example", 80, 1)
    with pytest.raises(RefusedDestinationError):
        HttpClient(only_to=destinations).send("GET", "http://rebind.example/")


class Handler(BaseHTTPRequestHandler):
    """Answers by path, and notes what it was asked."""

    seen: list[str]
    redirect_to = ""

    def do_GET(self) -> None:
        self.seen.append(f"{self.headers['Host']}{self.path}")
        match self.path:
            case "/redirect":
                self._answer(302, b"", Location=self.redirect_to)
            case "/large":
                self._answer(200, b"x" * (LARGEST_ANSWER + 1))
            case "/bomb":
                self._answer(200, b"\x1f\x8b" + b"\0" * 100, **{"Content-Encoding": "gzip"})
            case "/trickle":
                self.send_response(200)
                self.send_header("Content-Length", "100000")
                self.end_headers()
                with suppress(OSError):
                    for _ in range(1000):
                        self.wfile.write(b"x")
                        time.sleep(0.01)
            case _:
                self._answer(200, b'{"keys": []}')

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        return


@contextmanager
def server(context: ssl.SSLContext | None = None) -> Iterator[tuple[int, type[Handler]]]:
    class Noting(Handler):
        seen: list[str] = []  # noqa: RUF012  # each server's own

    with ThreadingHTTPServer(("127.0.0.1", 0), Noting) as found:
        if context is not None:
            found.socket = context.wrap_socket(found.socket, server_side=True)
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield found.server_address[1], Noting
        found.shutdown()
        thread.join()


def test_a_name_is_looked_up_once_and_the_connection_goes_to_what_was_looked_at() -> None:
    looked_up: list[str] = []

    def first_harmless_then_not(host: str, port: int) -> list[str]:
        looked_up.append(host)
        return ["127.0.0.1"] if len(looked_up) == 1 else ["127.0.0.2"]

    with server() as (port, noted):
        destinations = Destinations(LOOPBACK.networks[:1], first_harmless_then_not)
        client = HttpClient(only_to=destinations)
        assert client.send("GET", f"http://rebind.example:{port}/x").status == 200
        # The server is asked by its name.
        assert noted.seen == [f"rebind.example:{port}/x"]
        assert looked_up == ["rebind.example"]
        client.close()


def test_the_next_address_is_tried_where_nobody_answers() -> None:
    with server() as (port, _):
        destinations = Destinations(LOOPBACK.networks, answering("::1", "127.0.0.1"))
        client = HttpClient(only_to=destinations)
        assert client.send("GET", f"http://two.example:{port}/").status == 200
        client.close()
        with destinations.connect("two.example", port, 5) as connection:
            assert connection.getpeername()[0] == "127.0.0.1"


def test_loopback_is_refused_unless_it_is_configured() -> None:
    with server() as (port, noted):
        for url in (f"http://127.0.0.1:{port}/", f"http://localhost:{port}/", f"http://0:{port}/"):
            with pytest.raises(RefusedDestinationError):
                HttpClient(only_to=Destinations()).send("GET", url)
        assert noted.seen == []
        client = HttpClient(only_to=LOOPBACK)
        assert client.send("GET", f"http://127.0.0.1:{port}/").status == 200
        client.close()


def test_no_redirect_is_followed() -> None:
    with server() as (port, noted):
        noted.redirect_to = f"http://127.0.0.1:{port}/secret"
        client = HttpClient(only_to=LOOPBACK)
        with pytest.raises(FatalError, match="answered 302"):
            client.send("GET", f"http://127.0.0.1:{port}/redirect")
        assert [one.partition("/")[2] for one in noted.seen] == ["redirect"]
        client.close()


@pytest.mark.parametrize(("path", "message"), [("/large", "more than"), ("/bomb", "something compressed")])
def test_no_answer_fills_the_memory(path: str, message: str) -> None:
    with server() as (port, _):
        client = HttpClient(only_to=LOOPBACK)
        with pytest.raises(FatalError, match=message):
            client.send("GET", f"http://127.0.0.1:{port}{path}")
        # The connection that was left halfway is not used again.
        assert client.send("GET", f"http://127.0.0.1:{port}/").status == 200
        client.close()


def test_no_answer_trickles_in_for_ever() -> None:
    with server() as (port, _):
        client = HttpClient(timedelta(seconds=0.3), only_to=LOOPBACK)
        with pytest.raises(RecoverableError, match="no whole answer"):
            client.send("GET", f"http://127.0.0.1:{port}/trickle")
        client.close()


def test_no_proxy_of_the_environment_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with server() as (port, noted), server() as (proxy, asked):
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy}")
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy}")
        client = HttpClient(only_to=LOOPBACK)
        client.send("GET", f"http://127.0.0.1:{port}/")
        client.close()
        assert (len(noted.seen), asked.seen) == (1, [])


def test_a_name_that_nobody_knows_may_be_known_later() -> None:
    def nobody(host: str, port: int) -> list[str]:
        raise socket.gaierror("nobody knows")

    with pytest.raises(RecoverableError):
        HttpClient(timedelta(seconds=1), only_to=Destinations(look_up=nobody)).send("GET", "http://gone.example/")


def test_keys_of_an_issuer_are_fetched_elsewhere_only_where_that_may_be() -> None:
    with server() as (port, noted), server() as (other, elsewhere):
        issuer = f"http://127.0.0.1:{port}"
        for allowed, asked in ((Destinations(), 0), (LOOPBACK, 1)):
            document = f'{{"issuer": "{issuer}", "jwks_uri": "http://127.0.0.1:{other}/keys"}}'.encode()
            noted.do_GET = lambda self, document=document: self._answer(200, document)  # type: ignore[method-assign, misc]
            source = source_of(issuer, "", elsewhere=allowed)
            if asked:
                assert source() == b'{"keys": []}'
            else:
                with pytest.raises(ValueError, match="loopback"):
                    source()
            assert len(elsewhere.seen) == asked


def test_over_tls_a_server_proves_its_name_and_not_its_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority(tmp_path, "somebody")
    certified = authority.issue("named.example", "127.0.0.1")
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certified.certificate, certified.key)
    with server(context) as (port, noted):
        client = HttpClient(only_to=Destinations(LOOPBACK.networks, answering("127.0.0.1")))
        assert client.send("GET", f"https://named.example:{port}/").status == 200
        with pytest.raises(RecoverableError, match="certificate"):
            client.send("GET", f"https://other.example:{port}/")
        assert noted.seen == [f"named.example:{port}/"]
        client.close()
