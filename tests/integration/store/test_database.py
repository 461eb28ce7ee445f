from __future__ import annotations

import contextlib
import select
import socket
import threading
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from cfm_core.contracts import wake
from cfm_core.contracts.reply import OutboxRow
from cfm_core.errors import ConflictError, FatalError, RecoverableError, ValidationError
from cfm_core.secret_file import LastingSecret
from cfm_core.store import outbox
from cfm_core.store.database import Database, connect
from cfm_core.store.migrations import Migration, known, migrate
from local.servers.postgres import EmbeddedPostgres


def test_a_transaction_is_committed_at_the_end_of_the_block(database: Database) -> None:
    with database.transaction() as transaction:
        transaction.rows("CREATE TABLE t (i integer)")
        transaction.rows("INSERT INTO t VALUES (:i)", i=1)
    assert database.rows("SELECT i FROM t") == [[1]]


def test_a_transaction_that_raises_leaves_nothing_behind(database: Database) -> None:
    database.rows("CREATE TABLE t (i integer)")
    with pytest.raises(KeyError), database.transaction() as transaction:
        transaction.rows("INSERT INTO t VALUES (1)")
        raise KeyError
    assert database.rows("SELECT i FROM t") == []


def test_a_prepared_statement_asks_for_its_answer_once(
    postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = connect(postgres.url("postgres"))
    statement = connection.prepare("SELECT :i::integer + 1, :t::text, :n::text")
    sent: list[bytes] = []
    write = connection._sock.write

    def noted(part: bytes) -> int:
        sent.append(part)
        count: int = write(part)
        return count

    monkeypatch.setattr(connection._sock, "write", noted)
    assert statement.run(i=1, t="\u00e9\U0001f600", n=None) == [[2, "\u00e9\U0001f600", None]]
    connection.close()
    asks_to_flush, asks_to_sync = b"H\x00\x00\x00\x04", b"S\x00\x00\x00\x04"
    assert asks_to_flush not in sent
    assert sent.count(asks_to_sync) == 1


def test_connections_that_the_server_closed_are_replaced(database: Database, postgres: EmbeddedPostgres) -> None:
    pid = database.value("SELECT pg_backend_pid()")
    admin = connect(postgres.url("postgres"))
    admin.run("SELECT pg_terminate_backend(:pid, 5000)", pid=pid)
    admin.close()
    with database.transaction() as transaction:
        assert transaction.value("SELECT pg_backend_pid()") != pid


def test_a_statement_on_a_connection_lost_meanwhile_is_recoverable(database: Database) -> None:
    with pytest.raises(RecoverableError), database.transaction() as transaction:
        transaction.rows("SELECT pg_terminate_backend(pg_backend_pid())")
        transaction.rows("SELECT 1")
    assert database.value("SELECT 1") == 1


@contextlib.contextmanager
def vanishing(server: EmbeddedPostgres, when: bytes) -> Iterator[int]:
    """A way to ``server`` that ends without a word once ``when`` is asked for; gives its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def pass_on() -> None:
        client, _ = listener.accept()
        with client, socket.create_connection(("127.0.0.1", server.port)) as behind:
            others = {client: behind, behind: client}
            while True:
                for speaker in select.select(list(others), [], [])[0]:
                    said = speaker.recv(65536)
                    if not said or (speaker is client and when in said):
                        return
                    others[speaker].sendall(said)

    thread = threading.Thread(target=pass_on)
    thread.start()
    with listener:
        yield listener.getsockname()[1]
        thread.join()


def test_a_server_that_goes_as_soon_as_it_has_let_one_in_may_answer_later(postgres: EmbeddedPostgres) -> None:
    with vanishing(postgres, b"plan_cache_mode") as port:
        database = Database(postgres.url("postgres").replace(f":{postgres.port}/", f":{port}/"), size=1)
        with pytest.raises(RecoverableError, match="the connection to the database is lost"):
            database.rows("SELECT 1")
        database.close()


def test_a_database_that_takes_no_writes_may_take_them_later(database: Database) -> None:
    with pytest.raises(RecoverableError), database.transaction() as transaction:
        transaction.rows("SET TRANSACTION READ ONLY")
        transaction.rows("CREATE TABLE t (i integer)")


def test_what_a_migration_has_not_made_yet_may_be_there_later(database: Database) -> None:
    with pytest.raises(RecoverableError):
        database.rows("SELECT * FROM not_there_yet")


def test_a_database_that_refuses_the_password_may_accept_it_later(postgres: EmbeddedPostgres) -> None:
    with pytest.raises(RecoverableError, match="28P01"):
        connect(postgres.url("postgres").replace("cfm:", "cfm:no", 1))


def test_a_connection_lost_while_a_client_error_is_raised_is_not_used_again(
    database: Database, postgres: EmbeddedPostgres
) -> None:
    with pytest.raises(ConflictError), database.transaction() as transaction:
        pid = transaction.value("SELECT pg_backend_pid()")
        admin = connect(postgres.url("postgres"))
        admin.run("SELECT pg_terminate_backend(:pid, 5000)", pid=pid)
        admin.close()
        raise ConflictError("not like this")
    assert database.value("SELECT 1") == 1


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:canary/canary@h/db",
        "postgresql://u:canary#canary@h/db",
        "postgresql://u:canary\u2100@h/db",
        "postgresql://u:canary@[h/db",
        "postgresql://u:canary@h:canary/db",
        "mysql://u:canary@h/db",
    ],
)
def test_a_url_that_cannot_be_read_is_not_repeated(url: str) -> None:
    with pytest.raises(FatalError, match="the database URL must read postgresql:") as caught:
        connect(url)
    assert "canary" not in "".join(traceback.format_exception(caught.value))


def test_a_driver_error_shows_no_sql(database: Database) -> None:
    with pytest.raises(FatalError) as caught:
        database.rows("SELECT no_such_column")
    assert "no_such_column" not in str(caught.value)


def test_a_nul_character_is_the_callers_mistake(database: Database) -> None:
    with pytest.raises(ValidationError):
        database.rows("SELECT :text::jsonb", text='"\\u0000"')


def test_threads_share_the_pool(database: Database) -> None:
    with ThreadPoolExecutor(16) as threads:
        assert sorted(threads.map(lambda i: database.value("SELECT :i::integer", i=i), range(64))) == list(range(64))


def test_migrations_are_applied_once(database_url: str) -> None:
    assert migrate(database_url) == []


def test_two_runners_at_once_apply_each_migration_once(postgres: EmbeddedPostgres) -> None:
    admin = connect(postgres.url("postgres"))
    admin.run("CREATE DATABASE migrated_by_two")
    with ThreadPoolExecutor(2) as threads:
        done = list(threads.map(lambda _: migrate(postgres.url("migrated_by_two")), range(2)))
    assert sorted(map(len, done)) == [0, len(known())]
    admin.run("DROP DATABASE migrated_by_two")
    admin.close()


def test_older_code_refuses_a_newer_database(database_url: str) -> None:
    with pytest.raises(FatalError, match="newer than this code"):
        migrate(database_url, known()[:-1])


def test_a_changed_migration_is_refused(database_url: str) -> None:
    changed = [Migration(one.number, one.name, one.sql + " ") for one in known()]
    with pytest.raises(FatalError, match="was changed"):
        migrate(database_url, changed)


def test_a_failing_migration_leaves_nothing_behind(database_url: str) -> None:
    bad = Migration(9999, "bad", "CREATE TABLE left_behind (i integer); SELECT no_such_column")
    with pytest.raises(FatalError, match="9999 bad failed"):
        migrate(database_url, [*known(), bad])
    assert migrate(database_url) == []


def test_a_row_of_the_outbox_is_claimed_by_one_only(database: Database) -> None:
    with database.transaction() as transaction:
        outbox.put(transaction, "event.x", [{"id": "1"}])
    relay = outbox.Outbox(database)
    (row,) = relay.claim()
    assert (row.subject, row.events) == ("event.x", [{"id": "1"}])
    assert relay.claim() == []
    relay.delete([row.id])
    assert database.value("SELECT count(*) FROM eventing.outbox") == 0


def test_a_row_put_for_the_caller_is_not_claimable_at_once(database: Database) -> None:
    with database.transaction() as transaction:
        row = outbox.put_for_caller(transaction, "event.x", [{"id": "1"}])
    assert row.events == [{"id": "1"}]
    assert outbox.Outbox(database).claim() == []


def test_a_row_that_is_undone_with_its_part_is_not_announced(database_url: str) -> None:
    woken: list[OutboxRow | None] = []
    database = Database(database_url, announce=woken.append, hands_over=True)

    def put_and_fail() -> None:
        with database.transaction() as part:
            outbox.put(part, "event.x", [{"id": "1"}])
            raise ValidationError("in vain")

    with database.joined() as transaction:
        with pytest.raises(ValidationError):
            put_and_fail()
        outbox.put(transaction, "event.x", [{"id": "2"}])
    assert [row and row.events for row in woken] == [[{"id": "2"}]]
    database.close()


def test_a_commit_that_announced_a_row_gives_it_to_the_relay(database_url: str) -> None:
    woken: list[OutboxRow | None] = []
    database = Database(database_url, announce=woken.append, hands_over=True)
    with database.transaction() as transaction:
        transaction.rows("SELECT 1")
    assert woken == []
    with database.transaction() as transaction:
        outbox.put(transaction, "event.x", [{"id": "1"}])
        assert woken == []
    assert [row and row.events for row in woken] == [[{"id": "1"}]]
    assert outbox.Outbox(database).claim() == [], "it is left to whoever was told"
    database.close()


@pytest.mark.parametrize(("hands_over", "text"), [(False, "small"), (True, "x" * wake.MOST_EVENTS)])
def test_a_row_that_cannot_be_handed_over_is_free_at_once(database_url: str, hands_over: bool, text: str) -> None:
    woken: list[OutboxRow | None] = []
    database = Database(database_url, announce=woken.append, hands_over=hands_over)
    with database.transaction() as transaction:
        outbox.put(transaction, "event.x", [{"id": text}])
    assert woken == [None]
    assert [row.events for row in outbox.Outbox(database).claim()] == [[{"id": text}]]
    database.close()


def test_a_password_that_changes_is_read_from_its_file(database: Database, database_url: str, tmp_path: Path) -> None:
    parts = urlsplit(database_url)

    def url(password: str) -> str:
        return parts._replace(netloc=f"rotated:{password}@{parts.hostname}:{parts.port}").geturl()

    file = tmp_path / "url"
    file.write_text(url("first"))
    database.rows("CREATE ROLE rotated LOGIN PASSWORD 'first'")
    rotated = Database(LastingSecret(file), size=1)
    try:
        pid = rotated.value("SELECT pg_backend_pid()")
        database.rows("ALTER ROLE rotated PASSWORD 'second'")
        database.rows("SELECT pg_terminate_backend(:pid, 5000)", pid=pid)
        with pytest.raises(RecoverableError):
            rotated.value("SELECT 1")
        file.write_text(url("second"))
        assert rotated.value("SELECT 1") == 1
    finally:
        rotated.close()
        database.rows("DROP ROLE rotated")
