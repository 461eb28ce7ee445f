"""The commands by which a deployment gets its roles, users and tokens."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cfm_core.contracts.event_tokens import derived
from cfm_core.store.database import connect
from cfm_core.store.migrations import known
from cfm_core.store.roles import Role, url_of
from local.servers.nats import EmbeddedNats, _binary, lets_in
from local.servers.postgres import EmbeddedPostgres
from local.servers.process import answers, free_port, spawn, stop, wait_until
from tests.integration.eventing.harness import until

KEY = "the-key-of-the-trigger"


def cfm(*arguments: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "local", *arguments],
        env={"PATH": os.defpath, "PYTHONPATH": os.pathsep.join(sys.path), **environ},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def empty_url(postgres: EmbeddedPostgres) -> Iterator[str]:
    admin = connect(postgres.url("postgres"))
    admin.run("CREATE DATABASE to_migrate")
    yield postgres.url("to_migrate")
    admin.run("DROP DATABASE to_migrate WITH (FORCE)")
    for role in Role:
        admin.run(f"DROP ROLE IF EXISTS {role.called('to_migrate')}")
    admin.close()


def test_migrate_makes_roles_and_tables_and_can_be_repeated(empty_url: str, tmp_path: Path) -> None:
    passwords = tmp_path / "passwords.json"
    passwords.write_text(json.dumps({"tenant_manager": "the-password"}))
    done = cfm("migrate", "--passwords", passwords, CFM_DATABASE_URL=empty_url)
    assert (done.returncode, len(done.stdout.splitlines())) == (0, len(known())), done.stderr
    again = cfm("migrate", CFM_DATABASE_URL=empty_url)
    assert (again.returncode, again.stdout) == (0, ""), again.stderr
    connection = connect(url_of(Role.TENANT_MANAGER, empty_url, "the-password"))
    assert connection.run("SELECT count(*) FROM tenant_manager.tenants") == [[0]]
    connection.close()
    assert "the-password" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "must hold a JSON object with a password for each of tenant_manager,"),
        ('{"postgres": "secret"}', "must hold a JSON object with a password for each of tenant_manager,"),
        ('{"trigger": ""}', "a password is a text that is not empty"),
        ('["secret"]', "must hold a JSON object"),
    ],
)
def test_migrate_refuses_a_file_of_passwords_that_is_none(tmp_path: Path, text: str, complaint: str) -> None:
    passwords = tmp_path / "passwords.json"
    passwords.write_text(text)
    done = cfm("migrate", "--passwords", passwords, CFM_DATABASE_URL="postgresql://u:p@127.0.0.1:1/d")
    assert (done.returncode, done.stdout) == (1, "")
    assert complaint in done.stderr
    assert "secret" not in done.stderr


def test_migrate_says_where_it_looks_for_the_database() -> None:
    done = cfm("migrate")
    assert (done.returncode, done.stderr) == (
        1,
        "cfm: CFM_DATABASE_URL is not set; it says where the database is, and who connects\n",
    )
    nobody = cfm("migrate", CFM_DATABASE_URL="postgresql://u:the-password@127.0.0.1:1/d")
    assert (nobody.returncode, nobody.stdout) == (7, "")
    assert "the-password" not in nobody.stderr


def test_a_server_takes_the_accounts_as_they_are_printed(tmp_path: Path) -> None:
    agent = tmp_path / "acme.py"
    agent.write_text(
        "from cfm_core.agent import Complete, activity\n"
        '@activity("acme.dns")\n'
        "class Dns:\n"
        "    def deploy(self, ctx):\n"
        "        return Complete()\n"
    )
    printed = cfm("nats-users", "--agent", agent)
    assert printed.returncode == 0, printed.stderr
    assert (
        "# agent-acme=dns: CFM_NATS_USER=agent-acme=dns CFM_NATS_INBOX_PREFIX=_INBOX.agent-acme=dns" in printed.stdout
    )
    (tmp_path / "accounts.conf").write_text(printed.stdout)
    port = free_port()
    config = tmp_path / "nats.conf"
    config.write_text(
        f"listen: 127.0.0.1:{port}\njetstream {{ store_dir: {str(tmp_path / 'streams')!r} }}\ninclude ./accounts.conf\n"
    )
    variables = {line.split(": $")[1].rstrip(",") for line in printed.stdout.splitlines() if '"password"' in line}
    log = tmp_path / "nats.log"
    environ = {name: f"password-of-{name}" for name in variables}
    checked = subprocess.run([_binary(), "-t", "-c", config], env=environ, capture_output=True, text=True, check=False)
    assert (checked.returncode, "is valid" in checked.stderr) == (0, True), checked.stderr
    process = spawn([_binary(), "-c", config], log=log, env={"PATH": os.defpath, **environ})
    try:
        wait_until(lambda: answers("127.0.0.1", port), process=process, log=log, what="NATS")
        assert lets_in(port, "tenant-manager", "password-of-CFM_NATS_PASSWORD_TENANT_MANAGER")
        assert lets_in(port, "agent-acme=dns", "password-of-CFM_NATS_PASSWORD_AGENT_ACME_DNS")
        assert not lets_in(port, "tenant-manager", "password-of-CFM_NATS_PASSWORD_AGENT_ACME_DNS")
    finally:
        stop(process)


def test_users_are_let_in_without_a_restart_and_after_one(tmp_path: Path) -> None:
    own = EmbeddedNats(tmp_path / "nats", tmp_path / "nats.log")
    own.start()
    try:
        assert not lets_in(own.port, "one", "password")
        own.admit([{"user": "one", "password": "password"}])
        assert lets_in(own.port, "one", "password")
        own.stop()
        own.start()
        assert lets_in(own.port, "one", "password")
        own.admit([])
        until(lambda: not lets_in(own.port, "one", "password"))
    finally:
        own.stop()


def test_event_tokens_are_those_that_the_trigger_shows(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text(KEY)
    new.write_text("the-key-from-now-on\n")
    done = cfm("event-tokens", "--key-file", new, "--key-file", old, "sweep_orchestrations")
    assert json.loads(done.stdout) == {
        "sweep_orchestrations": [
            derived("the-key-from-now-on", "sweep_orchestrations"),
            derived(KEY, "sweep_orchestrations"),
        ]
    }
    everything = json.loads(cfm("event-tokens", "--key-file", old).stdout)
    assert {"start_orchestrations", "jwtlet_activity", "apply_orchestration_responses"} <= everything.keys()


def test_event_tokens_of_what_is_not_there_are_refused(tmp_path: Path) -> None:
    key, short = tmp_path / "key", tmp_path / "short"
    key.write_text(KEY)
    short.write_text("secret")
    unknown = cfm("event-tokens", "--key-file", key, "create_tenant")
    assert (unknown.returncode, unknown.stderr) == (1, "cfm: there is no event function create_tenant\n")
    too_short = cfm("event-tokens", "--key-file", short)
    assert (too_short.returncode, too_short.stdout) == (1, "")
    assert "secret" not in too_short.stderr
