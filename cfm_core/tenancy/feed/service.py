"""What can be done with the feed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from cfm_core.access.model import EVERYTHING, Access, Action, Resource
from cfm_core.entities import JsonText
from cfm_core.errors import FieldError, ValidationError
from cfm_core.tenancy.feed.model import Place, Subject, place_of, subject_of

KEPT = timedelta(days=7)
USUAL = 100
"""Events at a time for a reader who does not say how many."""
MOST = 1000
"""The greatest number of events at a time."""

_FORGOTTEN_AT_ONCE = 10_000
_ROUNDS = 20


@dataclass(frozen=True, slots=True)
class Batch:
    """Events as a JSON array, and the place behind which the next ones are."""

    text: JsonText
    last: str


class FeedStore(Protocol):
    """Keeps events in an order in which nothing is ever put before what a reader has got."""

    def read(
        self, after: Place, subject: Subject | None, limit: int, access: Access = EVERYTHING
    ) -> tuple[JsonText, str]:
        """At most ``limit`` events behind ``after``, and the place of the last one, empty where there is none.

        They are about what somebody with ``access`` may read.

        Raises:
            ValidationError: the feed has not come to ``after`` yet: that place is in another feed.
        """
        ...

    def forget(self, kept: timedelta, most: int) -> int:
        """Forget at most ``most`` of the oldest events, those older than ``kept``; tells how many."""
        ...


class Feed:
    """The use cases of the feed, for somebody who has ``access``: of what they may not see, nothing has ever happened."""

    def __init__(self, store: FeedStore, access: Access = EVERYTHING) -> None:
        self._store = store
        self._access = access

    def within(self, access: Access) -> Feed:
        """See ``Bounded``."""
        return Feed(self._store, access)

    def read(self, after: str = "", subject: str = "", limit: int = 0) -> Batch:
        """The events behind ``after``, from the oldest that is kept where that is empty.

        Whoever asks again behind the batch's last place gets every event once, in the order of sequences, whatever
        commits meanwhile and however late.

        Args:
            subject: of one entity, or a kind; empty for everything.
            limit: more than ``MOST`` stands for that, 0 for ``USUAL``.

        Raises:
            ValidationError: there are no such place, no such subject, or no such limit.
            ForbiddenError: there is nothing that one may read.
        """
        if limit < 0:
            raise ValidationError(f"Invalid limit: {limit} is negative", [FieldError("/limit", "must not be negative")])
        self._access.require(Action.READ, Resource.ANY)
        place = place_of(after)
        text, last = self._store.read(place, subject_of(subject), min(limit, MOST) or USUAL, self._access)
        return Batch(text, last or str(place))

    def forget(self) -> None:
        """Forget what has been kept long enough; where that is very much, a part of it."""
        for _ in range(_ROUNDS):
            if self._store.forget(KEPT, _FORGOTTEN_AT_ONCE) < _FORGOTTEN_AT_ONCE:
                return
