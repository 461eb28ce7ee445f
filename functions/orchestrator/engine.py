"""The steps of the engine, each a function; the trigger calls them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from cfm_core.contracts import subjects
from cfm_core.contracts.activity import ActivityCall, ActivityOutcome, ActivityTypeAnnouncement, UncheckedDispatch
from cfm_core.contracts.orchestration import OrchestrationManifest
from cfm_core.contracts.reply import Failure, Reply
from cfm_core.eventing.cloudevents import CloudEvent
from cfm_core.function import event_function
from cfm_core.provisioning.assembly import ARCHIVE, CALLS, ENGINE, HISTORY
from cfm_core.provisioning.calls.model import Call
from cfm_core.provisioning.calls.service import Calls
from cfm_core.provisioning.engine.model import REFUSED
from cfm_core.provisioning.engine.service import Engine
from cfm_core.provisioning.orchestrations.service import Archive, History


@event_function(subject=subjects.MANIFESTS, data=OrchestrationManifest, batch=256, slots=2, requires=[ENGINE])
def start_orchestrations(events: Sequence[CloudEvent[OrchestrationManifest]], engine: Engine) -> Reply:
    """Start an orchestration for each manifest. A repeated one starts nothing, and is answered if its run has ended."""
    # Of those with one id the first counts.
    traces = {event.data.id: event.trace for event in reversed(events)}
    return engine.start([event.data for event in events], traces).reply([event.id for event in events])


@event_function(subject=subjects.RESULTS, data=ActivityOutcome, batch=256, slots=2, requires=[ENGINE])
def record_activity_results(events: Sequence[CloudEvent[ActivityOutcome]], engine: Engine) -> Reply:
    """Take in how activities ended, and dispatch what they made possible. A repeated outcome changes nothing."""
    traces = {event.data.token: event.trace for event in events}
    return engine.record([event.data for event in events], traces).reply([event.id for event in events])


@event_function(subject=subjects.INPUTS, data=UncheckedDispatch, batch=256, slots=2, requires=[ENGINE])
def check_activity_inputs(events: Sequence[CloudEvent[UncheckedDispatch]], engine: Engine) -> Reply:
    """Hold what agents are to get against the schemas of their types. What is handed on twice is one dispatch."""
    traces = {event.id: event.trace for event in events}
    return engine.check_inputs({event.id: event.data for event in events}, traces).reply([event.id for event in events])


@event_function(subject=subjects.CALLS, data=ActivityCall, batch=256, slots=2, requires=[CALLS])
def look_after_calls(events: Sequence[CloudEvent[ActivityCall]], calls: Calls) -> Reply:
    """Bring activities that orchestrations carry out up to date. It goes by what is: repetition changes nothing."""
    wanted = [Call(event.data.orchestration_id, event.data.phase, event.data.ord) for event in events]
    return calls.tend(wanted).reply([event.id for event in events])


@event_function(every=timedelta(seconds=0.5), slots=1, requires=[ENGINE])
def sweep_orchestrations(events: Sequence[CloudEvent[None]], engine: Engine) -> Reply:
    """Take care of what is overdue. Two sweeps at a time share the work."""
    return engine.sweep().reply([event.id for event in events])


@event_function(every=timedelta(hours=1), slots=1, requires=[HISTORY])
def tidy_history(events: Sequence[CloudEvent[None]], history: History) -> Reply:
    """Forget the history of days long ago, and make room for those to come. Safe at any time, at several places."""
    history.tidy()
    return Reply()


@event_function(every=timedelta(minutes=1), slots=1, requires=[ARCHIVE])
def archive_orchestrations(events: Sequence[CloudEvent[None]], archive: Archive) -> Reply:
    """Archive the orchestrations that ended a while ago. Two at a time share the work; a crash loses one batch of it."""
    archive.tidy()
    return Reply()


@event_function(subject=subjects.ACTIVITY_TYPES, data=ActivityTypeAnnouncement, batch=256, slots=1, requires=[ENGINE])
def register_activity_types(events: Sequence[CloudEvent[ActivityTypeAnnouncement]], engine: Engine) -> Reply:
    """Remember what agents announce as the defaults of their activity types. The last word counts.

    Whoever may publish on the subject of a type speaks for that type alone: another's is refused.
    """
    proper = [event for event in events if _is_its_own(event)]
    reply = engine.register_types([event.data for event in proper]).reply([event.id for event in proper])
    for event in events:
        if not _is_its_own(event):
            reason = f"nobody announces activity type {event.data.activity_type} on {event.subject or 'no subject'}"
            reply.failures[event.id] = Failure(REFUSED, reason)
    return reply


def _is_its_own(announced: CloudEvent[ActivityTypeAnnouncement]) -> bool:
    return announced.subject == subjects.announcement(announced.data.activity_type)
