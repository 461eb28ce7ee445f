"""``cfm administrator``: once, and only in a database that is there."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cfm_core.access.model import Action, Resource, Right
from cfm_core.access.store import PostgresRights
from cfm_core.store.database import Database
from cfm_core.store.roles import Role
from local.administrators import administrator
from local.cli import CONFLICT, UNREACHABLE
from tests.support.roles import as_role


def run(url: str, *arguments: str) -> Result:
    return CliRunner().invoke(administrator, arguments, env={"CFM_DATABASE_URL": url})


def test_the_first_administrator_may_do_everything_and_there_is_no_second(
    database: Database, database_url: str
) -> None:
    done = run(database_url, "alice", "--issuer", "https://sso.example")
    assert done.exit_code == 0, done.output
    assert "alice may do everything" in done.output
    rights = PostgresRights(database)
    assert rights.find("https://sso.example", "alice", ()).rights == (Right(Action.ANY, Resource.ANY),)
    assert rights.find("https://other.example", "alice", ()).rights == ()
    noted = database.rows("SELECT actor, issuer, action, kind, document_after->>'subject', reason FROM audit.trail")
    assert noted == [["cfm administrator", "", "create", "users", "alice", "the first administrator"]]
    for subject in ("alice", "bob"):
        refused = run(database_url, subject)
        assert refused.exit_code == CONFLICT
        assert "there is a user already who may do everything" in refused.output
    assert rights.find("", "bob", ()).rights == ()


@pytest.mark.parametrize(
    ("role", "code"), [(Role.MAINTENANCE, 0), (Role.TENANT_MANAGER, 0), (Role.PROVISION_MANAGER, UNREACHABLE)]
)
def test_whoever_may_write_users_makes_the_first_administrator(database_url: str, role: Role, code: int) -> None:
    assert run(as_role(role, database_url), "alice").exit_code == code


@pytest.mark.parametrize("subject", ["", "a\0b"])
def test_a_subject_that_no_token_has_is_refused(database_url: str, subject: str) -> None:
    assert run(database_url, subject).exit_code == 2


def test_without_a_database_nothing_is_done(tmp_path: Path) -> None:
    assert run("postgresql://cfm:secret@127.0.0.1:1/cfm", "alice").exit_code == UNREACHABLE
    result = run("", "alice", "--data", str(tmp_path))
    assert result.exit_code == UNREACHABLE
    assert "nothing runs" in result.output
