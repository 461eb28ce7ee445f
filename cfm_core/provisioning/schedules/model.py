"""Schedules: orchestrations that are started again and again, and what becomes of one whose time has come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from cfm_core.contracts.orchestration import OrchestrationManifest
from cfm_core.errors import FieldError, ValidationError
from cfm_core.provisioning.engine.model import LONGEST_ID, unknown_type_detail
from cfm_core.provisioning.orchestrations.actions import Action
from cfm_core.provisioning.schedules.cron import next_time

_TIME = "%Y%m%dT%H%M%SZ"
LONGEST_SCHEDULE_ID = LONGEST_ID - len(".20261123T070723Z")
"""With a time behind it, it is the id of an orchestration."""


class Overlap(StrEnum):
    """What happens when a time comes while the last run goes on, or is still being undone."""

    SKIP = "skip"
    """Nothing: the time is left out."""
    QUEUE = "queue"
    """Its run is started once the last one has ended. One waits at most; the times meanwhile are left out."""
    ALLOW = "allow"
    """Its run is started beside the last one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """``cron`` holds in ``time_zone``; without ``next_at`` it starts nothing."""

    id: str
    version: int = 0
    cron: str
    time_zone: str
    overlap: Overlap
    orchestration_type: str
    template_ref: str = ""
    """The template with whose definition its runs start; empty: the newest active one."""
    correlation_id: str = ""
    """Of all its runs; empty where each has its own id for it."""
    payload: Mapping[str, Any] = field(default_factory=dict)
    paused: bool = False
    created_at: datetime
    next_at: datetime | None = None
    last_at: datetime | None = None
    """The time that the last run stands for."""
    last_manifest_id: str = ""
    skipped_at: datetime | None = None
    """The last time that was left out because there was a run already."""
    last_error: str = ""
    """Why the last time has started nothing."""

    @property
    def manifest_id(self) -> str:
        """The id of the run of ``next_at``: derived, so that it can start only once."""
        assert self.next_at is not None
        return f"{self.id}.{self.next_at.astimezone(UTC):{_TIME}}"

    @property
    def manifest(self) -> OrchestrationManifest:
        """What starts the run of ``next_at``."""
        return OrchestrationManifest(
            id=self.manifest_id,
            correlation_id=self.correlation_id or self.manifest_id,
            orchestration_type=self.orchestration_type,
            payload=dict(self.payload),
            template_ref=self.template_ref,
        )

    @property
    def word(self) -> str:
        """What state it is in."""
        return "paused" if self.paused else "active"


def is_noted(action: Action, before: Schedule, after: Schedule) -> bool:
    """Whether a change is one: a pause or its end may have happened already."""
    return action is Action.REPLACE or before.paused is not after.paused


def check_schedule(schedule: Schedule, now: datetime) -> None:
    """Raises ValidationError for a schedule without a time, or whose times cannot be reckoned."""
    if next_time(schedule.cron, schedule.time_zone, now) is None:
        detail = "there is no such time within fifty years"
        raise ValidationError(f"Invalid cron: {detail}", [FieldError("/cron", detail)])


def begun(wanted: Schedule, now: datetime) -> Schedule:
    """A new schedule: its first time is the next one."""
    return replace(wanted, next_at=None if wanted.paused else _next(wanted, now))


def renewed(before: Schedule, wanted: Schedule, now: datetime) -> Schedule:
    """``wanted`` in place of ``before``, with what has happened to that. A time that is still to come stays as it is."""
    keeps = (before.cron, before.time_zone) == (wanted.cron, wanted.time_zone) and before.next_at is not None
    return replace(
        wanted,
        version=before.version,
        created_at=before.created_at,
        next_at=None if wanted.paused else before.next_at if keeps else _next(wanted, now),
        last_at=before.last_at,
        last_manifest_id=before.last_manifest_id,
        skipped_at=before.skipped_at,
    )


def skipped(schedule: Schedule, now: datetime) -> Schedule:
    """What becomes of a schedule whose time is left out."""
    return replace(schedule, skipped_at=schedule.next_at, next_at=_next(schedule, now))


def fired(schedule: Schedule, now: datetime, *, started: bool) -> Schedule:
    """What becomes of a schedule whose time has come; not ``started``: nobody defines its type any more.

    However many times have passed since, the next one is to come: they are made up for by a single run.
    """
    if not started:
        return set_aside(schedule, unknown_type_detail(schedule.orchestration_type, schedule.template_ref), now)
    return replace(
        schedule,
        last_at=schedule.next_at,
        last_manifest_id=schedule.manifest_id,
        last_error="",
        next_at=_next(schedule, now),
    )


def set_aside(schedule: Schedule, reason: str, now: datetime) -> Schedule:
    """What becomes of a schedule whose run cannot be started, for the given reason."""
    try:
        return replace(schedule, last_error=reason, next_at=_next(schedule, now))
    except ValidationError as error:
        return replace(schedule, last_error=str(error), next_at=None)


def _next(schedule: Schedule, now: datetime) -> datetime | None:
    """The first time behind ``now``, and behind the present one, should the clock have been set back."""
    after = now if schedule.next_at is None else max(now, schedule.next_at)
    return next_time(schedule.cron, schedule.time_zone, after)
