"""No secret gets to where it does not belong: everything that a stack keeps, sends, logs and answers is searched for it."""

from __future__ import annotations

import base64
import contextlib
import copy
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from cfm_core.contracts.orchestration import DEPLOY, DISPOSE, compensation_id
from cfm_core.store.database import connect
from local import seed, state
from local.stack import Stack
from tests.support.tap import Tap

BASE = "/api/v1alpha1"
PATIENCE_SECONDS = 90
SHORTEST = 16
"""A shorter text is no secret of the stand-ins."""

LEAKY = '''
from cfm_core.agent import ActivityContext, ActivityResult, Complete, activity
from cfm_core.errors import CfmError


@activity("acme.leaky", secrets=["keycloak/admin"])
class Leaky:
    """Does with its secret whatever it should not, the visible canary into its log excepted."""

    def deploy(self, ctx: ActivityContext) -> ActivityResult:
        secret = ctx.secrets["keycloak/admin"]
        print("deploys", ctx.values["cfm.participant.id"])
        if ctx.attempt == 1:
            raise ValueError(f"wrong password {secret!r}")
        for leak in (
            lambda: ctx.set_value("copy", {"nested": [secret]}),
            lambda: ctx.set_output("copy", f"x{secret}"),
            lambda: ctx.heartbeat(secret),
        ):
            try:
                leak()
            except CfmError as error:
                ctx.log.warning("not done: %s", error)
        ctx.log.warning("it has %r and %s", ctx.secrets, ctx.completion)
        return Complete()

    def dispose(self, ctx: ActivityContext) -> ActivityResult:
        return Complete()
'''


@dataclass
class Story:
    """A stack, what it has answered, and the secrets that were in use."""

    stack: Stack
    tap: Tap
    answers: list[bytes] = field(default_factory=list)
    secrets: set[str] = field(default_factory=set)
    command_lines: bytes = b""
    tenant: str = ""
    cell: str = ""
    dataspace: str = ""
    canary: str = f"did:web:canary-{uuid.uuid4()}.example"
    """Not secret: it has to be found wherever secrets are looked for."""

    def __post_init__(self) -> None:
        self.token = self.stack.token()
        bearer = {"Authorization": f"Bearer {self.token}"}
        self._api = httpx2.Client(base_url=self.stack.url, headers=bearer, timeout=30, trust_env=False)
        control = {"Authorization": f"Bearer {self.stack.standins_token}"}
        self._control = httpx2.Client(base_url=self.stack.standins_url, headers=control, timeout=10, trust_env=False)

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """Send a request, and keep the answer with its head."""
        path = path if path.startswith("/") else f"{BASE}/{path}"
        answer = self._api.request(method, path, json=body, headers=headers)
        self.answers.append(f"{method} {path}\n{answer.headers}\n".encode() + answer.content)
        assert answer.status_code < 500, answer.text
        is_json = answer.headers.get("content-type", "").partition(";")[0].endswith("json")
        return answer.json() if answer.content and is_json else None

    def fault(self, service: str, **described: Any) -> None:
        self._control.post("/_control/faults", json={"service": service, **described}).raise_for_status()

    def no_faults(self) -> None:
        self._control.delete("/_control/faults").raise_for_status()

    def note_secrets(self) -> None:
        """Remember what is secret now: some of it will be gone later."""
        self.secrets.update(self._control.get("/_control/secrets").raise_for_status().json())
        data = self.stack.data
        self.secrets.update(
            {
                self.token,
                self.stack.standins_token,
                (data / "completion-key").read_text().strip(),
                (data / "records-token").read_text(),
                httpx2.URL(self.stack.nats_url).password,
                httpx2.URL(self.stack.database_url).password,
            }
        )
        for file in (data / "issuer").rglob("*"):
            if file.is_file() and "PRIVATE KEY" in file.read_text(errors="replace"):
                self.secrets.add(file.read_text().splitlines()[1])

    def prepare(self) -> None:
        for definition in seed.ACTIVITY_DEFINITIONS:
            self.call("POST", "activity-definitions", definition)
        for kind in ("keycloak-activity", "vault-activity", "acme.leaky"):
            self.call("POST", "activity-definitions", {"type": kind})
        template = copy.deepcopy(seed.ORCHESTRATION_TEMPLATE)
        deploy, dispose = template["activities"][DEPLOY], template["activities"][DISPOSE]
        first, last = deploy[0]["id"], dispose[-1]["id"]
        deploy += [
            {"id": "clients", "type": "keycloak-activity", "dependsOn": [first]},
            {"id": "space", "type": "vault-activity", "dependsOn": ["clients"]},
            {"id": "leak", "type": "acme.leaky", "dependsOn": [first]},
        ]
        dispose += [
            {"id": "clients-rollback", "type": "keycloak-activity", "dependsOn": []},
            {"id": "space-rollback", "type": "vault-activity", "dependsOn": []},
        ]
        for one in dispose:
            if one["id"] == last:
                one["dependsOn"] = [*one["dependsOn"], "clients-rollback", "space-rollback"]
        self.call("POST", "orchestration-definitions", template)
        self.cell = self.call("POST", "cells", seed.CELL)["id"]
        self.dataspace = self.call("POST", "dataspace-profiles", seed.DATASPACE_PROFILE)["id"]
        deployment = {"profileId": self.dataspace, "cellId": self.cell}
        self.call("POST", f"dataspace-profiles/{self.dataspace}/deployments", deployment)
        self.tenant = self.call("POST", "tenants", {"properties": {"name": "canary"}})["id"]
        reason = {"X-Reason": f"seen: Bearer {self.token}, password={self.stack.standins_token}"}
        self.call("PATCH", f"tenants/{self.tenant}", {"properties": {"seen": True}}, **reason)

    def deploy(self, did: str) -> dict[str, Any]:
        wanted = {"identifier": did, "cellId": self.cell, "dataspaceProfileIds": [self.dataspace]}
        profile: dict[str, Any] = self.call("POST", f"tenants/{self.tenant}/participant-profiles", wanted)
        return profile

    def until(self, profile: dict[str, Any], *states: str) -> dict[str, Any]:
        path = f"tenants/{self.tenant}/participant-profiles/{profile['id']}"
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            found: dict[str, Any] = self.call("GET", path)
            its = {vpa["state"] for vpa in found["vpas"]}
            if its <= set(states):
                return found
            assert "active" not in states or not {"error", "disposed"} & its, found["errorDetail"]
            assert time.monotonic() < deadline, f"still {its}: {found.get('errorDetail')}"
            time.sleep(0.1)  # between two looks; what is waited for is the state

    def ask_for_everything(self, *orchestrations: str) -> None:
        """Every address of the API without variables, and what there is to know of some orchestrations."""
        for path, operations in self.call("GET", "/openapi.json")["paths"].items():
            if "get" in operations and "{" not in path:
                self.call("GET", path)
        for one in orchestrations:
            self.call("GET", f"orchestrations/{one}")
            self.call("GET", f"orchestrations/{one}/history")
        self.command_lines = b"\n".join(_command_lines())
        for letter in self.call("GET", "dead-letters"):
            self.call("GET", f"dead-letters/{letter['id']}")

    def places(self) -> dict[str, bytes]:
        """Everything that is not meant to hold secrets."""
        return {
            "API answers": b"\n".join(self.answers),
            "NATS messages": b"\n".join(one.whole for one in self.tap.messages),
            "logs": _files(state.logs(self.stack.data)),
            "Postgres": _dump(self.stack.database_url),
            "Postgres log": _files(_write_ahead_log(self.stack.database_url)),
        }

    def close(self) -> None:
        self._api.close()
        self._control.close()


def _files(folder: Path) -> bytes:
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert files, f"there is nothing in {folder}"
    # Without what was only reserved.
    return b"\n".join(file.read_bytes().replace(b"\0" * 512, b"") for file in files)


def _command_lines() -> Iterator[bytes]:
    """Those of all processes on this machine, which everybody on it may read."""
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            yield file.read_bytes()


def _write_ahead_log(url: str) -> Path:
    """Where Postgres notes what it does: there is found what was a row for a moment only."""
    connection = connect(url)
    ((folder,),) = connection.run("SHOW data_directory")
    connection.close()
    return Path(folder) / "pg_wal"


def _dump(url: str) -> bytes:
    """All rows of all tables, as text; what is bytes stands in them in hexadecimal digits."""
    connection = connect(url)
    tables = connection.run(
        "SELECT quote_ident(schemaname) || '.' || quote_ident(tablename) FROM pg_tables"
        " WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
    )
    rows = [
        row[0]
        for (table,) in tables
        for row in connection.run(f"SELECT one::text FROM {table} AS one")  # noqa: S608 - quoted by the database
    ]
    connection.close()
    return "\n".join(rows).encode()


def _forms(secret: str) -> Iterator[bytes]:
    """How a secret may be written down; of a JWT the signature is enough."""
    for part in {secret, secret.rpartition(".")[2]}:
        if len(part) >= SHORTEST:
            raw = part.encode()
            yield from (raw, raw.hex().encode(), base64.b64encode(raw).rstrip(b"=")[:-1])


def found_in(place: bytes, secrets: set[str]) -> list[str]:
    """The secrets that stand somewhere, shortened so that they do not stand in the test's report."""
    return [f"{secret[:6]}…" for secret in sorted(secrets) if any(form in place for form in _forms(secret))]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """An onboarding with hiccups, a disposal, and an onboarding that fails and is undone."""
    home = tmp_path_factory.mktemp("secrets")
    home.chmod(0o711)  # so that PostgreSQL, which does not run as root, reaches its data in it
    (home / "leaky.py").write_text(LEAKY)
    # Everything goes through streams, so that everything that is handed over is stored there.
    with Stack(home / "data", agents=[home / "leaky.py"], handovers=("jetstream",)) as stack:
        tap = Tap(stack.nats_url)
        tap.start()
        story = Story(stack, tap)
        try:
            story.prepare()
            story.note_secrets()
            for service, fault in (
                ("jwtlet", {"path": "/token$", "status": 403}),
                ("keycloak", {"path": "/clients$", "status": 401}),
                ("keycloak", {"path": "/clients$", "status": 503}),
                ("vault", {"path": "/login$", "status": 503}),
                ("vault", {"method": "POST", "path": "/data/", "drop": True, "afterEffect": True}),
                ("controlplane", {"status": 401}),
            ):
                story.fault(service, times=1, **fault)
            first = story.deploy(story.canary)
            story.until(first, "active")
            story.no_faults()
            story.note_secrets()
            story.call("DELETE", f"tenants/{story.tenant}/participant-profiles/{first['id']}")
            story.until(first, "disposed")
            story.fault("vault", path="/auth/jwt/role/", method="POST", status=400, afterEffect=True)
            second = story.deploy(f"did:web:{uuid.uuid4()}.example")
            story.until(second, "error", "disposed")
            story.note_secrets()
            story.no_faults()
            story.until(second, "disposed")
            story.note_secrets()
            failed = second["orchestrationId"]
            story.ask_for_everything(first["orchestrationId"], failed, compensation_id(failed))
            yield story
        finally:
            story.close()
            tap.stop()


def test_no_secret_is_anywhere_but_where_it_belongs(story: Story) -> None:
    assert {name: found for name, place in story.places().items() if (found := found_in(place, story.secrets))} == {}


def test_no_secret_is_in_a_command_line(story: Story) -> None:
    assert found_in(story.command_lines, story.secrets) == []
    for process in ("gateway", "postgres", "nats-server"):
        assert process.encode() in story.command_lines


def test_the_audit_trail_was_searched(story: Story) -> None:
    (changed,) = story.call("GET", "audit?q=reason+like+'seen%25'")
    assert changed["reason"] == "seen: Bearer ***, password=***"


def test_what_is_no_secret_is_found_everywhere(story: Story) -> None:
    assert [name for name, place in story.places().items() if not found_in(place, {story.canary})] == []


def test_what_is_handed_to_agents_and_back_was_searched(story: Story) -> None:
    subjects = {message.subject for message in story.tap.messages}
    for kind in ("jwtlet-activity", "keycloak-activity", "vault-activity"):
        assert any(kind in subject for subject in subjects)


def test_the_secrets_of_all_parties_were_looked_for(story: Story) -> None:
    assert len([one for one in story.secrets if one.startswith("s.")]) >= 1, "tokens of the vault"
    assert len([one for one in story.secrets if one.count(".") == 2]) >= 10, "tokens of jwtlet and Keycloak"
    clients = [one for one in story.secrets if len(one) == 64 and set(one) <= set("0123456789abcdef")]
    assert len(clients) >= 4, "secrets of clients"
    assert all(len(one) >= SHORTEST for one in story.secrets)


def test_a_secret_in_another_form_is_found() -> None:
    secret = "header.payload.a-signature-of-a-token"
    raw = b"a-signature-of-a-token"
    for place in (raw, b"\\x" + raw.hex().encode(), base64.b64encode(raw), f"Bearer {secret}".encode()):
        assert found_in(b"before " + place + b" behind", {secret}) == ["header…"]
    assert found_in(b"header.payload", {secret}) == []
