"""What keeps participant profiles up to date: responses as they come, and questions where they do not."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from cfm_core.contracts import subjects
from cfm_core.contracts.orchestration import OrchestrationResponse
from cfm_core.contracts.reply import Failure, Reply
from cfm_core.eventing.cloudevents import CloudEvent
from cfm_core.function import event_function
from cfm_core.tenancy.assembly import PARTICIPANT_PROFILES
from cfm_core.tenancy.participant_profiles.model import Verdict
from cfm_core.tenancy.participant_profiles.service import ParticipantProfiles

_EARLY = Failure(503, "the response of the deployment that this compensates has not arrived yet", retry_after=1)


@event_function(subject=subjects.RESPONSES, data=OrchestrationResponse, requires=[PARTICIPANT_PROFILES])
def apply_orchestration_responses(
    events: Sequence[CloudEvent[OrchestrationResponse]], profiles: ParticipantProfiles
) -> Reply:
    """Bring participant profiles up to date. A repeated or late response changes nothing; an early one comes again."""
    verdicts = profiles.apply([event.data for event in events])
    return Reply(
        failures={event.id: _EARLY for event, verdict in zip(events, verdicts, strict=True) if verdict is Verdict.EARLY}
    )


@event_function(every=timedelta(seconds=5), slots=1, requires=[PARTICIPANT_PROFILES])
def resend_pending_deployments(events: Sequence[CloudEvent[None]], profiles: ParticipantProfiles) -> Reply:
    """Ask again for deployments and disposals that nobody has answered in time. Safe at any time, at several places."""
    return Reply(outbox=profiles.resend())
