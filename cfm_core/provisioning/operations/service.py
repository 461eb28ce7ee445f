"""What operators do to orchestrations: looked at under its lock, done once, and noted, whatever stores them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from cfm_core.access.model import EVERYTHING, Access, Bound, Bounds, Resource, refused
from cfm_core.access.model import Action as RightTo
from cfm_core.audit.model import Kind, Subject
from cfm_core.contracts.orchestration import OrchestrationManifest
from cfm_core.errors import ConflictError, NotFoundError
from cfm_core.provisioning.engine.model import ActivityState, check_id
from cfm_core.provisioning.operations.model import (
    WHOLE,
    Order,
    Resolution,
    check_activity_action,
    has_effect,
    status_of_activity,
    to_retry,
    word_of,
)
from cfm_core.provisioning.orchestrations.actions import Action
from cfm_core.provisioning.orchestrations.bounds import owner_of
from cfm_core.provisioning.orchestrations.model import Orchestration
from cfm_core.versions import ANY, Expected


class OperationStore(Protocol):
    """What a store does with one run while it holds it."""

    def held(self, id_: str, *, with_below: bool = False) -> AbstractContextManager[None]:
        """A transaction in which nobody else changes the run, the one that it undoes, or the one that undoes it.

        ``with_below``: nor those that were started for its activities, or for theirs, and go on.
        """
        ...

    def get(self, id_: str) -> Orchestration:
        """Raises NotFoundError where there is none with this id."""
        ...

    def find(self, id_: str, bounds: Bounds) -> Orchestration | None:
        """The one with this id, if there is one within ``bounds``."""
        ...

    def pause(self, id_: str) -> None:
        """The run, and those below it that go on and are not paused."""
        ...

    def resume(self, id_: str) -> None:
        """The run, and those below it that were paused with it."""
        ...

    def cancel(self, id_: str, reason: str, *, undoes: bool) -> None: ...

    def retry(self, id_: str, ords: Sequence[int]) -> None: ...

    def compensate(self, id_: str) -> None: ...

    def hasten(self, id_: str, ord_: int) -> None:
        """Send an activity at once that waits for its next attempt."""
        ...

    def resolve(self, id_: str, ord_: int, reason: str, resolution: Resolution) -> None: ...

    def erase(self, correlation_id: str) -> tuple[int, list[str]]:
        """Forgets the data of the ended runs with this correlation id.

        Returns:
            How many there were, and some that have not ended: then nothing is forgotten.
        """
        ...

    def manifest_of(self, id_: str) -> OrchestrationManifest:
        """What the run was started with."""
        ...

    def start(self, manifest: OrchestrationManifest) -> Orchestration: ...

    def note(self, subject: Subject, action: Action, order: Order, before: str, after: str) -> None: ...


class Operations:
    """What somebody with ``access`` does. Each method takes effect once: asked for again, it gives the run as it is, and
    notes nothing.

    Whoever gives data gives what agents act on, for whomever the data name; so only who may change any orchestration resolves
    an activity, and only who may start any one chooses an id.

    Raises:
        NotFoundError: there is no such orchestration, or one may not see it, or it has no such activity.
        ForbiddenError: one may see it, and not do this.
        ConflictError: the state forbids it; ``allowedActions`` says what it allows.
        PreconditionFailedError: the orchestration is not in the expected version.
    """

    def __init__(self, store: OperationStore, access: Access = EVERYTHING) -> None:
        self._store = store
        self._access = access

    def within(self, access: Access) -> Operations:
        """See ``Bounded``."""
        return Operations(self._store, access)

    def pause(self, id_: str, order: Order, expected: Expected = ANY) -> Orchestration:
        """Send nothing more, neither of the run nor of those that were started for its activities; what was sent may report."""
        return self._do(Action.PAUSE, id_, order, expected, lambda _: self._store.pause(id_))

    def resume(self, id_: str, order: Order, expected: Expected = ANY) -> Orchestration:
        """Send what was held back: of the run, and of those that were paused with it."""
        return self._do(Action.RESUME, id_, order, expected, lambda _: self._store.resume(id_))

    def cancel(self, id_: str, order: Order, expected: Expected = ANY, *, compensate: bool = True) -> Orchestration:
        """End the run: what was not sent is cancelled, what was sent may report.

        Then it is undone if ``compensate``, its template says how, and it has not changed a live participant.
        """
        reason = f"cancelled: {order.reason}"
        return self._do(
            Action.CANCEL, id_, order, expected, lambda _: self._store.cancel(id_, reason, undoes=compensate)
        )

    def retry(
        self, id_: str, order: Order, expected: Expected = ANY, *, activities: Sequence[str] = ()
    ) -> Orchestration:
        """Let a failed or cancelled run go on: with all that was not done, or with some activities and their dependents.

        Raises:
            RefusedError: a named activity has not failed, or could not start.
        """
        return self._do(
            Action.RETRY, id_, order, expected, lambda run: self._store.retry(id_, to_retry(run, activities))
        )

    def compensate(self, id_: str, order: Order, expected: Expected = ANY, *, force: bool = False) -> Orchestration:
        """Undo a run that has ended; ``force``: also one that has completed, or that has changed a live participant.

        Raises:
            RefusedError: it has changed a live participant.
        """
        return self._do(Action.COMPENSATE, id_, order, expected, lambda _: self._store.compensate(id_), force=force)

    def rerun(self, id_: str, order: Order, expected: Expected = ANY, *, new_id: str = "") -> Orchestration:
        """Start a run that has ended once more, with what it was started with; gives the new run.

        Its id is ``new_id``, or else derived: whoever asks twice gets the same run.

        Raises:
            ValidationError: nobody defines the type any more, or the new id is too long.
        """
        if new_id:
            self._access.require_all(RightTo.CREATE, Resource.ORCHESTRATION)
        again = new_id or f"{id_}.again"
        check_id(again)
        self._do(
            Action.RERUN,
            id_,
            order,
            expected,
            lambda _: self._store.start(self._store.manifest_of(id_).model_copy(update={"id": again})),
        )
        return self._store.get(again)

    def retry_activity(self, id_: str, activity_id: str, order: Order, expected: Expected = ANY) -> Orchestration:
        """Send an activity at once that waits for its next attempt, or retry the run with it and its dependents.

        Raises:
            RefusedError: a dependent could not start.
        """

        def act(run: Orchestration) -> None:
            activity = check_activity_action(run, activity_id, Action.RETRY)
            if activity.state is ActivityState.BACKOFF:
                self._store.hasten(id_, activity.ord)
            else:
                self._store.retry(id_, to_retry(run, [activity_id]))

        return self._do_to_activity(Action.RETRY, id_, activity_id, order, expected, act)

    def resolve_activity(
        self, id_: str, activity_id: str, order: Order, resolution: Resolution, expected: Expected = ANY
    ) -> Orchestration:
        """Do an activity by hand: it is done, with what ``resolution`` records. A failed run goes on once it is retried."""

        def act(run: Orchestration) -> None:
            self._access.require_all(RightTo.UPDATE, Resource.ORCHESTRATION)
            activity = check_activity_action(run, activity_id, Action.RESOLVE)
            self._store.resolve(id_, activity.ord, order.reason, resolution)

        return self._do_to_activity(Action.RESOLVE, id_, activity_id, order, expected, act)

    def erase(self, correlation_id: str, order: Order) -> int:
        """Forget what the runs with a correlation id have held and told: for a person whom they were about.

        They may be of several tenants, so that it takes the right to all orchestrations, or to those of this participant profile.

        Their states and times stay. Gives how many there were; asked again, none.

        Raises:
            ConflictError: some of them have not ended.
        """
        if not self._access.require(RightTo.DELETE, Resource.ORCHESTRATION).allow(Bound("", correlation_id)):
            raise refused(RightTo.DELETE, Resource.ORCHESTRATION)
        with self._store.held(WHOLE):
            erased, going = self._store.erase(correlation_id)
            if going:
                raise ConflictError(f"orchestrations of {correlation_id} have not ended", {"usedBy": going})
            if erased:
                subject = Subject(Kind.ORCHESTRATIONS, f"of {correlation_id}", belongs_to=Bound("", correlation_id))
                self._store.note(subject, Action.ERASE, order, "kept", "erased")
            return erased

    def _do(
        self,
        action: Action,
        id_: str,
        order: Order,
        expected: Expected,
        act: Callable[[Orchestration], object],
        *,
        force: bool = False,
    ) -> Orchestration:
        self._admit(id_, RightTo.CREATE if action is Action.RERUN else RightTo.UPDATE)
        with self._store.held(id_, with_below=action in {Action.PAUSE, Action.RESUME}):
            before = self._store.get(id_)
            expected.check(f"orchestration {id_}", before.version)
            if not has_effect(before, action, force=force):
                return before
            act(before)
            after = self._store.get(id_)
            self._store.note(_subject(before), action, order, word_of(before), word_of(after))
            return after

    def _do_to_activity(
        self,
        action: Action,
        id_: str,
        activity_id: str,
        order: Order,
        expected: Expected,
        act: Callable[[Orchestration], None],
    ) -> Orchestration:
        self._admit(id_, RightTo.UPDATE)
        with self._store.held(id_):
            before = self._store.get(id_)
            was = status_of_activity(before, activity_id).state
            expected.check(f"orchestration {id_}", before.version)
            if action is Action.RESOLVE and was is ActivityState.DONE:
                return before
            act(before)
            after = self._store.get(id_)
            now = status_of_activity(after, activity_id).state
            self._store.note(_subject(before, activity_id), action, order, was.lower(), now.lower())
            return after

    def _admit(self, id_: str, action: RightTo) -> None:
        """Look whether one may do ``action`` with a run, before anybody has to wait for it: whose it is never changes."""
        bounds = self._access.require(action, Resource.ORCHESTRATION)
        if not bounds.unlimited and self._store.find(id_, bounds) is None:
            unknown = NotFoundError("orchestration", id_)
            raise self._access.why_not(
                action, Resource.ORCHESTRATION, unknown, lambda reading: self._store.find(id_, reading) is not None
            )


def _subject(run: Orchestration, activity_id: str = WHOLE) -> Subject:
    return Subject(Kind.ORCHESTRATIONS, run.id, activity_id, owner_of(run))
