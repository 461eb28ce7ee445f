"""Strangers at the servers behind the API: NATS and Postgres know nobody who has no password of theirs."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from email.message import Message
from urllib.parse import urlsplit

from cfm_core.contracts import subjects
from cfm_core.errors import CfmError
from cfm_core.store.database import connect
from cfm_core.store.roles import Role
from tests.security.attack import Attack
from tests.security.ground import Ground
from tests.security.wire import Answer

VIOLATION = "-ERR 'Authorization"
FORGED = b'{"id":"forged","correlationId":"c","orchestrationType":"ground.sign"}'

USERS: dict[str, dict[str, str]] = {
    "nobody": {},
    "the administrator with no password": {"user": "cfm", "pass": ""},
    "the administrator with another password": {"user": "cfm", "pass": "cfm"},
    "the trigger with no password": {"user": "trigger", "pass": ""},
    "the trigger with its name as password": {"user": "trigger", "pass": "trigger"},
    "an agent": {"user": "agent-jwtlet-activity", "pass": "x"},
    "a token": {"auth_token": "x"},
    "a key without a signature": {"nkey": "U" * 56, "sig": ""},
    "a signed claim that is none": {"jwt": "a.b.c", "sig": "x"},
}


def at_nats(told: dict[str, str]) -> Callable[[Ground], Answer]:
    """What NATS says to somebody who publishes a manifest at once."""

    def send(ground: Ground) -> Answer:
        parts = urlsplit(ground.stack.nats_url)
        with socket.create_connection((str(parts.hostname), parts.port or 0), 20) as connection:
            said = connection.makefile("rb")
            said.readline()
            hello = json.dumps(told | {"verbose": False, "lang": "py", "version": "0"})
            connection.sendall(
                f"CONNECT {hello}\r\nPUB {subjects.MANIFESTS} {len(FORGED)}\r\n".encode() + FORGED + b"\r\nPING\r\n"
            )
            return Answer(0, Message(), said.readline().decode())

    return send


def at_postgres(user: str, password: str) -> Callable[[Ground], Answer]:
    """What Postgres says to somebody who connects as ``user``."""

    def send(ground: Ground) -> Answer:
        parts = urlsplit(ground.stack.database_url)
        where = parts._replace(netloc=f"{user}:{password}@{parts.hostname}:{parts.port}").geturl()
        try:
            connect(where).close()
        except CfmError as error:
            # What our own client makes of the server's word.
            return Answer(0, Message(), "wrong password" if "28P01" in str(error) else "another refusal")
        return Answer(200, Message(), "let in")

    return send


def attacks() -> Iterator[Attack]:
    for name, told in USERS.items():
        yield Attack(f"NATS, {name}", at_nats(told), 0, VIOLATION)
    for user in ("cfm", "postgres", "nobody", *(role.called("cfm") for role in Role)):
        for password in ("wrong", user):
            yield Attack(f"Postgres, {user} with {password}", at_postgres(user, password), 0, "wrong password")
