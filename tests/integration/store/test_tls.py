"""Whom the database's client believes: against a real server that encrypts, and one that does not."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cfm_core.errors import FatalError, RecoverableError
from cfm_core.store.database import Database, connect
from local.servers.postgres import EmbeddedPostgres
from local.servers.process import free_port
from tests.support.certificates import Authority, Certified

At = Callable[..., str]

SSL_REQUEST = struct.pack("!ii", 8, 80877103)
REMOTE = "127.0.0.2"
"""No name of loopback that the client knows: to it, this is another machine."""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "known")


class Encrypting:
    """Encrypts for a PostgreSQL that does not, as its own TLS does: asked in its protocol, with a certificate of its own.

    The embedded server is built without TLS; what is behind this is a real one all the same.
    """

    def __init__(self, server: EmbeddedPostgres, issued: Certified) -> None:
        self._server = server
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(issued.certificate, issued.key)
        self.port = free_port()
        self.encrypted = 0
        self._listening = [socket.create_server((host, self.port)) for host in ("127.0.0.1", REMOTE)]
        for one in self._listening:
            threading.Thread(target=self._accept, args=(one,), daemon=True).start()

    def close(self) -> None:
        for one in self._listening:
            one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self, listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listening.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), contextlib.ExitStack() as opened:
            opened.callback(client.close)
            if client.recv(8, socket.MSG_PEEK) == SSL_REQUEST:
                client.recv(8)
                client.sendall(b"S")
                client = opened.enter_context(self._context.wrap_socket(client, server_side=True))
                self.encrypted += 1
            server = opened.enter_context(socket.create_connection(("127.0.0.1", self._server.port)))
            answering = threading.Thread(target=_pump, args=(server, client), daemon=True)
            answering.start()
            _pump(client, server)
            answering.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


@pytest.fixture(scope="module")
def encrypting(postgres: EmbeddedPostgres, authority: Authority) -> Iterator[Encrypting]:
    """A server at 127.0.0.1 and 127.0.0.2, whose certificate names the second."""
    server = Encrypting(postgres, authority.issue("database", REMOTE))
    yield server
    server.close()


@pytest.fixture
def at(postgres: EmbeddedPostgres, encrypting: Encrypting) -> At:
    """How to connect to the server at one of its addresses."""

    def url(host: str, query: str = "") -> str:
        return postgres.url("postgres").replace(f"127.0.0.1:{postgres.port}", f"{host}:{encrypting.port}") + query

    return url


def is_encrypted(encrypting: Encrypting, url: str) -> bool:
    before = encrypting.encrypted
    connection = connect(url)
    try:
        assert connection.run("SELECT 1") == [[1]]
        return encrypting.encrypted > before
    finally:
        connection.close()


def test_another_machine_has_to_prove_who_it_is_unless_one_asks_for_less(
    at: At, encrypting: Encrypting, authority: Authority
) -> None:
    with pytest.raises(RecoverableError, match=r"no TLS with the database at 127.0.0.2: CERTIFICATE_VERIFY_FAILED"):
        connect(at(REMOTE))
    assert is_encrypted(encrypting, at(REMOTE, f"?sslrootcert={authority.ca}"))
    assert is_encrypted(encrypting, at(REMOTE, "?sslmode=require"))
    assert not is_encrypted(encrypting, at(REMOTE, "?sslmode=disable"))


def test_an_imposter_is_refused(at: At, tmp_path: Path) -> None:
    other = Authority(tmp_path, "other")
    for mode in ("verify-ca", "verify-full"):
        with pytest.raises(RecoverableError, match="CERTIFICATE_VERIFY_FAILED"):
            connect(at(REMOTE, f"?sslmode={mode}&sslrootcert={other.ca}"))


def test_the_name_counts_too_unless_one_asks_for_less(at: At, encrypting: Encrypting, authority: Authority) -> None:
    with pytest.raises(RecoverableError, match="CERTIFICATE_VERIFY_FAILED"):
        connect(at("127.0.0.1", f"?sslmode=verify-full&sslrootcert={authority.ca}"))
    assert is_encrypted(encrypting, at("127.0.0.1", f"?sslmode=verify-ca&sslrootcert={authority.ca}"))


def test_loopback_is_not_encrypted_unless_one_asks_for_it(at: At, encrypting: Encrypting) -> None:
    assert not is_encrypted(encrypting, at("127.0.0.1"))
    assert is_encrypted(encrypting, at("127.0.0.1", "?sslmode=require"))


def test_a_server_that_does_not_encrypt_is_told_no_password(postgres: EmbeddedPostgres) -> None:
    with pytest.raises(RecoverableError, match=r"the database at 127.0.0.1 does not encrypt; see sslmode in its URL"):
        connect(postgres.url("postgres") + "?sslmode=verify-full")


def test_a_pool_works_over_tls(at: At, authority: Authority) -> None:
    database = Database(at(REMOTE, f"?sslrootcert={authority.ca}"))
    for _ in range(3):
        assert database.value("SELECT 1") == 1
    with database.transaction() as tx:
        assert tx.value("SELECT 2") == 2
    database.close()


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        ("?sslmode=prefer", "sslmode=prefer; it must be disable, require, verify-ca or verify-full"),
        ("?sslmode=verify", "sslmode=verify; it must be"),
        ("?sslmode=require&sslrootcert=/nowhere.pem", "the files for TLS in the database URL cannot be used"),
        ("?sslmode=require&sslcert=/nowhere.pem", "the files for TLS in the database URL cannot be used"),
    ],
)
def test_what_cannot_be_meant_is_told(query: str, complaint: str) -> None:
    with pytest.raises(FatalError, match=complaint):
        connect(f"postgresql://u:p@127.0.0.1:1/d{query}")
