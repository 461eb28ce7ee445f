"""The outbox: events are stored with the change that they announce, and published afterwards.

A row belongs to whoever holds its lease. A function that answers an event puts its rows with a lease and names them in
its answer, so that the trigger which called it takes them over at once; an API function hands them to the trigger in the
datagram that wakes it, or puts them without a lease where they are too large for that. A lease that runs out makes the row
everybody's again, which is how nothing is lost.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import timedelta

from cfm_core.contracts import wake
from cfm_core.contracts.reply import EventDict, OutboxRow
from cfm_core.store.database import Database, Transaction
from cfm_core.store.sql import Queries

SQL = Queries("cfm_core.store")

LEASE = timedelta(seconds=1.5)
"""How long a row stays with whoever took it before others may take it too."""
RENEWAL = timedelta(seconds=6)
"""How long a row stays after its holder has renewed the lease, which shows that it lives: a short stall of the database
must not hand what is in work to another trigger."""


def lease_for(events: str, *, hands_over: bool) -> timedelta:
    """How long a row with ``events`` is left to the trigger, which is told of it; none where the trigger has to look for it."""
    return LEASE if hands_over and len(events) <= wake.MOST_EVENTS else timedelta(0)


def put(transaction: Transaction, subject: str, events: Sequence[EventDict]) -> None:
    """Announce ``events`` on ``subject`` when ``transaction`` commits, and wake the trigger."""
    text = json.dumps(events)
    lease = lease_for(text, hands_over=transaction.hands_over)
    row_id = transaction.value(SQL["put"], subject=subject, events=text, lease=lease)
    transaction.announce(OutboxRow(row_id, subject, list(events)) if lease else None)


def put_for_caller(transaction: Transaction, subject: str, events: Sequence[EventDict]) -> OutboxRow:
    """Announce ``events`` when ``transaction`` commits; the trigger learns of the row by the function's answer."""
    row_id = transaction.value(SQL["put"], subject=subject, events=json.dumps(events), lease=LEASE)
    return OutboxRow(row_id, subject, list(events))


class Outbox:
    """The relay's side of the outbox."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def claim(self, most: int = 500) -> list[OutboxRow]:
        """Take up to ``most`` rows whose lease has run out."""
        rows = self._database.rows(SQL["claim"], lease=LEASE, most=most)
        return sorted(
            (OutboxRow(id_, subject, json.loads(events)) for id_, subject, events in rows), key=lambda row: row.id
        )

    def renew(self, ids: Iterable[int]) -> None:
        """Hold ``ids`` for another lease."""
        self._database.rows(SQL["renew"], ids=list(ids), lease=RENEWAL)

    def delete(self, ids: Iterable[int]) -> None:
        """Forget ``ids``: their events have arrived."""
        self._database.rows(SQL["delete"], ids=list(ids))
