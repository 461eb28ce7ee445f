"""Schedules in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

from cfm_core.audit.model import Kind, Subject
from cfm_core.entities import JsonEntity, json_of
from cfm_core.provisioning.engine.model import OrchestrationState, Progress
from cfm_core.provisioning.memory.runs import Runs
from cfm_core.provisioning.memory.starting import start
from cfm_core.provisioning.operations.model import Order
from cfm_core.provisioning.orchestrations.actions import Action
from cfm_core.provisioning.schedules.fields import FIELDS
from cfm_core.provisioning.schedules.model import Overlap, Schedule, fired, is_noted, set_aside, skipped
from cfm_core.provisioning.schedules.v1alpha1 import shown
from cfm_core.provisioning.storable import check_storable
from cfm_core.query import JsonPage, Page, Predicate
from cfm_core.store.memory import page_of
from cfm_core.versions import Expected

_LIVE = frozenset({OrchestrationState.RUNNING, OrchestrationState.CANCELLING, OrchestrationState.COMPENSATING})


class MemorySchedules:
    """See ``ScheduleStore`` and ``Due``."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs

    def insert(self, make: Callable[[datetime], Schedule], order: Order) -> JsonEntity | None:
        with self._runs.lock:
            new = make(self._runs.clock())
            check_storable(shown(new))
            if new.id in self._runs.schedules:
                return None
            self._runs.schedules[new.id] = new
            self._runs.note(
                Subject(Kind.SCHEDULES, new.id), Action.CREATE, order, "absent", new.word, (None, shown(new))
            )
            return _entity(new)

    def find(self, schedule_id: str) -> JsonEntity | None:
        with self._runs.lock:
            found = self._runs.schedules.get(schedule_id)
            return _entity(found) if found else None

    def select(self, predicate: Predicate, page: Page) -> JsonPage:
        with self._runs.lock:
            schedules = dict(self._runs.schedules)
        return page_of(schedules, predicate, FIELDS, page, _stored, shown)

    def change(
        self, schedule_id: str, change: Callable[[Schedule, datetime], Schedule], action: Action, order: Order
    ) -> JsonEntity | None:
        with self._runs.lock:
            before = self._runs.schedules.get(schedule_id)
            if before is None:
                return None
            after = change(before, self._runs.clock())
            check_storable(shown(after))
            if is_noted(action, before, after):
                subject, documents = Subject(Kind.SCHEDULES, schedule_id), (shown(before), shown(after))
                self._runs.note(subject, action, order, before.word, after.word, documents)
            return _entity(self._keep(after))

    def delete(self, schedule_id: str, order: Order, expected: Expected) -> bool:
        with self._runs.lock:
            found = self._runs.schedules.get(schedule_id)
            if found is None or not expected.allows(found.version):
                return False
            del self._runs.schedules[schedule_id]
            self._runs.note(Subject(Kind.SCHEDULES, schedule_id), Action.DELETE, order, found.word, "deleted")
            return True

    def secret_keys(self) -> frozenset[str]:
        with self._runs.lock:
            return self._runs.secret_keys

    def defines(self, orchestration_type: str, template_ref: str) -> bool:
        with self._runs.lock:
            return self._runs.active(orchestration_type, template_ref) is not None

    def list_due(self, most: int) -> list[str]:
        with self._runs.lock:
            return [one.id for one in self._due(self._runs.clock())][:most]

    def start_due(self, most: int, among: list[str] | None) -> Progress:
        with self._runs.lock:
            now = self._runs.clock()
            due = [one for one in self._due(now) if among is None or one.id in among][:most]
            wanted = {one.id: one.manifest for one in due if not (one.overlap is Overlap.SKIP and self._is_live(one))}
            rows, started = start(self._runs, wanted.values())
            for one in due:
                if one.id in wanted:
                    self._keep(fired(one, now, started=wanted[one.id].id in started))
                else:
                    self._keep(skipped(one, now))
            return Progress(rows)

    def set_aside(self, id_: str, reason: str) -> None:
        with self._runs.lock:
            if (before := self._runs.schedules.get(id_)) is not None:
                self._keep(set_aside(before, reason, self._runs.clock()))

    def _keep(self, schedule: Schedule) -> Schedule:
        kept = replace(schedule, version=schedule.version + 1)
        self._runs.schedules[kept.id] = kept
        return kept

    def _due(self, now: datetime) -> list[Schedule]:
        due = [
            (one.next_at, one.id)
            for one in self._runs.schedules.values()
            if one.next_at is not None
            and one.next_at <= now
            and not (one.overlap is Overlap.QUEUE and self._is_live(one))
        ]
        return [self._runs.schedules[id_] for _, id_ in sorted(due)]

    def _is_live(self, schedule: Schedule) -> bool:
        run = self._runs.runs.get(schedule.last_manifest_id)
        return run is not None and run.state in _LIVE


def _entity(schedule: Schedule) -> JsonEntity:
    return JsonEntity(schedule.version, json_of(shown(schedule)))


def _stored(schedule: Schedule) -> dict[str, Any]:
    texts = {"templateRef": "", "correlationId": "", "lastManifestId": "", "lastError": ""}
    instants = {
        "createdTimestamp": schedule.created_at,
        "nextAt": schedule.next_at,
        "lastAt": schedule.last_at,
        "skippedAt": schedule.skipped_at,
    }
    return texts | shown(schedule) | instants
