"""What starts orchestrations when their time has come; the trigger wakes it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from cfm_core.contracts.reply import Reply
from cfm_core.eventing.cloudevents import CloudEvent
from cfm_core.function import event_function
from cfm_core.provisioning.assembly import DUE_STARTS
from cfm_core.provisioning.schedules.sweep import DueStarts


@event_function(every=timedelta(seconds=0.5), slots=1, requires=[DUE_STARTS])
def start_due_orchestrations(events: Sequence[CloudEvent[None]], due_starts: DueStarts) -> Reply:
    """Start the runs of schedules, and delayed ones, whose time has come. Two at a time share the work."""
    return due_starts.sweep().reply([event.id for event in events])
