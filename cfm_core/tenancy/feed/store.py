"""The feed in Postgres, written by triggers on the entities' tables."""

from __future__ import annotations

from datetime import timedelta

from cfm_core.entities import JsonText
from cfm_core.store.database import Database
from cfm_core.store.sql import Queries
from cfm_core.tenancy.feed.model import Place, Subject, no_such_place
from cfm_core.tenancy.participant_profiles.manifests import EVENT_SOURCE

SQL = Queries("cfm_core.tenancy.feed")


class PostgresFeed:
    def __init__(self, database: Database) -> None:
        self._database = database

    def read(self, after: Place, subject: Subject | None, limit: int) -> tuple[JsonText, str]:
        condition, wanted = _condition(subject)
        ((text, last, is_known),) = self._database.query(
            SQL["read"].replace("<<condition>>", condition),
            source=EVENT_SOURCE,
            xid=str(after.transaction),
            serial=after.serial,
            limit=limit,
            **wanted,
        )
        if not is_known:
            raise no_such_place(str(after))
        return text, last or ""

    def forget(self, kept: timedelta, most: int) -> int:
        count: int = self._database.value(SQL["forget"], kept=kept, most=most)
        return count


def _condition(subject: Subject | None) -> tuple[str, dict[str, str]]:
    if subject is None:
        return "true", {}
    if not subject.entity_id:
        return "f.kind = :kind", {"kind": subject.kind}
    return "f.kind = :kind AND f.entity_id = :entity_id::uuid", {"kind": subject.kind, "entity_id": subject.entity_id}
