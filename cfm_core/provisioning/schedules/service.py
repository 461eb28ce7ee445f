"""What can be done with schedules, whatever stores them."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Protocol

from cfm_core.clock import Clock, system_clock
from cfm_core.entities import JsonEntity
from cfm_core.errors import (
    ConflictError,
    FieldError,
    NotFoundError,
    RecoverableError,
    RefusedError,
    ValidationError,
)
from cfm_core.masking import masked_json, masked_page, masked_pointer
from cfm_core.provisioning.engine.model import unknown_type_detail
from cfm_core.provisioning.keys import check_after, check_known
from cfm_core.provisioning.operations.model import Order
from cfm_core.provisioning.orchestrations.actions import Action
from cfm_core.provisioning.schedules.model import LONGEST_SCHEDULE_ID, Schedule, begun, check_schedule, renewed
from cfm_core.provisioning.schedules.v1alpha1 import NewSchedule, ScheduleDiff
from cfm_core.query import JsonPage, Page, Predicate, parse
from cfm_core.versions import ANY, Expected

_ID = re.compile(rf"[^/\x00-\x1f\x7f]{{1,{LONGEST_SCHEDULE_ID}}}")
"""What can be in a path."""


class ScheduleStore(Protocol):
    """Keeps schedules, and gives them as the API shows them. What time it is, the store says."""

    def insert(self, make: Callable[[datetime], Schedule], order: Order) -> JsonEntity | None:
        """Keep what ``make`` makes of the present instant, and note it; None where its id is taken."""
        ...

    def find(self, schedule_id: str) -> JsonEntity | None: ...

    def select(self, predicate: Predicate, page: Page) -> JsonPage:
        """Raises ValidationError: schedules have no field that the predicate names."""
        ...

    def change(
        self, schedule_id: str, change: Callable[[Schedule, datetime], Schedule], action: Action, order: Order
    ) -> JsonEntity | None:
        """Replace a schedule by what ``change`` makes of it and of the present instant, while nobody else changes it.

        It is noted as ``action``, but for a pause or its end where there is one already. None: there is no such schedule.
        """
        ...

    def delete(self, schedule_id: str, order: Order, expected: Expected) -> bool:
        """Whether there was such a schedule in an expected version; that it is gone is noted."""
        ...

    def secret_keys(self) -> frozenset[str]:
        """The keys whose values are not shown, because an activity type says so."""
        ...

    def defines(self, orchestration_type: str, template_ref: str) -> bool:
        """Whether there is such an orchestration type; in the template, if one is named."""
        ...


class Schedules:
    """The use cases of schedules. What they give is to be shown, without secrets."""

    def __init__(self, store: ScheduleStore, clock: Clock = system_clock) -> None:
        self._store = store
        self._clock = clock

    def create(self, new: NewSchedule, order: Order) -> tuple[str, JsonEntity]:
        """Create a schedule with the id that the document names, or with a random one; gives its id as well.

        Raises:
            ConflictError: there is one with this id.
            ValidationError: the times cannot be reckoned.
            RefusedError: nobody defines the orchestration type.
        """
        schedule_id = new.id or str(uuid.uuid4())
        self._check(new, schedule_id)
        made = self._store.insert(lambda now: begun(new.to_model(schedule_id, now), now), order)
        if made is None:
            raise ConflictError(f"a schedule {schedule_id!r} exists already")
        return schedule_id, self._shown(made)

    def put(
        self, schedule_id: str, new: NewSchedule, order: Order, expected: Expected = ANY
    ) -> tuple[bool, JsonEntity]:
        """Create the schedule, or replace it; tells whether it is new. As long as cron and time zone are the same, so is the
        next time.

        Raises:
            ValidationError, RefusedError: see ``create``.
            PreconditionFailedError: it is not in an expected version.
            RecoverableError: it comes and goes too fast.
        """
        self._check(new, schedule_id)

        def replaced(before: Schedule, now: datetime) -> Schedule:
            expected.check(f"schedule {schedule_id}", before.version)
            return renewed(before, new.to_model(schedule_id, now), now)

        if (after := self._store.change(schedule_id, replaced, Action.REPLACE, order)) is not None:
            return False, self._shown(after)
        expected.check(f"schedule {schedule_id}", None)
        made = self._store.insert(lambda now: begun(new.to_model(schedule_id, now), now), order)
        if made is not None:
            return True, self._shown(made)
        raise RecoverableError(f"schedule {schedule_id} is coming just now")

    def get(self, schedule_id: str) -> JsonEntity:
        """Raises NotFoundError where there is none with this id."""
        check_known("schedule", schedule_id)
        found = self._store.find(schedule_id)
        if found is None:
            raise NotFoundError("schedule", schedule_id)
        return self._shown(found)

    def select(self, predicate: str, page: Page) -> JsonPage:
        """Those that ``predicate`` holds for, by id.

        Raises:
            ValidationError: the predicate or the page cannot be read.
        """
        check_after(page)
        return masked_page(self._store.select(parse(predicate), page), self._store.secret_keys())

    def change(self, schedule_id: str, diff: ScheduleDiff, order: Order, expected: Expected = ANY) -> JsonEntity:
        """Pause a schedule, or let it go on.

        Raises:
            NotFoundError: there is none with this id.
            PreconditionFailedError: it is not in an expected version.
        """
        check_known("schedule", schedule_id)

        def changed(before: Schedule, now: datetime) -> Schedule:
            expected.check(f"schedule {schedule_id}", before.version)
            return renewed(before, replace(before, paused=diff.paused), now)

        action = Action.PAUSE if diff.paused else Action.RESUME
        found = self._store.change(schedule_id, changed, action, order)
        if found is None:
            raise NotFoundError("schedule", schedule_id)
        return self._shown(found)

    def delete(self, schedule_id: str, order: Order, expected: Expected = ANY) -> None:
        """Delete a schedule. Runs that it has started go on.

        Raises:
            NotFoundError: there is none with this id.
            PreconditionFailedError: it is not in an expected version.
        """
        check_known("schedule", schedule_id)
        if expected.exists is False or not self._store.delete(schedule_id, order, expected):
            expected.check(f"schedule {schedule_id}", self.get(schedule_id).version)
            raise RecoverableError(f"schedule {schedule_id} is changing just now")

    def _shown(self, schedule: JsonEntity) -> JsonEntity:
        return JsonEntity(schedule.version, masked_json(schedule.text, self._store.secret_keys()))

    def _check(self, new: NewSchedule, schedule_id: str) -> None:
        if not _ID.fullmatch(schedule_id):
            detail = f"must have 1 to {LONGEST_SCHEDULE_ID} characters, no slash and no control characters"
            raise ValidationError(f"Invalid id: {detail}", [FieldError("/id", detail)])
        if (pointer := masked_pointer(new.payload, self._store.secret_keys())) is not None:
            detail = "is what is shown in place of a secret; name the secret, or a reference to it"
            raise ValidationError(f"Invalid payload: {pointer} {detail}", [FieldError(f"/payload{pointer}", detail)])
        now = self._clock()
        check_schedule(new.to_model(schedule_id, now), now)
        if not self._store.defines(new.orchestration_type, new.template_ref):
            detail = unknown_type_detail(new.orchestration_type, new.template_ref)
            raise RefusedError(
                detail, [FieldError("/templateRef" if new.template_ref else "/orchestrationType", detail)]
            )
