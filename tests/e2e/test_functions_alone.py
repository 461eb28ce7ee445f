"""Every declared function, served alone by functions-framework in a process of its own."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

import functions
from cfm_core.contracts import event_tokens
from cfm_core.declaration import Declaration, EventFunction, HttpFunction, discover
from cfm_core.eventing.cloudevents import BATCH
from cfm_core.store.database import connect
from cfm_core.store.roles import Role
from local.servers.postgres import EmbeddedPostgres
from local.servers.process import answers, free_port, spawn, stop, wait_until
from local.standins import agent_environment
from tests.support.roles import as_role
from tests.support.tokens import Issuer

DECLARED = discover(functions)
HTTP = [one for one in DECLARED if isinstance(one, HttpFunction)]
EVENTS = [one for one in DECLARED if isinstance(one, EventFunction)]
EVENT_KEY = "the-key-of-the-trigger"
MAINTENANCE = {"build_query_indexes", "seal_audit", "tidy_history"}
ROOT = Path(functions.__file__).parents[1]


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: str


@dataclass(frozen=True)
class Conversation:
    """What a function answered: to the right request, to one without a token, to one with another method."""

    right: Answer
    no_token: Answer
    other_method: Answer


def request(port: int, method: str, path: str, body: str, headers: dict[str, str]) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request(method, path, body, headers)
    response = connection.getresponse()
    answer = Answer(response.status, dict(response.getheaders()), response.read().decode())
    connection.close()
    return answer


def databases(declaration: Declaration, url: str) -> dict[str, str]:
    """The one role that a function has; those of both managers where it does something for both, none for an agent."""
    tenant_manager, provision_manager = as_role(Role.TENANT_MANAGER, url), as_role(Role.PROVISION_MANAGER, url)
    if declaration.name in MAINTENANCE:
        return {"CFM_DATABASE_URL": as_role(Role.MAINTENANCE, url)}
    match declaration.source.parent.name:
        case "tenant_manager":
            return {"CFM_DATABASE_URL": tenant_manager}
        case "provision_manager" | "orchestrator":
            return {"CFM_DATABASE_URL": provision_manager}
        case "managers":
            return {
                "CFM_TENANT_MANAGER_DATABASE_URL": tenant_manager,
                "CFM_PROVISION_MANAGER_DATABASE_URL": provision_manager,
            }
        case _:
            return {}


def converse(declaration: Declaration, environ: dict[str, str], token: str, folder: Path) -> Conversation:
    port, log = free_port(), folder / f"{declaration.name}.log"
    program = Path(sys.executable).with_name("functions-framework")
    process = spawn(
        [
            program,
            "--target",
            declaration.name,
            "--source",
            declaration.source,
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
        ],
        log=log,
        env=environ,
        cwd=folder,
    )
    try:
        wait_until(lambda: answers("127.0.0.1", port), process=process, log=log, what=declaration.name, seconds=60)
        if isinstance(declaration, HttpFunction):
            method, path = declaration.method, re.sub(r"\{\w+\}", "some-id", declaration.path)
            other = "PUT" if method != "PUT" else "POST"
            headers, body = {"Authorization": f"Bearer {token}"}, "{}" if method in {"POST", "PATCH"} else ""
        else:
            method, path, other, body = "POST", "/", "GET", "[]"
            headers = {
                "Authorization": f"Bearer {event_tokens.derived(EVENT_KEY, declaration.name)}",
                "Content-Type": BATCH,
            }
        return Conversation(
            request(port, method, path, body, headers),
            request(port, method, path, body, {"Content-Type": headers.get("Content-Type", "application/json")}),
            request(port, other, path, "", headers),
        )
    finally:
        stop(process)


@pytest.fixture(scope="module")
def conversations(
    postgres: EmbeddedPostgres, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Conversation]]:
    folder = tmp_path_factory.mktemp("alone")
    issuer = Issuer(folder)
    with contextlib.closing(connect(postgres.url("postgres"))) as connection:
        connection.run(f"CREATE DATABASE alone TEMPLATE {template}")
    tokens = folder / "tokens.json"
    tokens.write_text(event_tokens.dump([EVENT_KEY], [one.name for one in EVENTS]))
    environ = {
        "PATH": os.defpath,
        "PYTHONPATH": str(ROOT),
        "CFM_EVENT_TOKENS_FILE": str(tokens),
        "CFM_SECRETS_FILE": str(folder / "secrets.json"),
        **issuer.environ,
        **agent_environment("http://127.0.0.1:1", "nobody-is-asked", folder / "service-account-token"),
        "CFM_TENANT_MANAGER_URL": "http://127.0.0.1:1",
    }
    token = issuer.token()
    with ThreadPoolExecutor(3) as pool:
        done = pool.map(
            lambda one: (one.name, converse(one, environ | databases(one, postgres.url("alone")), token, folder)),
            DECLARED,
        )
        yield dict(done)
    shutil.rmtree(folder)


@pytest.mark.parametrize("name", [one.name for one in HTTP])
def test_an_http_function_answers_its_route(conversations: dict[str, Conversation], name: str) -> None:
    (declaration,) = (one for one in HTTP if one.name == name)
    talk = conversations[name]
    assert talk.right.status < 500, talk.right
    assert talk.right.status not in {401, 403}, talk.right
    media = declaration.media if talk.right.status < 300 else "application/json"
    assert talk.right.headers["Content-Type"].startswith(media)
    if declaration.scope is not None:
        assert talk.no_token.status == 401
        assert talk.no_token.headers["WWW-Authenticate"] == 'Bearer realm="cfm"'
        assert json.loads(talk.no_token.body)["error"] == "Unauthorized"
    assert (talk.other_method.status, talk.other_method.headers["Allow"]) == (405, ", ".join(declaration.methods))


@pytest.mark.parametrize("name", [one.name for one in EVENTS])
def test_an_event_function_takes_a_batch_from_the_trigger_only(
    conversations: dict[str, Conversation], name: str
) -> None:
    talk = conversations[name]
    assert (talk.right.status, talk.right.body) == (200, "{}")
    assert talk.no_token.status == 401
    assert talk.other_method.status == 405
