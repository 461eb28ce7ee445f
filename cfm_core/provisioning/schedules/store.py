"""Schedules in Postgres."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import datetime

from cfm_core.audit.model import Kind, Subject
from cfm_core.entities import JsonEntity, json_of
from cfm_core.provisioning.engine.model import Progress
from cfm_core.provisioning.engine.starting import start
from cfm_core.provisioning.engine.store import manifest_row
from cfm_core.provisioning.operations.model import Order
from cfm_core.provisioning.operations.notes import note
from cfm_core.provisioning.orchestrations.actions import Action
from cfm_core.provisioning.schedules.fields import FIELDS
from cfm_core.provisioning.schedules.model import Overlap, Schedule, fired, is_noted, set_aside, skipped
from cfm_core.provisioning.schedules.v1alpha1 import shown
from cfm_core.query import JsonPage, Page, Predicate, to_sql
from cfm_core.store import paging
from cfm_core.store.database import Database, Row, Transaction
from cfm_core.store.paging import Listing
from cfm_core.store.sql import Queries
from cfm_core.versions import Expected

SQL = Queries("cfm_core.provisioning.schedules")

LISTING = Listing(
    "provision_manager.schedule",
    "provision_manager.schedule_json(t)",
    "1024 + octet_length((t).id) + octet_length((t).type) + octet_length((t).payload::text)",
    key_type="text",
)


class PostgresSchedules:
    """See ``ScheduleStore``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def insert(self, make: Callable[[datetime], Schedule], order: Order) -> JsonEntity | None:
        with self._database.transaction() as tx:
            new = make(tx.value(SQL["now"]))
            row = tx.row(
                SQL["insert"],
                id=new.id,
                cron=new.cron,
                time_zone=new.time_zone,
                overlap=new.overlap,
                type=new.orchestration_type,
                template_ref=new.template_ref,
                correlation_id=new.correlation_id,
                payload=json_of(new.payload),
                paused=new.paused,
                created_at=new.created_at.isoformat(),
                next_at=_text(new.next_at),
            )
            if row is not None:
                note(tx, Subject(Kind.SCHEDULES, new.id), Action.CREATE, order, "absent", new.word, (None, shown(new)))
        return JsonEntity(*row) if row else None

    def find(self, schedule_id: str) -> JsonEntity | None:
        row = self._database.row(SQL["find"], id=schedule_id)
        return JsonEntity(*row) if row else None

    def select(self, predicate: Predicate, page: Page) -> JsonPage:
        condition, params = to_sql(predicate, FIELDS)
        return paging.select(self._database, LISTING, page, condition, params)

    def change(
        self, schedule_id: str, change: Callable[[Schedule, datetime], Schedule], action: Action, order: Order
    ) -> JsonEntity | None:
        with self._database.transaction() as tx:
            row = tx.row(SQL["lock"], id=schedule_id)
            if row is None:
                return None
            before = _schedule_from(row)
            after = change(before, row[-1])
            (entity,) = _replace(tx, [after])
            if is_noted(action, before, after):
                subject, documents = Subject(Kind.SCHEDULES, schedule_id), (shown(before), shown(after))
                note(tx, subject, action, order, before.word, after.word, documents)
        return entity

    def delete(self, schedule_id: str, order: Order, expected: Expected) -> bool:
        with self._database.transaction() as tx:
            gone = tx.row(SQL["delete"], id=schedule_id, versions=expected.as_array)
            if gone is None:
                return False
            note(
                tx,
                Subject(Kind.SCHEDULES, schedule_id),
                Action.DELETE,
                order,
                "paused" if gone[1] else "active",
                "deleted",
            )
            return True

    def secret_keys(self) -> frozenset[str]:
        return frozenset(self._database.value(SQL["secret_keys"]))

    def defines(self, orchestration_type: str, template_ref: str) -> bool:
        return bool(self._database.value(SQL["defines"], type=orchestration_type, template_ref=template_ref))

    def list_due(self, most: int) -> list[str]:
        return [id_ for (id_,) in self._database.rows(SQL["list_due"], most=most)]

    def start_due(self, most: int, among: list[str] | None) -> Progress:
        with self._database.transaction() as tx:
            due = [(_schedule_from(row), *row[-2:]) for row in tx.rows(SQL["lock_due"], most=most, among=among)]
            wanted = [one.manifest for one, _, is_live in due if not (is_live and one.overlap is Overlap.SKIP)]
            written, started = start(tx, [manifest_row(one) for one in wanted])
            ids = {one.id for one in wanted}
            after = [
                fired(one, now, started=one.manifest_id in started) if one.manifest_id in ids else skipped(one, now)
                for one, now, _ in due
            ]
            if after:
                _replace(tx, after)
        return Progress(written)

    def set_aside(self, schedule_id: str, reason: str) -> None:
        with self._database.transaction() as tx:
            row = tx.row(SQL["lock"], id=schedule_id)
            if row is not None:
                _replace(tx, [set_aside(_schedule_from(row), reason, row[-1])])


def _schedule_from(row: Row) -> Schedule:
    return Schedule(
        id=row[0],
        version=row[1],
        cron=row[2],
        time_zone=row[3],
        overlap=Overlap(row[4]),
        orchestration_type=row[5],
        correlation_id=row[6],
        payload=row[7],
        paused=row[8],
        created_at=row[9],
        next_at=row[10],
        last_at=row[11],
        last_manifest_id=row[12],
        skipped_at=row[13],
        last_error=row[14],
        template_ref=row[15],
    )


def _replace(tx: Transaction, schedules: Iterable[Schedule]) -> list[JsonEntity]:
    documents = [
        {
            "id": one.id,
            "cron": one.cron,
            "timeZone": one.time_zone,
            "overlap": one.overlap,
            "type": one.orchestration_type,
            "templateRef": one.template_ref,
            "correlationId": one.correlation_id,
            "payload": one.payload,
            "paused": one.paused,
            "nextAt": _text(one.next_at),
            "lastAt": _text(one.last_at),
            "lastManifestId": one.last_manifest_id,
            "skippedAt": _text(one.skipped_at),
            "lastError": one.last_error,
        }
        for one in schedules
    ]
    text = json.dumps(documents, separators=(",", ":"), ensure_ascii=False)
    return [JsonEntity(*row) for row in tx.rows(SQL["replace"], schedules=text)]


def _text(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
