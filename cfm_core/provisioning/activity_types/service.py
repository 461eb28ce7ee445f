"""Activity types, whatever stores them."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from cfm_core.provisioning.activity_types.model import ActivityType
from cfm_core.provisioning.operations.model import Order
from cfm_core.provisioning.orchestrations.actions import Action
from cfm_core.versions import ANY, Expected


class ActivityTypeStore(Protocol):
    def held(self, type_: str) -> AbstractContextManager[None]:
        """A transaction in which nobody else pauses or resumes the type."""
        ...

    def all(self) -> list[ActivityType]:
        """By type."""
        ...

    def get(self, type_: str) -> ActivityType:
        """Raises NotFoundError for a type that is neither defined nor announced."""
        ...

    def set_paused(self, type_: str, paused: bool) -> None:
        """Resumed, what limits allow is sent."""
        ...

    def note(self, type_: str, action: Action, order: Order, before: str, after: str) -> None: ...


class ActivityTypes:
    """Pausing and resuming take effect once: asked for again, they give the type as it is, and note nothing.

    Raises:
        NotFoundError: the type is neither defined nor announced.
        PreconditionFailedError: it is not in the expected version.
    """

    def __init__(self, store: ActivityTypeStore) -> None:
        self._store = store

    def all(self) -> list[ActivityType]:
        """By type."""
        return self._store.all()

    def get(self, type_: str) -> ActivityType:
        return self._store.get(type_)

    def pause(self, type_: str, order: Order, expected: Expected = ANY) -> ActivityType:
        """Send no activity of the type any more; those that were sent may report."""
        return self._set_paused(Action.PAUSE, True, type_, order, expected)

    def resume(self, type_: str, order: Order, expected: Expected = ANY) -> ActivityType:
        """Send what was held back."""
        return self._set_paused(Action.RESUME, False, type_, order, expected)

    def _set_paused(self, action: Action, paused: bool, type_: str, order: Order, expected: Expected) -> ActivityType:
        with self._store.held(type_):
            before = self._store.get(type_)
            expected.check(f"activity type {type_}", before.version)
            if before.paused is paused:
                return before
            self._store.set_paused(type_, paused)
            after = self._store.get(type_)
            self._store.note(type_, action, order, _word(before), _word(after))
            return after


def _word(one: ActivityType) -> str:
    return "paused" if one.paused else "running"
