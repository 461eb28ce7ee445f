"""What can be done with orchestrations from outside, whatever stores them."""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Protocol

from cfm_core.access.model import Access
from cfm_core.contracts.activity import LONGEST_PROGRESS, ActivityOutcome
from cfm_core.contracts.completion import CompletionKey
from cfm_core.contracts.orchestration import OrchestrationManifest
from cfm_core.errors import ConflictError, FieldError, ForbiddenError, RecoverableError, ValidationError
from cfm_core.provisioning.engine.model import ActivityState
from cfm_core.provisioning.orchestrations.model import Attempt, Endable, Ending, Heartbeat, Orchestration
from cfm_core.provisioning.storable import is_storable
from cfm_core.query import JsonPage, Page, Predicate


class Orchestrations(Protocol):
    """All runs, ended ones included, and those that are to start later, for somebody who has some access to them.

    What one may not see is unknown. Whoever gives data gives what agents act on, for whomever the data name; so only who may
    start any orchestration starts one.
    """

    def within(self, access: Access) -> Orchestrations:
        """See ``Bounded``."""
        ...

    def start(self, manifest: OrchestrationManifest, start_at: datetime | None = None) -> Orchestration:
        """Start an orchestration, or keep it until ``start_at``.

        A known id gives the orchestration that has it, whatever else the manifest says.

        Raises:
            ValidationError: nobody has defined this orchestration type, or the manifest cannot be stored.
            ForbiddenError: there are orchestrations that one may not start.
        """
        ...

    def get(self, orchestration_id: str) -> Orchestration:
        """Raises NotFoundError where there is none with this id."""
        ...

    def end_activity(self, orchestration_id: str, activity_id: str, ending: Ending) -> None:
        """End an activity from outside; before its agent has answered Wait as well as after. Repeated, it changes nothing.

        Before, it counts as soon as the agent has been heard, or will not be heard any more although the orchestration goes
        on: so nothing that the agent records is lost.

        Raises:
            NotFoundError: the orchestration has no such activity.
            ValidationError: what is recorded does not fit the output schema of its type; the activity goes on waiting.
            RecoverableError: the same, but what its agent has recorded, once that is heard, may make it fit.
            ForbiddenError: the token was not given away with the activity's last dispatch.
            ConflictError: the activity is not waiting any more, and has not been completed.
        """
        ...

    def heartbeat(self, orchestration_id: str, activity_id: str, heartbeat: Heartbeat) -> datetime:
        """Take a sign of life from the agent that has an activity.

        Returns:
            When the next one, or the outcome, has to be there.

        Raises:
            NotFoundError: the orchestration has no such activity.
            ValidationError: the progress is too large, or cannot be stored.
            ConflictError: nobody waits for this attempt any more.
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


def named_by(
    orchestration_id: str, activity_id: str, found: Iterable[Endable], ending: Ending, key: CompletionKey
) -> Endable:
    """Which one an ending is about: an activity, or what undoes it, which has the same id.

    Raises:
        ForbiddenError: see ``Orchestrations.end_activity``.
    """
    shown = ending.token.encode(errors="replace")
    for one in found:
        given = [token for token in (one.token, one.ending_token) if token]
        tokens = [key.token(orchestration_id, one.phase, activity_id, token).encode() for token in given]
        if any(hmac.compare_digest(token, shown) for token in tokens):
            return one
    raise ForbiddenError("the token was not given away with the activity's last dispatch")


def can_end(found: Endable, ending: Ending) -> bool:
    """Whether an activity can be ended; False where that has happened already.

    Raises:
        ConflictError: see ``Orchestrations.end_activity``.
    """
    if found.ending is not None:
        if found.ending is not ending.kind:
            raise ConflictError("the activity has been ended otherwise", {"state": found.state.lower()})
        return False
    if found.state in {ActivityState.DISPATCHED, ActivityState.WAITING}:
        return True
    if found.state is not (ActivityState.FAILED if ending.error else ActivityState.DONE):
        raise ConflictError(f"the activity is {found.state.lower()} and does not wait", {"state": found.state.lower()})
    return False


def outcome_of(orchestration_id: str, found: Endable, ending: Ending) -> ActivityOutcome:
    """What an ending says, as the agent itself would have said it."""
    return ActivityOutcome(
        orchestration_id=orchestration_id,
        phase=found.phase,
        ord=found.ord,
        token=found.token,
        kind=ending.kind,
        reason=ending.error,
        values=ending.values,
        outputs=ending.outputs,
    )


def check_progress(progress: Any) -> None:
    """Raises ValidationError for more than an agent may say of how far it is."""
    length = len(json.dumps(progress, ensure_ascii=False, separators=(",", ":")).encode(errors="replace"))
    if length > LONGEST_PROGRESS:
        detail = f"must be at most {LONGEST_PROGRESS} bytes of JSON, not {length}"
    elif not is_storable(progress):
        detail = "must not contain a NUL character, half a character, or an endless number"
    else:
        return
    raise ValidationError(f"Invalid payload: /progress: {detail}", [FieldError("/progress", detail)])


def superseded(state: str) -> ConflictError:
    """Nobody waits for an attempt any more."""
    return ConflictError("nobody waits for this attempt any more", {"state": state})


def check_recorded(problem: FieldError | None, state: ActivityState) -> None:
    """Look at what somebody outside wants to record for an activity.

    Raises:
        ValidationError: it must not be recorded.
        RecoverableError: something is missing that the activity's agent, which has not been heard yet, may record.
    """
    if problem is not None:
        if state is ActivityState.DISPATCHED and not problem.pointer:
            raise RecoverableError(f"its agent has not been heard yet, and may record more: {problem.detail}", 1.0)
        here = FieldError(f"/values{problem.pointer}", problem.detail)
        raise ValidationError(f"Invalid payload: {here.pointer}: {here.detail}", [here])


def unknown_type(manifest: OrchestrationManifest) -> ValidationError:
    """What the manifest asks for is not defined, or not active."""
    pointer = "/templateRef" if manifest.template_ref else "/orchestrationType"
    where = f" in template {manifest.template_ref!r}" if manifest.template_ref else ""
    detail = f"there is no active orchestration type {manifest.orchestration_type!r}{where}"
    return ValidationError(f"Bad request: {detail}", [FieldError(pointer, detail)])
