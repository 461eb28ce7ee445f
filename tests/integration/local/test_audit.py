"""The commands that tell of the audit trail and of settings."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from cfm_core.audit.model import Kind, Subject
from cfm_core.audit.store import PostgresAudit, note
from cfm_core.store.database import Database
from local.cli import main
from tests.support.audit import tamper


@pytest.fixture
def trail(database: Database) -> Database:
    note(
        database, Subject(Kind.SCHEDULES, "s"), "create", "absent", "version 0", actor="ann", reason="", request_id="r"
    )
    PostgresAudit(database).seal(10)
    return database


def test_a_trail_that_holds_is_verified(trail: Database, database_url: str) -> None:
    done = CliRunner().invoke(main, ["audit", "verify"], env={"CFM_DATABASE_URL": database_url})
    ((digest,),) = trail.rows("SELECT encode(digest, 'hex') FROM audit.seal")
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == f"1 entries under 1 seals, the last one 1:{digest}\n"
    seal = CliRunner().invoke(
        main, ["audit", "verify", "--seal", f"1:{digest}"], env={"CFM_DATABASE_URL": database_url}
    )
    assert seal.exit_code == 0


def test_what_was_tampered_with_is_told_and_fails(trail: Database, database_url: str) -> None:
    tamper(trail, "UPDATE audit.entry SET action = 'delete'")
    done = CliRunner().invoke(main, ["audit", "verify"], env={"CFM_DATABASE_URL": database_url})
    assert (done.exit_code, done.stdout) == (1, "altered: entry 1 of seal 1\n")


def test_a_seal_that_is_not_there_fails(trail: Database, database_url: str) -> None:
    for anchor, tampering in (("1:00", "altered"), ("2:00", "removed")):
        done = CliRunner().invoke(main, ["audit", "verify", "--seal", anchor], env={"CFM_DATABASE_URL": database_url})
        assert (done.exit_code, done.stdout.partition(":")[0]) == (1, tampering)
    wrong = CliRunner().invoke(main, ["audit", "verify", "--seal", "x"], env={"CFM_DATABASE_URL": database_url})
    assert wrong.exit_code == 2


def test_a_database_that_does_not_answer_is_told_without_its_password() -> None:
    url = "postgresql://cfm:canary@127.0.0.1:1/cfm"
    done = CliRunner().invoke(main, ["audit", "verify"], env={"CFM_DATABASE_URL": url})
    assert done.exit_code == 7
    assert "127.0.0.1:1" in done.stderr
    assert "canary" not in done.output


@pytest.mark.parametrize("output", ["table", "json"])
def test_settings_are_shown_without_secrets(output: str) -> None:
    environ = {"CFM_DATABASE_URL": "postgresql://cfm:canary@h/d", "CFM_EVENT_TOKEN": "canary"}
    done = CliRunner().invoke(main, ["settings", "-o", output], env=environ)
    assert done.exit_code == 0
    assert "postgresql://cfm:***@h/d" in done.output
    assert "canary" not in done.output
    wrong = CliRunner().invoke(main, ["settings"], env={"CFM_HISTORY_DAYS": "x"})
    assert (wrong.exit_code, "CFM_HISTORY_DAYS" in wrong.stderr) == (1, True)
