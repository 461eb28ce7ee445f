"""Postgres through pg8000: a small pool of connections, prepared statements, transactions, translated errors.

The only module that knows the driver. Connections are opened when first needed and replaced when lost.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pg8000.native
from pg8000.converters import VARCHAR
from pg8000.core import BIND, EXECUTE_MSG
from pg8000.exceptions import DatabaseError, InterfaceError

from cfm_core import caller
from cfm_core.contracts.reply import OutboxRow
from cfm_core.errors import CfmError, FatalError, RecoverableError, ValidationError
from cfm_core.store.constraints import error_for

Row = list[Any]

_BAD_URL = (
    "the database URL must read postgresql://user:password@host:port/database, other characters than letters and digits of a"
    " password as in /: %2F"
)

_STATEMENTS_PER_CONNECTION = 128
_CONNECT_TIMEOUT_SECONDS = 5
_ANSWER_TIMEOUT_SECONDS = 60
_WAIT_FOR_CONNECTION_SECONDS = 10

_LOST = (InterfaceError, OSError, EOFError)
_RECOVERABLE_CLASSES = {"08", "25", "28", "3D", "3F", "40", "53", "55", "57", "58"}
"""SQLSTATE classes that time, or an operator, may mend without the request being another one: connection, read-only,
authorization, database and schema that are not there, serialization, resources, object in use, intervention, system."""
_RECOVERABLE_CODES = {"42501", "42P01", "42883"}
"""Likewise: a right that is missing, and a table or function that a migration has not made yet."""
_LENGTH, _COUNT = struct.Struct("!i"), struct.Struct("!H")
_NULL = _LENGTH.pack(-1)
_TELL = "SELECT WHERE set_config('cfm.caller', $1, true) IS NULL"
"""Gives no row, so that nobody has to look at its answer."""
_SESSION = (
    # Statements are prepared and keyed: planning them anew with each value costs more than it gains.
    "SET plan_cache_mode = force_generic_plan;"
    # Whoever is frozen in the middle of a transaction must not keep rows from everybody else. A role's own limits stay.
    "SELECT set_config(name, value, false) FROM (VALUES ('idle_in_transaction_session_timeout', '60s'),"
    " ('lock_timeout', '20s'), ('statement_timeout', '50s')) AS needed (name, value) WHERE current_setting(name) = '0'"
)
_DOES_NOT_ENCRYPT = "Server refuses SSL"
"""The driver's words."""
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class Driver(pg8000.native.Connection):  # type: ignore[misc]  # the driver has no types
    """The driver's connection, which gives ``varchar`` as the bytes that came, and gets each answer at once.

    A long page never becomes a text: one character beyond the basic plane would make that four bytes for each. What is
    stored is ``text``, and comes as ``str``.

    The driver asks the server to send what there is after each part of a statement, and so is woken three times for an
    answer. Here only the end of a statement makes the server send.
    """

    _tell: bytes | None = None
    """The name of the prepared statement that tells who asks."""

    def send_BIND(self, statement_name_bin: bytes, params: Sequence[str | None]) -> None:
        parts = [b"\0", statement_name_bin, _COUNT.pack(0), _COUNT.pack(len(params))]
        for value in params:
            if value is None:
                parts.append(_NULL)
            else:
                encoded = value.encode()
                parts += (_LENGTH.pack(len(encoded)), encoded)
        parts.append(_COUNT.pack(0))
        self._send_message(BIND, b"".join(parts))

    def send_EXECUTE(self) -> None:
        self._sock.write(EXECUTE_MSG)

    def execute_named(self, statement_name_bin: bytes, params: Sequence[str | None], *rest: Any) -> Any:
        """Run a prepared statement; where somebody asks for it, tell the database who before, in the same message.

        Both are in one transaction, whose length the setting lasts.
        """
        if asking := caller.current_text():
            if self._tell is None:
                self._tell, *_ = self.prepare_statement(_TELL, ())
            self.send_BIND(self._tell, [asking])
            self.send_EXECUTE()
        return super().execute_named(statement_name_bin, params, *rest)

    def handle_DATA_ROW(self, data: bytes, context: Any) -> None:
        row: Row = []
        at = 2
        for column, give in zip(context.columns, context.input_funcs, strict=True):
            (length,) = _LENGTH.unpack_from(data, at)
            at += 4
            if length == -1:
                row.append(None)
                continue
            value = data[at : at + length]
            row.append(value if column["type_oid"] == VARCHAR else give(str(value, "utf-8")))
            at += length
        context.rows.append(row)


def translated(error: Exception) -> CfmError:
    """The project's error for one of the driver's. The driver's text goes to the cause, never into the message."""
    if isinstance(error, DatabaseError) and error.args and isinstance(error.args[0], dict):
        fields = error.args[0]
        code = str(fields.get("C", ""))
        constraint, message, detail = (str(fields.get(key, "")) for key in "nMD")
        if (known := error_for(constraint, message, detail)) is not None:
            return known
        if code[:2] in _RECOVERABLE_CLASSES or code in _RECOVERABLE_CODES:
            return RecoverableError("the database cannot answer now")
        if code in {"22021", "22P05"}:
            return ValidationError("a text contains a NUL character or is not valid Unicode")
        return FatalError(f"the database refused a statement (SQLSTATE {code})")
    return RecoverableError("the connection to the database is lost")


def connect(url: str, answer_seconds: int = _ANSWER_TIMEOUT_SECONDS) -> Driver:
    """Open one connection, on which an answer is waited for ``answer_seconds`` (0: for ever).

    The URL is ``postgresql://user:password@host:port/database[?sslmode=...&sslrootcert=...&sslcert=...&sslkey=...]``.

    ``sslmode`` is ``disable``, ``require`` (encrypted, but with whomever), ``verify-ca`` (with a server whose certificate is
    trusted) or ``verify-full`` (and bears the host's name): the default to other machines; to loopback it is ``disable``.
    ``sslrootcert`` is a PEM file of those trusted, by default the system's; the other two are one's own certificate and key.

    Raises:
        RecoverableError: the server cannot be reached, is not ready, does not prove who it is, or refuses these credentials.
        FatalError: the URL is not one.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or 5432
    except ValueError:
        # It quotes what it cannot read: a password with a slash in it is taken for a port.
        raise FatalError(_BAD_URL) from None
    if parts.scheme not in {"postgresql", "postgres"} or not parts.hostname:
        raise FatalError(_BAD_URL)
    context = _tls(parts.hostname, parse_qs(parts.query))
    try:
        connection = Driver(
            user=unquote(parts.username or "postgres"),
            # One that asks for a password refuses an empty one; without any, the driver fails in its own way.
            password=unquote(parts.password or ""),
            host=parts.hostname,
            database=parts.path.lstrip("/") or "postgres",
            ssl_context=context,
            sock=_socket(parts.hostname, port, answer_seconds),
            application_name="cfm",
        )
    except DatabaseError as error:
        code = str(error.args[0].get("C", "")) if error.args and isinstance(error.args[0], dict) else ""
        if code[:2] in {"28", "3D"}:
            raise RecoverableError(f"the database refuses the user or is not there (SQLSTATE {code})") from error
        raise RecoverableError("the database is not ready") from error
    except ssl.SSLError as error:
        raise RecoverableError(f"no TLS with the database at {parts.hostname}: {error.reason}") from error
    except _LOST as error:
        if str(error) == _DOES_NOT_ENCRYPT:
            raise RecoverableError(
                f"the database at {parts.hostname} does not encrypt; see sslmode in its URL"
            ) from error
        raise RecoverableError(f"no database answers at {parts.hostname}:{port}") from error
    if isinstance(connection._usock, ssl.SSLSocket):
        connection._usock.settimeout(answer_seconds or None)
    return connection


def _tls(host: str, query: Mapping[str, Sequence[str]]) -> ssl.SSLContext | bool:
    """What the driver is told of TLS; False: none."""

    def given(name: str) -> str:
        return query.get(name, [""])[0]

    mode = given("sslmode") or ("disable" if host in _LOOPBACK else "verify-full")
    if mode == "disable":
        return False
    if mode not in {"require", "verify-ca", "verify-full"}:
        raise FatalError(f"the database URL has sslmode={mode}; it must be disable, require, verify-ca or verify-full")
    try:
        context = ssl.create_default_context(cafile=given("sslrootcert") or None)
        if certificate := given("sslcert"):
            context.load_cert_chain(certificate, given("sslkey") or None)
    except (OSError, ssl.SSLError) as error:
        raise FatalError(f"the files for TLS in the database URL cannot be used: {error.strerror or error}") from error
    if mode != "verify-full":
        context.check_hostname = False
    if mode == "require":
        context.verify_mode = ssl.CERT_NONE
    return context


class _PatientSocket(socket.socket):
    """A blocking socket whose timeouts are the kernel's: a wait is one system call, where Python's own timeout makes it two."""

    def recv_into(self, *args: Any) -> int:
        try:
            return super().recv_into(*args)
        except BlockingIOError:
            raise TimeoutError("the database has not answered in time") from None


def _socket(host: str, port: int, answer_seconds: int) -> socket.socket:
    raw = socket.create_connection((host, port), _CONNECT_TIMEOUT_SECONDS)
    patient = _PatientSocket(raw.family, raw.type, raw.proto, fileno=raw.detach())
    patient.settimeout(None)
    seconds = struct.pack("@ll", answer_seconds, 0)
    patient.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, seconds)
    patient.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, seconds)
    patient.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # A statement goes out in several writes; held back until the one before is acknowledged, the last costs 40 ms.
    patient.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return patient


class _Connection:
    """One connection with its prepared statements, the least recently used dropped first."""

    def __init__(self, url: str, session: str = _SESSION, answer_seconds: int = _ANSWER_TIMEOUT_SECONDS) -> None:
        self._raw = connect(url, answer_seconds)
        self.is_closed = False
        if session:
            try:
                self._raw.run(session)
            except (*_LOST, DatabaseError) as error:
                # The server may have gone in the moment since it has let us in.
                self.close()
                raise translated(error) from error
        self._statements: OrderedDict[str, Any] = OrderedDict()

    def simple(self, sql: str) -> None:
        self._raw.run(sql)

    def run(self, sql: str, params: dict[str, Any]) -> list[Row]:
        statement = self._statements.get(sql)
        if statement is None:
            statement = self._raw.prepare(sql)
            self._statements[sql] = statement
            if len(self._statements) > _STATEMENTS_PER_CONNECTION:
                _, oldest = self._statements.popitem(last=False)
                oldest.close()
        else:
            self._statements.move_to_end(sql)
        try:
            rows: list[Row] | None = statement.run(**params)
        finally:
            # The driver would keep what it read last for each statement.
            statement._context = None
        return rows or []

    def close(self) -> None:
        self.is_closed = True
        with contextlib.suppress(Exception):
            self._raw.close()


class Transaction:
    """What can be done between the begin and the commit. Not shared between threads."""

    def __init__(self, connection: _Connection, *, hands_over: bool = False) -> None:
        self._connection = connection
        self.hands_over = hands_over
        self.announced: list[OutboxRow | None] = []

    def rows(self, sql: str, **params: Any) -> list[Row]:
        """Run a statement and give its rows.

        Raises:
            CfmError: the statement failed; the transaction is rolled back by whoever opened it.
        """
        try:
            return self._connection.run(sql, params)
        except (*_LOST, DatabaseError) as error:
            raise translated(error) from error

    def row(self, sql: str, **params: Any) -> Row | None:
        """Run a statement that gives one row or none."""
        rows = self.rows(sql, **params)
        return rows[0] if rows else None

    def value(self, sql: str, **params: Any) -> Any:
        """Run a statement that gives one value; None where it gives no row."""
        row = self.row(sql, **params)
        return row[0] if row else None

    @contextlib.contextmanager
    def part(self) -> Iterator[None]:
        """A part that is undone alone if it raises.

        Raises:
            CfmError: the connection was lost.
        """
        self.simple("SAVEPOINT part")
        announced = len(self.announced)
        try:
            yield
        except BaseException:
            del self.announced[announced:]
            if not self._connection.is_closed:
                self.simple("ROLLBACK TO SAVEPOINT part; RELEASE SAVEPOINT part")
            raise
        self.simple("RELEASE SAVEPOINT part")

    def simple(self, sql: str) -> None:
        """Run statements that give no rows.

        Raises:
            CfmError: one of them failed.
        """
        try:
            self._connection.simple(sql)
        except (*_LOST, DatabaseError) as error:
            raise translated(error) from error

    def announce(self, row: OutboxRow | None = None) -> None:
        """Wake the relay once this transaction has committed, because it left ``row``, or any rows, in the outbox."""
        self.announced.append(row)


def _nobody_to_tell(row: OutboxRow | None) -> None:
    return None


_BEGIN_QUERY = "BEGIN READ ONLY; SET LOCAL plan_cache_mode = force_custom_plan; SET LOCAL statement_timeout = '20s'"
"""A query's values decide which index serves it, so it is planned with them; and it is not waited for as long as a change."""


class Database:
    """A pool of at most ``size`` connections to ``url``; safe to share between threads.

    Args:
        url: or what gives it whenever a connection is opened: its password may change.
        announce: called after the commit of a transaction for each row that it announced; with None for rows that it does
            not know.
        hands_over: whether what is announced reaches the relay, which then need not look for it.
        waits_for_disk: whether a commit returns when nothing can undo it any more. Otherwise a crash of the server may undo
            what was committed in the last half second, but never in part.
    """

    def __init__(
        self,
        url: str | Callable[[], str],
        *,
        size: int = 4,
        announce: Callable[[OutboxRow | None], None] = _nobody_to_tell,
        hands_over: bool = False,
        waits_for_disk: bool = True,
    ) -> None:
        self._url: Callable[[], str] = url if callable(url) else lambda: url
        self._session = _SESSION if waits_for_disk else f"{_SESSION}; SET synchronous_commit = off"
        self.hands_over = hands_over
        self._announce = announce
        self._idle: list[_Connection] = []
        self._lock = threading.Lock()
        self._slots = threading.BoundedSemaphore(size)
        self._closed = False
        self._joined = threading.local()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """One transaction: committed at the end of the block, rolled back if it raises.

        Raises:
            RecoverableError: no connection, or it was lost. If that happens during the commit, nobody knows whether the
                transaction took effect: what is done in it must bear a repetition.
        """
        if (outer := self._outer) is not None:
            with outer.part():
                yield outer
            return
        with self._connection("BEGIN") as connection:
            transaction = Transaction(connection, hands_over=self.hands_over)
            try:
                yield transaction
            except BaseException:
                self._rollback(connection)
                raise
            try:
                connection.simple("COMMIT")
            except (*_LOST, DatabaseError) as error:
                raise translated(error) from error
        for row in transaction.announced:
            self._announce(row)

    @contextlib.contextmanager
    def joined(self) -> Iterator[Transaction]:
        """One transaction that everything joins which this thread does with the database in the block.

        What would be a transaction of its own becomes a part of it: undone alone where it raises, committed with the whole.
        """
        outer = self._outer
        with self.transaction() as transaction:
            self._joined.transaction = transaction
            try:
                yield transaction
            finally:
                self._joined.transaction = outer

    @property
    def _outer(self) -> Transaction | None:
        outer: Transaction | None = getattr(self._joined, "transaction", None)
        return outer

    def rows(self, sql: str, **params: Any) -> list[Row]:
        """Run one statement as a transaction of its own and give its rows."""
        if (outer := self._outer) is not None:
            with outer.part():
                return outer.rows(sql, **params)
        with self._connection("") as connection:
            return Transaction(connection).rows(sql, **params)

    def query(self, sql: str, **params: Any) -> list[Row]:
        """Run one statement that only reads, planned for just these values, and give its rows."""
        with self._connection(_BEGIN_QUERY) as connection:
            transaction = Transaction(connection)
            try:
                rows = transaction.rows(sql, **params)
            except BaseException:
                self._rollback(connection)
                raise
            transaction.simple("COMMIT")
            return rows

    def row(self, sql: str, **params: Any) -> Row | None:
        """Run one statement that gives one row or none, as a transaction of its own."""
        rows = self.rows(sql, **params)
        return rows[0] if rows else None

    def value(self, sql: str, **params: Any) -> Any:
        """Run one statement that gives one value, as a transaction of its own; None where it gives no row."""
        row = self.row(sql, **params)
        return row[0] if row else None

    @contextlib.contextmanager
    def maintenance(self) -> Iterator[Transaction]:
        """A connection of its own, without limits of time, on which every statement is a transaction of its own."""
        connection = _Connection(self._url(), session="", answer_seconds=0)
        try:
            yield Transaction(connection)
        finally:
            connection.close()

    def announce(self, row: OutboxRow | None = None) -> None:
        """Wake the relay: a statement of its own has left ``row``, or any rows, in the outbox."""
        if (outer := self._outer) is not None:
            outer.announce(row)
        else:
            self._announce(row)

    def close(self) -> None:
        """Close the idle connections; those in use are closed when they come back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    @contextlib.contextmanager
    def _connection(self, begin: str) -> Iterator[_Connection]:
        deadline = time.monotonic() + _WAIT_FOR_CONNECTION_SECONDS
        if not self._slots.acquire(timeout=_WAIT_FOR_CONNECTION_SECONDS):
            raise RecoverableError("all database connections are busy", retry_after=1)
        try:
            connection = self._checked_out(begin, deadline)
            try:
                yield connection
            except CfmError as error:
                # A lost connection, or a plan that a migration has outdated: neither may go back into the pool.
                if isinstance(error, FatalError | RecoverableError) and error.__cause__ is not None:
                    connection.close()
                else:
                    self._give_back(connection)
                raise
            except Exception:
                connection.close()
                raise
            else:
                self._give_back(connection)
        finally:
            self._slots.release()

    def _checked_out(self, begin: str, deadline: float) -> _Connection:
        while True:
            with self._lock:
                if self._closed:
                    raise RecoverableError("this process is shutting down")
                connection = self._idle.pop() if self._idle else None
            fresh = connection is None
            if connection is None:
                connection = _Connection(self._url(), self._session)
            try:
                # Begins the transaction, or finds out whether an idle connection is still alive: nothing has been
                # done on it yet, so another one can take its place.
                if begin:
                    connection.simple(begin)
                elif not fresh:
                    self._check_alive(connection)
            except (*_LOST, DatabaseError) as error:
                connection.close()
                if fresh or time.monotonic() > deadline:
                    raise translated(error) from error
                continue
            return connection

    @staticmethod
    def _check_alive(connection: _Connection) -> None:
        """See, where possible without a round trip, whether the server has closed the connection."""
        sock = connection._raw._usock
        if isinstance(sock, ssl.SSLSocket):
            connection.simple("SELECT 1")
            return
        try:
            if sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b"":
                raise InterfaceError("closed by the server")
            raise InterfaceError("the server has spoken out of turn")
        except BlockingIOError:
            return

    def _rollback(self, connection: _Connection) -> None:
        try:
            connection.simple("ROLLBACK")
        except (*_LOST, DatabaseError):
            connection.close()

    def _give_back(self, connection: _Connection) -> None:
        if connection.is_closed:
            return
        with self._lock:
            if not self._closed:
                self._idle.append(connection)
                return
        connection.close()
