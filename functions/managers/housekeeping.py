"""What both managers forget after a while, and what is never to be forgotten unnoticed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from cfm_core.assembly.idempotency import PROVISION_MANAGER_ANSWERS, TENANT_MANAGER_ANSWERS
from cfm_core.audit.assembly import AUDIT_SEALS
from cfm_core.audit.service import Audit
from cfm_core.contracts.reply import Reply
from cfm_core.eventing.cloudevents import CloudEvent
from cfm_core.function import event_function
from cfm_core.idempotency import IdempotentAnswers
from cfm_core.provisioning.assembly import DEFINITIONS
from cfm_core.provisioning.definitions.service import Definitions
from cfm_core.tenancy.assembly import FEED
from cfm_core.tenancy.feed.service import Feed


@event_function(every=timedelta(minutes=1), slots=1, requires=[TENANT_MANAGER_ANSWERS, PROVISION_MANAGER_ANSWERS])
def forget_idempotent_answers(events: Sequence[CloudEvent[None]], *of_managers: IdempotentAnswers) -> Reply:
    """Forget the answers of requests that nobody sends again. Safe at any time, at several places."""
    for answers in of_managers:
        answers.forget()
    return Reply()


@event_function(every=timedelta(minutes=1), slots=1, requires=[FEED])
def forget_events(events: Sequence[CloudEvent[None]], feed: Feed) -> Reply:
    """Forget the events that readers of the feed have had their time for. Safe at any time, at several places."""
    feed.forget()
    return Reply()


@event_function(every=timedelta(minutes=10), slots=1, requires=[DEFINITIONS])
def forget_definitions(events: Sequence[CloudEvent[None]], definitions: Definitions) -> Reply:
    """Forget the definitions that others have replaced and no orchestration has. Safe at any time, at several places."""
    definitions.forget()
    return Reply()


@event_function(every=timedelta(seconds=10), slots=1, requires=[AUDIT_SEALS])
def seal_audit(events: Sequence[CloudEvent[None]], audit: Audit) -> Reply:
    """Seal what the audit trail has got. Safe at any time, at several places: whoever comes second leaves it to the first."""
    audit.seal()
    return Reply()
