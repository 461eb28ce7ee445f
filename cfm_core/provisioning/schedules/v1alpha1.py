"""Schedules as JSON of API version v1alpha1.

Source: interface decisions, "New routes".
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from cfm_core.contracts.documents import Document
from cfm_core.contracts.instants import Instant, instant
from cfm_core.provisioning.definitions.model import LONGEST_TEMPLATE_ID, LONGEST_TYPE
from cfm_core.provisioning.engine.model import LONGEST_ID
from cfm_core.provisioning.schedules.cron import LONGEST_CRON
from cfm_core.provisioning.schedules.model import LONGEST_SCHEDULE_ID, Overlap, Schedule


class ScheduleDocument(Document):
    """A schedule as it is shown; what has not happened is left out, and so is ``nextAt`` where there is no next time."""

    id: str
    version: int
    cron: str
    time_zone: str
    overlap: Overlap
    orchestration_type: str
    template_ref: str = ""
    correlation_id: str = ""
    payload: dict[str, Any]
    paused: bool
    created_timestamp: Instant
    next_at: Instant | None = None
    last_at: Instant | None = None
    """The time that the last run stands for."""
    last_manifest_id: str = ""
    """The id of the last run."""
    skipped_at: Instant | None = None
    """The last time that was left out, because there was a run already."""
    last_error: str = ""
    """Why the last time has started nothing."""


class NewSchedule(Document):
    """``cron`` has five fields, and holds in a time zone of the IANA database.

    ``overlap`` says what happens when a time comes while the last run goes on: ``skip`` it, ``queue`` one until the run has
    ended, or ``allow`` both at once. ``templateRef`` is the template with whose definition runs start; without one, it is the
    newest active one. ``correlationId`` is that of all runs; without one, each has its own id.
    """

    id: str = Field(default="", max_length=LONGEST_SCHEDULE_ID)
    cron: str = Field(min_length=1, max_length=LONGEST_CRON)
    time_zone: str = "UTC"
    overlap: Overlap = Overlap.SKIP
    orchestration_type: str = Field(min_length=1, max_length=LONGEST_TYPE)
    template_ref: str = Field(default="", max_length=LONGEST_TEMPLATE_ID)
    correlation_id: str = Field(default="", max_length=LONGEST_ID)
    payload: dict[str, Any] = Field(default_factory=dict)
    paused: bool = False

    def to_model(self, schedule_id: str, now: datetime) -> Schedule:
        """The schedule with that id, made ``now``, without any time of its own."""
        return Schedule(
            id=schedule_id,
            cron=self.cron,
            time_zone=self.time_zone,
            overlap=self.overlap,
            orchestration_type=self.orchestration_type,
            template_ref=self.template_ref,
            correlation_id=self.correlation_id,
            payload=self.payload,
            paused=self.paused,
            created_at=now,
        )


class ScheduleDiff(Document):
    """``paused`` stops the schedule, or lets it go on with the next time; what was missed meanwhile is left out."""

    paused: bool


def shown(schedule: Schedule) -> dict[str, Any]:
    """``schedule`` as the API shows it; the database's ``schedule_json`` gives the same."""
    document = {
        "id": schedule.id,
        "version": schedule.version,
        "cron": schedule.cron,
        "timeZone": schedule.time_zone,
        "overlap": schedule.overlap,
        "orchestrationType": schedule.orchestration_type,
        "templateRef": schedule.template_ref or None,
        "correlationId": schedule.correlation_id or None,
        "payload": dict(schedule.payload),
        "paused": schedule.paused,
        "createdTimestamp": instant(schedule.created_at),
        "nextAt": schedule.next_at and instant(schedule.next_at),
        "lastAt": schedule.last_at and instant(schedule.last_at),
        "lastManifestId": schedule.last_manifest_id or None,
        "skippedAt": schedule.skipped_at and instant(schedule.skipped_at),
        "lastError": schedule.last_error or None,
    }
    return {name: value for name, value in document.items() if value is not None}
