"""Dead letters: messages that nobody could take in, kept for an operator to look at."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from cfm_core.contracts import subjects
from cfm_core.contracts.dead_letter import DeadLetterNotice
from cfm_core.errors import ConflictError
from cfm_core.provisioning.storable import is_storable

log = logging.getLogger(__name__)

_SUBJECTS = ("event.", "events.")
"""What the engine notes of itself is under a name that is no subject."""
_LONGEST_SUBJECT = 200
_LONGEST_REASON = 2000
"""So much is believed of whoever says what is not for them to say."""
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


class LetterAction(StrEnum):
    DISCARD = "discard"
    REPLAY = "replay"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A message with the reason why nobody took it in: as an ``event`` in its JSON form, or ``raw`` if it is not even that."""

    id: int = 0
    version: int = 0
    at: datetime
    subject: str
    target: str = ""
    """The function that was to take it; empty where the engine itself has written the letter."""
    reason: str
    deliveries: int = 1
    event: str | None = None
    raw: bytes = b""
    replayed_at: datetime | None = None
    secret_keys: frozenset[str] = frozenset()
    """What activity types mark: not to be shown of its content."""

    @property
    def is_readable(self) -> bool:
        """Whether it is an event, and one without anything that no database can hold."""
        return self.event is not None and is_storable(json.loads(self.event))

    @property
    def allowed_actions(self) -> tuple[LetterAction, ...]:
        can_go = self.replayed_at is None and not self._obstacle
        return (LetterAction.REPLAY, LetterAction.DISCARD) if can_go else (LetterAction.DISCARD,)

    @property
    def to_send(self) -> dict[str, Any]:
        """The event, as it can be sent once more.

        Raises:
            ConflictError: there is none.
        """
        if self._obstacle or self.event is None:
            detail = f"dead letter {self.id} {self._obstacle}, and cannot be replayed"
            raise ConflictError(detail, {"allowedActions": list(self.allowed_actions)})
        event: dict[str, Any] = json.loads(self.event)
        return event

    @property
    def _obstacle(self) -> str:
        """Why it cannot be sent once more; empty where it can."""
        if not self.is_readable:
            return "holds no event that could be sent"
        return "" if self.subject.startswith(_SUBJECTS) else "is a note of the engine"


def as_published(notice: DeadLetterNotice, published: str) -> DeadLetterNotice:
    """A notice as it counts where it was published: as it is, if it is for whoever may publish there to give.

    Else it is kept under the name of where it was published: there it keeps nobody's letter away, and what it holds cannot be
    sent, which would be with more authority than its sender's. To drop it would hide somebody who tries.
    """
    if subjects.is_letter_about(notice.subject, published):
        return notice
    about = notice.subject[:_LONGEST_SUBJECT]
    reason = f"nobody files letters about {about} on {published or 'no subject'}: {notice.reason[:_LONGEST_REASON]}"
    log.error("a dead letter is kept and cannot be replayed: %s", reason)
    content = notice.raw if notice.event is None else json.dumps(notice.event).encode()
    return notice.model_copy(update={"subject": published, "reason": reason, "event": None, "raw": content})


def storable(text: str) -> str:
    """``text`` as a database can hold it."""
    return _UNSTORABLE.sub("\ufffd", text)


def marks_of(correlation_id: str, runs: Iterable[str]) -> list[str]:
    """What the content of a letter has in it that is about a correlation id or one of its ``runs``, as JSON is written."""
    marks = {f'"correlationId":{space}{form}' for space in ("", " ") for form in _forms_of(correlation_id)}
    return sorted(marks.union(*map(_forms_of, runs)))


def _forms_of(text: str) -> set[str]:
    return {json.dumps(text), json.dumps(text, ensure_ascii=False)}
