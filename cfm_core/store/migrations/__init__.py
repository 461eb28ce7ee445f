"""Numbered SQL files, and the runner that brings a database to the newest of them.

A file is applied once, in a transaction of its own, and never changed afterwards: its checksum is kept and compared.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from pg8000.exceptions import DatabaseError
from pg8000.native import identifier

from cfm_core.errors import FatalError
from cfm_core.store.database import connect

_FILE = re.compile(r"(\d{4})_(\w+)\.sql")
_LOCK = 0x63666D  # "cfm": one runner at a time in a database


@dataclass(frozen=True, slots=True)
class Migration:
    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def known() -> tuple[Migration, ...]:
    """The migrations of this version of the code, in order."""
    found = []
    for entry in resources.files(__package__).iterdir():
        if match := _FILE.fullmatch(entry.name):
            found.append(Migration(int(match[1]), match[2], entry.read_text(encoding="utf-8")))
    return tuple(sorted(found, key=lambda migration: migration.number))


def migrate(url: str, migrations: Sequence[Migration] | None = None, *, role: str = "") -> list[Migration]:
    """Apply what the database at ``url`` lacks and give what was applied; safe to run from several places at once.

    Args:
        role: who is to own what is made; empty: whoever connects.

    Raises:
        FatalError: the database has a migration that this code does not know (the code is older than the schema), an
            applied file was changed, or a statement failed. A failed migration leaves nothing behind.
        RecoverableError: the database cannot be reached.
    """
    wanted = known() if migrations is None else tuple(migrations)
    with contextlib.closing(connect(url, answer_seconds=0)) as connection:
        connection.run("SELECT pg_advisory_lock(:key)", key=_LOCK)
        if role:
            connection.run(f"SET ROLE {identifier(role)}")
        connection.run(
            "CREATE SCHEMA IF NOT EXISTS cfm;"
            "CREATE TABLE IF NOT EXISTS cfm.schema_migration (number integer PRIMARY KEY, name text NOT NULL,"
            " checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        rows = connection.run("SELECT number, name, checksum FROM cfm.schema_migration ORDER BY number") or []
        applied = {number: (name, checksum) for number, name, checksum in rows}
        by_number = {migration.number: migration for migration in wanted}
        for number, (name, checksum) in applied.items():
            if number not in by_number:
                raise FatalError(
                    f"the database is newer than this code: it has migration {number:04} {name}; update the code"
                )
            if by_number[number].checksum != checksum:
                raise FatalError(f"migration {number:04} {name} was changed after it had been applied")
        done = []
        for migration in wanted:
            if migration.number in applied:
                continue
            try:
                connection.run("BEGIN")
                connection.run(migration.sql)
                connection.run(
                    "INSERT INTO cfm.schema_migration (number, name, checksum) VALUES (:number, :name, :checksum)",
                    number=migration.number,
                    name=migration.name,
                    checksum=migration.checksum,
                )
                connection.run("COMMIT")
            except DatabaseError as error:
                connection.run("ROLLBACK")
                text = error.args[0].get("M", "") if error.args and isinstance(error.args[0], dict) else str(error)
                raise FatalError(f"migration {migration.number:04} {migration.name} failed: {text}") from error
            done.append(migration)
        return done
