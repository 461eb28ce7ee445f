"""Dead letters in Postgres."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import timedelta

from cfm_core.audit.model import Kind, Subject
from cfm_core.contracts import subjects
from cfm_core.contracts.dead_letter import DeadLetterNotice
from cfm_core.provisioning.dead_letters.fields import FIELDS
from cfm_core.provisioning.dead_letters.model import DeadLetter, marks_of, storable
from cfm_core.provisioning.operations.model import Order
from cfm_core.provisioning.operations.notes import note
from cfm_core.provisioning.orchestrations.actions import Action
from cfm_core.query import JsonPage, Page, Predicate, to_sql
from cfm_core.store import outbox, paging
from cfm_core.store.database import Database, Row
from cfm_core.store.paging import Listing
from cfm_core.store.sql import Queries
from cfm_core.versions import Expected

SQL = Queries("cfm_core.provisioning.dead_letters")

LISTING = Listing(
    "provision_manager.dead_letter",
    "provision_manager.dead_letter_json(t)",
    "256 + octet_length((t).subject) + octet_length((t).target) + octet_length((t).reason)",
    key_type="bigint",
)


class PostgresDeadLetters:
    """See ``DeadLetterStore``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def keep(self, notices: Sequence[DeadLetterNotice]) -> None:
        documents = [
            {
                "key": storable(one.key),
                "subject": storable(one.subject),
                "target": storable(one.target),
                "reason": storable(one.reason),
                "deliveries": one.deliveries,
                "event": None if one.event is None else json.dumps(one.event),
                "raw": base64.b64encode(one.raw).decode() if one.event is None else None,
            }
            for one in notices
        ]
        self._database.rows(SQL["keep"], notices=json.dumps(documents))

    def find(self, letter_id: int) -> DeadLetter | None:
        row = self._database.row(SQL["find"], id=letter_id)
        return _letter_from(row) if row else None

    def select(self, predicate: Predicate, page: Page) -> JsonPage:
        condition, params = to_sql(predicate, FIELDS)
        return paging.select(self._database, LISTING, page, condition, params)

    def replay(self, letter_id: int, order: Order, expected: Expected) -> DeadLetter | None:
        with self._database.transaction() as tx:
            row = tx.row(SQL["lock"], id=letter_id)
            if row is None:
                return None
            letter = _letter_from(row)
            expected.check(f"dead letter {letter_id}", letter.version)
            if letter.replayed_at is not None:
                return letter
            outbox.put(tx, subjects.again(letter.subject), [letter.to_send])
            ((version, replayed_at),) = tx.rows(SQL["mark"], id=letter_id)
            note(tx, Subject(Kind.DEAD_LETTERS, str(letter_id)), Action.REPLAY, order, "kept", "replayed")
            return replace(letter, version=version, replayed_at=replayed_at)

    def delete(self, letter_id: int, order: Order, expected: Expected) -> bool:
        with self._database.transaction() as tx:
            gone = tx.row(SQL["delete"], id=letter_id, versions=expected.as_array)
            if gone is None:
                return False
            before = "replayed" if gone[1] else "kept"
            note(tx, Subject(Kind.DEAD_LETTERS, str(letter_id)), Action.DISCARD, order, before, "discarded")
            return True

    def forget(self, kept: timedelta, most: int) -> int:
        return len(self._database.rows(SQL["forget"], kept=kept, most=most))

    def erase(self, correlation_id: str, runs: Iterable[str]) -> None:
        """Delete the letters about a correlation id or one of its ``runs``."""
        self._database.rows(SQL["erase"], marks=marks_of(correlation_id, runs))


def _letter_from(row: Row) -> DeadLetter:
    return DeadLetter(
        id=row[0],
        version=row[1],
        at=row[2],
        subject=row[3],
        target=row[4],
        reason=row[5],
        deliveries=row[6],
        event=row[7],
        raw=row[8] or b"",
        replayed_at=row[9],
        secret_keys=frozenset(row[10]),
    )
