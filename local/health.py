"""Looks at the health of a stack's processes, each by the URL of its check. Small: the supervisor imports it."""

from __future__ import annotations

import json
import socket
from typing import Any
from urllib.parse import urlsplit

_SECONDS = 3.0


def healthy(check: str) -> bool:
    """Whether what is behind ``check`` does its work now.

    ``http://`` has to answer 200, ``postgresql://`` a query, ``nats://`` with JetStream enabled. Where several processes
    answer at the same address, the fragment of the URL is the port of loopback at which the one in question does alone.
    """
    parts = urlsplit(check)
    try:
        match parts.scheme:
            case "http":
                alone = f"http://127.0.0.1:{parts.fragment}{parts.path}"
                return get(alone if parts.fragment else check)[0] == 200
            case "postgresql":
                return _postgres_answers(check)
            case _:
                return bool(nats_info(check).get("jetstream"))
    except (OSError, ValueError):
        return False


def get(url: str) -> tuple[int, bytes]:
    """GET ``url`` of this machine; gives status and body.

    Raises:
        OSError: nobody answers.
        ValueError: what answers does not speak HTTP.
    """
    parts = urlsplit(url)
    path = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
    with socket.create_connection((parts.hostname, parts.port), timeout=_SECONDS) as connection:
        connection.sendall(f"GET {path} HTTP/1.0\r\nHost: {parts.netloc}\r\n\r\n".encode())
        answer = bytearray()
        while chunk := connection.recv(65536):
            answer += chunk
    head, _, body = bytes(answer).partition(b"\r\n\r\n")
    version, status, *_ = head.split(None, 2)
    if not version.startswith(b"HTTP/"):
        raise ValueError(f"{url} answers {version!r}")
    return int(status), body


def nats_info(url: str) -> dict[str, Any]:
    """What a NATS server says about itself to whoever connects: ``version``, ``jetstream``, and more.

    Raises:
        OSError: nobody answers.
        ValueError: what answers is no NATS server.
    """
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port or 4222), timeout=_SECONDS) as connection:
        line = connection.makefile("rb").readline(65536)
    if not line.startswith(b"INFO "):
        raise ValueError("not a NATS server")
    info: dict[str, Any] = json.loads(line[5:])
    return info


def _postgres_answers(url: str) -> bool:
    from cfm_core.errors import CfmError
    from cfm_core.store.database import connect

    try:
        connection = connect(url)
    except CfmError:
        return False
    try:
        return bool(connection.run("SELECT 1"))
    finally:
        connection.close()
