"""What can be done with orchestrations from outside, whatever stores them."""

from __future__ import annotations

import hmac
from datetime import datetime
from typing import Protocol

from cfm_core.contracts.activity import ActivityOutcome, OutcomeKind
from cfm_core.contracts.orchestration import OrchestrationManifest
from cfm_core.errors import ConflictError, FieldError, ForbiddenError, ValidationError
from cfm_core.provisioning.engine.model import ActivityState
from cfm_core.provisioning.orchestrations.model import Attempt, Ending, Orchestration
from cfm_core.query import JsonPage, Page, Predicate


class Orchestrations(Protocol):
    """All runs, ended ones included; and those that are to start later."""

    def start(self, manifest: OrchestrationManifest, start_at: datetime | None = None) -> Orchestration:
        """Start an orchestration, or keep it until ``start_at``.

        A known id gives the orchestration that has it, whatever else the manifest says.

        Raises:
            ValidationError: nobody has defined this orchestration type, or the manifest cannot be stored.
        """
        ...

    def get(self, orchestration_id: str) -> Orchestration:
        """Raises NotFoundError where there is none with this id."""
        ...

    def end_activity(self, orchestration_id: str, activity_id: str, ending: Ending) -> None:
        """End an activity from outside; before its agent has answered Wait as well as after. Repeated, it changes nothing.

        Raises:
            NotFoundError: the orchestration has no such activity.
            ValidationError: what is recorded does not fit the output schema of its type; the activity goes on waiting.
            ForbiddenError: the token is not that of the activity's last dispatch.
            ConflictError: the activity is not waiting any more, and has not been completed.
        """
        ...

    def history(self, orchestration_id: str) -> list[Attempt]:
        """Every attempt at every activity that has ended, in the order of their ends.

        Raises:
            NotFoundError: there is no orchestration with this id.
        """
        ...

    def select(self, predicate: Predicate, page: Page) -> JsonPage:
        """One page of the orchestrations for which ``predicate`` holds, by id.

        Raises:
            ValidationError: the predicate names a field that orchestrations lack.
        """
        ...


class History(Protocol):
    """What is kept of how attempts have ended, by the day."""

    def tidy(self) -> int:
        """Forget what is older than it is kept, and make room for the days to come; gives how many days that were."""
        ...


class Archive(Protocol):
    """Where runs go that ended a while ago; whoever reads does not notice."""

    def tidy(self) -> int:
        """Archive what ended long enough ago, and forget what is archived longer than it is kept; gives how many runs.

        Each batch is a transaction of its own. Two at once share the work.
        """
        ...


def can_end(state: ActivityState, token: str | None, ending: Ending) -> bool:
    """Whether an activity in ``state``, last dispatched with ``token``, can be ended; False where that has happened already.

    Raises:
        ForbiddenError, ConflictError: see ``Orchestrations.end_activity``.
    """
    if token is None or not hmac.compare_digest(token.encode(), ending.token.encode()):
        raise ForbiddenError("the token is not that of the activity's last dispatch")
    if state in {ActivityState.DISPATCHED, ActivityState.WAITING}:
        return True
    if state is not (ActivityState.FAILED if ending.error else ActivityState.DONE):
        raise ConflictError(f"the activity is {state.lower()} and does not wait", {"state": state.lower()})
    return False


def outcome_of(orchestration_id: str, phase: int, ord: int, ending: Ending) -> ActivityOutcome:
    """What an ending says, as the agent itself would have said it."""
    return ActivityOutcome(
        orchestration_id=orchestration_id,
        phase=phase,
        ord=ord,
        token=ending.token,
        kind=OutcomeKind.FATAL if ending.error else OutcomeKind.COMPLETE,
        reason=ending.error,
        values=ending.values,
        outputs=ending.outputs,
    )


def check_recorded(problem: FieldError | None) -> None:
    """Raises ValidationError for what somebody outside wants to record and must not."""
    if problem is not None:
        here = FieldError(f"/values{problem.pointer}", problem.detail)
        raise ValidationError(f"Invalid payload: {here.pointer}: {here.detail}", [here])


def unknown_type(manifest: OrchestrationManifest) -> ValidationError:
    """What the manifest asks for is not defined, or not active."""
    pointer = "/templateRef" if manifest.template_ref else "/orchestrationType"
    where = f" in template {manifest.template_ref!r}" if manifest.template_ref else ""
    detail = f"there is no active orchestration type {manifest.orchestration_type!r}{where}"
    return ValidationError(f"Bad request: {detail}", [FieldError(pointer, detail)])
