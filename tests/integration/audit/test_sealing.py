"""The delivery cases of sealing, and who is refused what."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest
from pg8000.exceptions import DatabaseError

from cfm_core.audit.evidence import snapshot
from cfm_core.audit.model import Kind, Manager, Subject
from cfm_core.audit.service import SEALED_AT_ONCE, Audit, Erasure
from cfm_core.audit.store import PostgresAudit, note
from cfm_core.audit.verification import verify
from cfm_core.errors import CfmError
from cfm_core.query import Page
from cfm_core.store.database import Database, Transaction, connect
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


@pytest.mark.parametrize("role", [Role.TENANT_MANAGER, Role.PROVISION_MANAGER, Role.TRIGGER])
def test_no_other_role_keeps_anything_from_being_sealed(database: Database, database_url: str, role: Role) -> None:
    write(database)
    with contextlib.closing(connect(as_role(role, database_url))) as other:
        for lock in ("SELECT FROM audit.turn FOR UPDATE", "LOCK TABLE audit.turn", "LOCK TABLE audit.seal"):
            other.run("BEGIN")
            with pytest.raises(DatabaseError, match="permission denied"):
                other.run(lock)
            other.run("ROLLBACK")
        other.run("SELECT pg_advisory_lock(hashtextextended('audit.seal', 0))")
        assert PostgresAudit(database).seal(10) is not None


def test_a_role_that_is_no_json_is_sealed_and_told(database: Database, database_url: str) -> None:
    tenant_manager = connect(as_role(Role.TENANT_MANAGER, database_url))
    with contextlib.closing(tenant_manager):
        tenant_manager.run("SET cfm.caller = '{}'")
        tenant_manager.run(
            "INSERT INTO tenant_manager.roles (id, name, rights, properties)"
            """ VALUES (gen_random_uuid(), 'r', '[{"action": "x\\"y", "resource": "z"}]', '{}')"""
        )
    telling = "SELECT jsonb_typeof(document_after) FROM audit.trail"
    assert database.rows(telling) == [["string"]]
    assert PostgresAudit(database).seal(10) is not None
    assert database.rows(telling) == [["string"]]


@pytest.mark.parametrize("document", ["no JSON", "1e999999", '"\\u0000"', "[" * 100_000])
def test_what_the_provision_manager_notes_is_sealed_whatever_it_is(
    database: Database, database_url: str, document: str
) -> None:
    noting = (
        "SELECT provision_manager.note('a', 'schedules', 's', '', 'b', 'c', :document, NULL, NULL, NULL, 'x', '', '')"
    )
    with contextlib.closing(Database(as_role(Role.PROVISION_MANAGER, database_url))) as provision_manager:
        try:
            provision_manager.rows(noting, document=document)
        except CfmError:
            # What may hold secrets is looked into, and refused at once.
            write(database)
    seal = PostgresAudit(database).seal(10)
    assert seal is not None
    assert seal.entries == 1
    assert database.value("SELECT count(audit.entry_json(t)) FROM audit.trail t") == 1


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
        "SELECT provision_manager.note('create', 'schedules', 's', '', '', '', NULL, NULL, NULL, NULL, 'ann', '', 'r')"
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
    "statement",
    [
        "DELETE FROM audit.waiting",
        "TRUNCATE audit.waiting",
        "UPDATE audit.waiting SET id = id + 1",
        "UPDATE audit.waiting SET after = 'deleted'",
        "UPDATE audit.waiting SET actor = 'bob'",
        "UPDATE audit.waiting SET actor = NULL",
        "UPDATE audit.waiting SET reason = 'another'",
        "UPDATE audit.waiting SET who_erased_by = 1",
        "UPDATE audit.waiting SET actor = 'bob', who_erased_by = 1",
        "UPDATE audit.waiting SET reason = 'another', what_erased_by = 1",
        "UPDATE audit.waiting SET actor = 'bob', what_erased_by = 1, reason = NULL",
        # Not even where a part of it has got to its place.
        "WITH e AS (INSERT INTO audit.entry SELECT id, at, manager, action, kind, entity_id, part, before, after, request_id"
        " FROM audit.waiting) DELETE FROM audit.waiting",
    ],
)
def test_what_waits_is_sealed_as_it_was_written(database: Database, statement: str) -> None:
    write(database)
    before = database.rows("SELECT w::text FROM audit.waiting w")
    with pytest.raises(CfmError):
        database.rows(statement)
    assert database.rows("SELECT w::text FROM audit.waiting w") == before


def test_nothing_is_erased_between_waiting_and_being_sealed(database: Database, pool: Database) -> None:
    write(database)
    erasure = Erasure(actor="eve", reason="asked for", request_id="r")
    with ThreadPoolExecutor(1) as thread:
        with database.transaction() as tx:
            assert tx.rows("SELECT number FROM audit.seal_waiting(10)") == [[1]]
            erasing = thread.submit(PostgresAudit(pool).erase_actor, "ann", "", erasure)
            waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted"
            deadline = time.monotonic() + 30
            while not pool.value(waits):
                assert not erasing.done(), "it has not waited"
                assert time.monotonic() < deadline
        assert erasing.result() == 1
    assert pool.rows("SELECT actor FROM audit.payload") == [[None]]


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
    PostgresAudit(database).seal(10)
    before = database.rows("SELECT p::text FROM audit.payload p")
    with pytest.raises(CfmError):
        database.rows(f"UPDATE audit.payload SET {change}")  # noqa: S608
    assert database.rows("SELECT p::text FROM audit.payload p") == before


def test_what_is_empty_stays_empty(database: Database) -> None:
    write(database)
    PostgresAudit(database).seal(10)
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


CALLER = '{"actor":"ann","issuer":"i","requestId":"r","address":"192.0.2.7","reason":""}'


def make_cell(manager: Database) -> None:
    """As the Tenant Manager's role, by a request of Ann's."""
    with manager.transaction() as tx:
        tx.rows("SELECT set_config('cfm.caller', :caller, true)", caller=CALLER)
        tx.rows(
            "INSERT INTO tenant_manager.cells (id, state, state_at, properties)"
            " VALUES (gen_random_uuid(), 'active', now(), '{}')"
        )


FORGED = "'create', :kind, 'forged', '', '', '', NULL, NULL, NULL, NULL"
WRITES: Mapping[Role, Callable[[Database], None]] = {
    Role.TENANT_MANAGER: make_cell,
    Role.PROVISION_MANAGER: write,
}


@pytest.mark.parametrize("role", MANAGERS)
def test_managers_note_what_they_do_and_change_nothing_of_it(database_url: str, role: Role) -> None:
    with session(role, database_url) as manager, session(Role.MAINTENANCE, database_url) as maintenance:
        WRITES[role](manager)
        Audit(PostgresAudit(maintenance)).seal()
        WRITES[role](manager)
        for table in TABLES:
            assert refused(manager, f"DELETE FROM {table}")  # noqa: S608
            assert refused(manager, f"TRUNCATE {table}")
        for statement in (
            "INSERT INTO audit.waiting (manager, action, kind, entity_id, part, before, after, request_id)"
            " VALUES ('tenant-manager', 'create', 'tenants', 't', '', '', '', '')",
            "INSERT INTO audit.entry (id, at, manager, action, kind, entity_id, part, before, after, request_id)"
            " VALUES (9, now(), 'tenant-manager', 'create', 'tenants', 't', '', '', '', '')",
            "UPDATE audit.waiting SET action = 'delete'",
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


@pytest.mark.parametrize("kind", Kind)
def test_no_manager_writes_in_the_others_name(database: Database, database_url: str, kind: Kind) -> None:
    own = f"SELECT provision_manager.note({FORGED}, 'ann', '', 'r')"
    inner = f"SELECT audit.note({FORGED})"
    allowed, refusals = [], set()
    for role in Role:
        with session(role, database_url) as one:
            for statement in (own, inner):
                try:
                    one.rows(statement, kind=kind)
                    allowed.append((role, statement))
                except CfmError as error:
                    refusals.add("42501" in str(error.__cause__))
    owner = [(Role.MAINTENANCE, inner)]
    if kind.manager is Manager.PROVISION_MANAGER:
        owner = [(Role.PROVISION_MANAGER, own), (Role.MAINTENANCE, own), *owner]
    assert (allowed, refusals) == (owner, {True})
    # Whoever writes, it is in the name of the manager whose entities are of that kind.
    assert {name for (name,) in database.rows("SELECT manager FROM audit.trail")} == {kind.manager}


def test_nobody_notes_an_erasure_without_erasing(database_url: str) -> None:
    erased = FORGED.replace("'create', :kind, 'forged', '', '', ''", "'erase', :kind, 'forged', '', 'kept', 'erased 1'")
    statement = f"SELECT provision_manager.note({erased}, 'ann', '', 'r')"
    with session(Role.PROVISION_MANAGER, database_url) as one, pytest.raises(CfmError) as error:
        one.rows(statement, kind=Kind.SCHEDULES)
    assert "42501" in str(error.value.__cause__)


def test_an_entry_of_the_other_managers_kind_is_refused_to_the_owner_too(database: Database) -> None:
    with pytest.raises(CfmError):
        database.rows(
            "INSERT INTO audit.entry (id, at, manager, action, kind, entity_id, part, before, after, request_id)"
            " VALUES (9, now(), 'provision-manager', '', 'tenants', '', '', '', '', '')"
        )


def test_the_provision_manager_alone_tells_and_erases(database_url: str) -> None:
    erasure = Erasure(actor="eve", reason="asked for", request_id="r")
    with session(Role.TENANT_MANAGER, database_url) as other, session(Role.PROVISION_MANAGER, database_url) as one:
        make_cell(other)
        for table in (*TABLES, "audit.trail", "audit.evidence"):
            assert refused(other, f"SELECT count(*) FROM {table}"), table  # noqa: S608
        with pytest.raises(CfmError):
            PostgresAudit(other).erase_actor("ann", "", erasure)
        audit = Audit(PostgresAudit(one))
        (entry,) = json.loads(audit.select("actor = 'ann'", Page()).json)
        assert (entry["manager"], entry["kind"], entry["documentAfter"]["state"]) == (
            "tenant-manager",
            "cells",
            "active",
        )
        assert audit.erase_actor("ann", erasure) == 1
        assert [entry.get("actor") for entry in json.loads(audit.select("true", Page()).json)] == [None, "eve"]


@pytest.mark.parametrize("role", [Role.TRIGGER, Role.TENANT_MANAGER_TRIGGER, Role.PROVISION_MANAGER_TRIGGER])
def test_triggers_have_nothing_to_do_with_the_trail(database_url: str, role: Role) -> None:
    with session(role, database_url) as trigger:
        for statement in (
            "SELECT count(*) FROM audit.trail",
            "SELECT audit.seal_waiting(1)",
        ):
            assert refused(trigger, statement), statement
