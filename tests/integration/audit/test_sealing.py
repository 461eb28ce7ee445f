"""The delivery cases of sealing, and who is refused what."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from cfm_core.audit.evidence import snapshot
from cfm_core.audit.model import Kind, Subject
from cfm_core.audit.service import SEALED_AT_ONCE, Audit, Erasure
from cfm_core.audit.store import PostgresAudit, note
from cfm_core.audit.verification import verify
from cfm_core.errors import CfmError
from cfm_core.query import Page
from cfm_core.store.database import Database, Transaction
from cfm_core.store.roles import Role
from tests.support.audit import TABLES
from tests.support.roles import as_role

SUBJECT = Subject(Kind.SCHEDULES, "s")
WRITERS = 4
MANAGERS = (Role.TENANT_MANAGER, Role.PROVISION_MANAGER)


@pytest.fixture
def pool(database_url: str) -> Iterator[Database]:
    database = Database(database_url, size=WRITERS + 2)
    yield database
    database.close()


def write(where: Database | Transaction) -> None:
    note(where, SUBJECT, "create", "absent", "active", actor="ann", reason="", request_id="r")


def sealed(database: Database) -> list[tuple[int, int]]:
    """The numbers of the seals, and how many entries each of them has."""
    return [(number, entries) for number, entries in database.rows("SELECT number, entries FROM audit.seal ORDER BY 1")]


def test_what_has_been_committed_is_sealed_once(database: Database) -> None:
    audit = PostgresAudit(database)
    assert audit.seal(10) is None
    write(database)
    write(database)
    seal = audit.seal(10)
    assert seal is not None
    assert (seal.number, seal.entries) == (1, 2)
    assert audit.seal(10) is None
    assert sealed(database) == [(1, 2)]


def test_what_commits_late_gets_into_a_later_seal(database: Database, pool: Database, database_url: str) -> None:
    audit = PostgresAudit(pool)
    with database.transaction() as late:
        write(late)
        write(pool)
        assert audit.seal(10) is not None
        # Nobody waits for it, neither who writes nor who seals.
        write(pool)
        assert audit.seal(10) is not None
    assert audit.seal(10) is not None
    assert pool.rows("SELECT seal, entry_id FROM audit.sealed ORDER BY seal") == [[1, 2], [2, 3], [3, 1]]
    with snapshot(database_url) as evidence:
        assert verify(evidence).findings == []


def test_what_is_rolled_back_was_never_there(database: Database, database_url: str) -> None:
    with pytest.raises(ZeroDivisionError), database.transaction() as tx:
        write(tx)
        raise ZeroDivisionError
    write(database)
    Audit(PostgresAudit(database)).seal()
    with snapshot(database_url) as evidence:
        done = verify(evidence)
    assert (done.findings, done.entries, done.waiting) == ([], 1, 0)


def test_a_crash_while_sealing_leaves_all_of_it_to_the_next(database: Database) -> None:
    write(database)
    with pytest.raises(ZeroDivisionError), database.transaction() as tx:
        assert tx.rows("SELECT number FROM audit.seal_waiting(10)") == [[1]]
        raise ZeroDivisionError
    assert sealed(database) == []
    Audit(PostgresAudit(database)).seal()
    assert sealed(database) == [(1, 1)]


def test_whoever_comes_second_leaves_it_to_the_first(database: Database, pool: Database) -> None:
    write(database)
    with database.transaction() as tx:
        assert tx.rows("SELECT number FROM audit.seal_waiting(10)") == [[1]]
        assert PostgresAudit(pool).seal(10) is None
    assert sealed(database) == [(1, 1)]


def test_many_who_write_and_many_who_seal_make_one_chain(pool: Database, database_url: str) -> None:
    audit, finished = Audit(PostgresAudit(pool)), threading.Event()

    def writes(_: int) -> None:
        for _ in range(50):
            with pool.transaction() as tx:
                write(tx)

    def seals(_: int) -> None:
        while not finished.is_set():
            audit.seal()

    with ThreadPoolExecutor(WRITERS + 2) as threads:
        sealing = [threads.submit(seals, number) for number in range(2)]
        try:
            list(threads.map(writes, range(WRITERS)))
        finally:
            finished.set()
        for one in sealing:
            one.result()
    audit.seal()
    with snapshot(database_url) as evidence:
        done = verify(evidence)
    assert (done.findings, done.entries, done.waiting) == ([], 50 * WRITERS, 0)


def test_a_great_many_are_sealed_in_several_batches(database: Database, database_url: str) -> None:
    database.rows(
        "SELECT audit.note('provision-manager', 'create', 'schedules', 's', '', '', '', NULL, NULL, 'ann', '', 'r')"
        "  FROM generate_series(1, :n)",
        n=SEALED_AT_ONCE + 1,
    )
    Audit(PostgresAudit(database)).seal()
    assert sealed(database) == [(1, SEALED_AT_ONCE), (2, 1)]
    with snapshot(database_url) as evidence:
        assert verify(evidence).findings == []


def test_each_seal_is_told_in_the_log(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    write(database)
    with caplog.at_level("INFO"):
        Audit(PostgresAudit(database)).seal()
    ((number, digest),) = database.rows("SELECT number, encode(digest, 'hex') FROM audit.seal")
    assert f"audit seal {number}:{digest} over 1 entries" in caplog.messages


@pytest.mark.parametrize("table", [table for table in TABLES if table != "audit.waiting"])
def test_nothing_is_taken_back(database: Database, table: str) -> None:
    write(database)
    PostgresAudit(database).seal(10)
    column = "number" if table == "audit.seal" else "entry_id" if table != "audit.entry" else "id"
    for statement in (
        f"DELETE FROM {table}",  # noqa: S608
        f"TRUNCATE {table}",
        f"UPDATE {table} SET {column} = {column} + 1",  # noqa: S608
    ):
        with pytest.raises(CfmError) as refused:
            database.rows(statement)
        assert "is only ever added to" in str(refused.value.__cause__)
    assert database.value(f"SELECT count(*) FROM {table}") == 1  # noqa: S608


@pytest.mark.parametrize(
    "change",
    [
        "actor = 'bob'",
        "reason = 'another'",
        "document_after = '{}'",
        "who_salt = NULL, actor = NULL, issuer = NULL, address = NULL",
        "who_erased_by = 1",
        "what_salt = NULL, reason = NULL, what_erased_by = 1, actor = 'bob'",
    ],
)
def test_a_payload_is_emptied_in_halves_or_stays_as_it_is(database: Database, change: str) -> None:
    write(database)
    before = database.rows("SELECT p::text FROM audit.payload p")
    with pytest.raises(CfmError):
        database.rows(f"UPDATE audit.payload SET {change}")  # noqa: S608
    assert database.rows("SELECT p::text FROM audit.payload p") == before


def test_what_is_empty_stays_empty(database: Database) -> None:
    write(database)
    empty = "who_salt = NULL, actor = NULL, issuer = NULL, address = NULL, who_erased_by"
    database.rows(f"UPDATE audit.payload SET {empty} = 1")  # noqa: S608
    for change in (f"{empty} = 2", "who_salt = gen_random_uuid(), actor = 'bob', who_erased_by = NULL"):
        with pytest.raises(CfmError):
            database.rows(f"UPDATE audit.payload SET {change}")  # noqa: S608


def session(role: Role, database_url: str) -> contextlib.closing[Database]:
    return contextlib.closing(Database(as_role(role, database_url)))


def refused(database: Database, statement: str) -> bool:
    with pytest.raises(CfmError) as error:
        database.rows(statement)
    return "42501" in str(error.value.__cause__)


@pytest.mark.parametrize("role", MANAGERS)
def test_managers_note_what_they_do_and_change_nothing_of_it(database_url: str, role: Role) -> None:
    with session(role, database_url) as manager, session(Role.MAINTENANCE, database_url) as maintenance:
        write(manager)
        Audit(PostgresAudit(maintenance)).seal()
        write(manager)
        for table in TABLES:
            assert refused(manager, f"DELETE FROM {table}")  # noqa: S608
            assert refused(manager, f"TRUNCATE {table}")
        for statement in (
            "INSERT INTO audit.waiting VALUES (1)",
            "INSERT INTO audit.entry (id, manager, action, kind, entity_id, before, after, request_id)"
            " VALUES (9, 'tenant-manager', '', '', '', '', '', '')",
            "UPDATE audit.entry SET action = 'delete'",
            "UPDATE audit.payload SET actor = 'bob'",
            "SELECT setval('audit.entry_id', 1)",
            "ALTER TABLE audit.entry DISABLE TRIGGER entry_is_kept",
            "SELECT audit.seal_waiting(10)",
        ):
            assert refused(manager, statement), statement
    with snapshot(database_url) as evidence:
        done = verify(evidence)
    assert (done.findings, done.entries, done.waiting) == ([], 1, 1)


def test_the_provision_manager_alone_tells_and_erases(database_url: str) -> None:
    erasure = Erasure(actor="eve", reason="asked for", request_id="r")
    with session(Role.TENANT_MANAGER, database_url) as other, session(Role.PROVISION_MANAGER, database_url) as one:
        note(
            *(other, Subject(Kind.CELLS, "c"), "create", "absent", "version 0"),
            actor="ann",
            reason="",
            request_id="r",
            documents=(None, {"id": "c"}),
        )
        for table in (*TABLES, "audit.trail", "audit.evidence"):
            assert refused(other, f"SELECT count(*) FROM {table}"), table  # noqa: S608
        with pytest.raises(CfmError):
            PostgresAudit(other).erase_actor("ann", "", erasure)
        audit = Audit(PostgresAudit(one))
        (entry,) = json.loads(audit.select("actor = 'ann'", Page()).json)
        assert (entry["kind"], entry["documentAfter"]) == ("cells", {"id": "c"})
        assert audit.erase_actor("ann", erasure) == 1
        assert [entry.get("actor") for entry in json.loads(audit.select("true", Page()).json)] == [None, "eve"]


@pytest.mark.parametrize("role", [Role.TRIGGER, Role.TENANT_MANAGER_TRIGGER, Role.PROVISION_MANAGER_TRIGGER])
def test_triggers_have_nothing_to_do_with_the_trail(database_url: str, role: Role) -> None:
    with session(role, database_url) as trigger:
        for statement in ("SELECT count(*) FROM audit.trail", "SELECT audit.has_caller()"):
            assert refused(trigger, statement), statement
