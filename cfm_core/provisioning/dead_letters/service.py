"""What can be done with dead letters, whatever stores them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

from cfm_core.contracts.dead_letter import DeadLetterNotice
from cfm_core.errors import NotFoundError, RecoverableError
from cfm_core.masking import masked_page
from cfm_core.provisioning.dead_letters.model import DeadLetter
from cfm_core.provisioning.keys import check_place
from cfm_core.provisioning.operations.model import Order
from cfm_core.query import JsonPage, Page, Predicate, parse
from cfm_core.versions import ANY, Expected

_ID = re.compile("[0-9]{1,18}")


class DeadLetterStore(Protocol):
    """Keeps dead letters."""

    def keep(self, notices: Sequence[DeadLetterNotice]) -> None:
        """Keep what was not delivered; what is kept already, by its subject and key, is left as it is."""
        ...

    def find(self, letter_id: int) -> DeadLetter | None: ...

    def select(self, predicate: Predicate, page: Page) -> JsonPage:
        """Raises ValidationError: dead letters have no field that the predicate names."""
        ...

    def replay(self, letter_id: int, order: Order, expected: Expected) -> DeadLetter | None:
        """Send the event of a letter once more and note it, unless that has happened; None: there is no such letter.

        Raises:
            ConflictError: it holds no event.
            PreconditionFailedError: it is not in an expected version.
        """
        ...

    def delete(self, letter_id: int, order: Order, expected: Expected) -> bool:
        """Whether there was such a letter in an expected version; that it is gone is noted."""
        ...

    def forget(self, kept: timedelta, most: int) -> int:
        """Delete up to ``most`` letters that came longer ago than ``kept``; gives how many. Two at once share the work."""
        ...


class DeadLetters:
    """The use cases of dead letters. An id that is none is unknown like any other: NotFoundError."""

    def __init__(self, store: DeadLetterStore, kept: timedelta = timedelta(days=90)) -> None:
        self._store = store
        self._kept = kept

    def keep(self, notices: Sequence[DeadLetterNotice]) -> None:
        """Keep what was not delivered. Repeated, it changes nothing."""
        self._store.keep(notices)

    def get(self, letter_id: str) -> DeadLetter:
        found = self._store.find(_number(letter_id))
        if found is None:
            raise NotFoundError("dead letter", letter_id)
        return found

    def select(self, predicate: str, page: Page) -> JsonPage:
        """Those that ``predicate`` holds for, the newest last.

        Raises:
            ValidationError: the predicate or the page cannot be read.
        """
        check_place(page)
        return masked_page(self._store.select(parse(predicate), page))

    def replay(self, letter_id: str, order: Order, expected: Expected = ANY) -> DeadLetter:
        """Put the event on its subject again, once: asked for again, it gives the letter as it is.

        Raises:
            ConflictError, PreconditionFailedError: see ``DeadLetterStore.replay``.
        """
        found = self._store.replay(_number(letter_id), order, expected)
        if found is None:
            raise NotFoundError("dead letter", letter_id)
        return found

    def discard(self, letter_id: str, order: Order, expected: Expected = ANY) -> None:
        """Forget a letter.

        Raises:
            PreconditionFailedError: it is not in an expected version.
        """
        if expected.exists is False or not self._store.delete(_number(letter_id), order, expected):
            expected.check(f"dead letter {letter_id}", self.get(letter_id).version)
            raise RecoverableError(f"dead letter {letter_id} is changing just now")

    def forget(self, most: int = 1000) -> int:
        """Forget letters that nobody wants to see any more, in batches of ``most``; gives how many."""
        gone = done = self._store.forget(self._kept, most)
        while gone == most:
            gone = self._store.forget(self._kept, most)
            done += gone
        return done


def _number(letter_id: str) -> int:
    if not _ID.fullmatch(letter_id):
        raise NotFoundError("dead letter", letter_id)
    return int(letter_id)
