"""The audit trail as evidence, read from Postgres in one snapshot."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from cfm_core.audit.store import SQL
from cfm_core.audit.verification import Emptied, SealedEntry, StoredSeal, Strays
from cfm_core.store.database import Database, Transaction


class PostgresEvidence:
    """See ``Evidence``."""

    def __init__(self, snapshot: Transaction) -> None:
        self._snapshot = snapshot

    def seals(self, after: int, most: int) -> Sequence[StoredSeal]:
        return [StoredSeal(*row) for row in self._snapshot.rows(SQL["list_seals"], after=after, most=most)]

    def sealed(self, first: int, last: int) -> Sequence[SealedEntry]:
        return [SealedEntry(*row) for row in self._snapshot.rows(SQL["list_sealed"], first=first, last=last)]

    def emptied(self) -> Sequence[Emptied]:
        return [Emptied(*row) for row in self._snapshot.rows(SQL["list_emptied"])]

    def strays(self) -> Strays:
        found: dict[str, list[int]] = {"entry": [], "payload": [], "waiting": [], "seal": []}
        for what, id_ in self._snapshot.rows(SQL["list_strays"]):
            found[what].append(id_)
        return Strays(found["entry"], found["payload"], found["waiting"], found["seal"])

    def waiting(self) -> int:
        count: int = self._snapshot.value(SQL["count_waiting"])
        return count


@contextlib.contextmanager
def snapshot(url: str) -> Iterator[PostgresEvidence]:
    """What the database at ``url`` holds at one instant, for as long as it takes to look at it."""
    database = Database(url, size=1)
    try:
        with database.maintenance() as connection:
            connection.simple("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            yield PostgresEvidence(connection)
    finally:
        database.close()
