"""Dead letters in memory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from cfm_core.audit.model import Kind, Subject
from cfm_core.contracts import subjects
from cfm_core.contracts.dead_letter import DeadLetterNotice
from cfm_core.provisioning.dead_letters.fields import FIELDS
from cfm_core.provisioning.dead_letters.model import DeadLetter, marks_of, storable
from cfm_core.provisioning.dead_letters.v1alpha1 import entry_to_json
from cfm_core.provisioning.memory.runs import Runs
from cfm_core.provisioning.operations.model import Order
from cfm_core.provisioning.orchestrations.actions import Action
from cfm_core.query import JsonPage, Page, Predicate
from cfm_core.store.memory import page_of
from cfm_core.versions import Expected


class MemoryDeadLetters:
    """See ``DeadLetterStore``."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self._keys: set[tuple[str, str]] = set()

    def keep(self, notices: Sequence[DeadLetterNotice]) -> None:
        with self._runs.lock:
            for one in notices:
                if (one.subject, one.key) not in self._keys:
                    self._keys.add((one.subject, one.key))
                    self._runs.bury(
                        DeadLetter(
                            at=self._runs.clock(),
                            subject=storable(one.subject),
                            target=storable(one.target),
                            reason=storable(one.reason),
                            deliveries=one.deliveries,
                            event=None if one.event is None else json.dumps(one.event),
                            raw=one.raw if one.event is None else b"",
                        )
                    )

    def find(self, letter_id: int) -> DeadLetter | None:
        with self._runs.lock:
            letter = self._runs.dead_letters.get(letter_id)
            return letter and replace(letter, secret_keys=self._runs.secret_keys)

    def select(self, predicate: Predicate, page: Page) -> JsonPage:
        with self._runs.lock:
            # Compared as texts, the ids are to have the order of numbers.
            found = {f"{id_:020}": letter for id_, letter in self._runs.dead_letters.items()}
        place = replace(page, after=page.after and page.after.zfill(20))
        shown = page_of(found, predicate, FIELDS, place, _stored, entry_to_json)
        return replace(shown, last=shown.last.lstrip("0"))

    def replay(self, letter_id: int, order: Order, expected: Expected) -> DeadLetter | None:
        with self._runs.lock:
            letter = self._runs.dead_letters.get(letter_id)
            if letter is None:
                return None
            letter = replace(letter, secret_keys=self._runs.secret_keys)
            expected.check(f"dead letter {letter_id}", letter.version)
            if letter.replayed_at is not None:
                return letter
            self._runs.put(subjects.again(letter.subject), [letter.to_send])
            after = replace(letter, version=letter.version + 1, replayed_at=self._runs.clock())
            self._runs.dead_letters[letter_id] = after
            self._runs.note(Subject(Kind.DEAD_LETTERS, str(letter_id)), Action.REPLAY, order, "kept", "replayed")
            return after

    def delete(self, letter_id: int, order: Order, expected: Expected) -> bool:
        with self._runs.lock:
            letter = self._runs.dead_letters.get(letter_id)
            if letter is None or not expected.allows(letter.version):
                return False
            del self._runs.dead_letters[letter_id]
            before = "replayed" if letter.replayed_at else "kept"
            self._runs.note(Subject(Kind.DEAD_LETTERS, str(letter_id)), Action.DISCARD, order, before, "discarded")
            return True

    def forget(self, kept: timedelta, most: int) -> int:
        with self._runs.lock:
            until = self._runs.clock() - kept
            old = [id_ for id_, letter in self._runs.dead_letters.items() if letter.at < until][:most]
            for id_ in old:
                del self._runs.dead_letters[id_]
            return len(old)

    def erase(self, correlation_id: str, runs: Iterable[str]) -> None:
        """Delete the letters about a correlation id or one of its ``runs``."""
        marks = [mark.encode() for mark in marks_of(correlation_id, runs)]
        for id_, letter in list(self._runs.dead_letters.items()):
            content = letter.raw if letter.event is None else letter.event.encode()
            if any(mark in content for mark in marks):
                del self._runs.dead_letters[id_]


def _stored(letter: DeadLetter) -> dict[str, Any]:
    return {"target": ""} | entry_to_json(letter) | {"at": letter.at, "replayedAt": letter.replayed_at}
