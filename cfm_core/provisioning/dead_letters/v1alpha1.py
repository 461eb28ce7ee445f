"""Dead letters as JSON of API version v1alpha1.

Source: interface decisions, "New routes".
"""

from __future__ import annotations

import base64
import json
from typing import Any

from cfm_core.contracts.documents import Document
from cfm_core.contracts.instants import Instant, instant
from cfm_core.entities import JsonEntity, json_of
from cfm_core.masking import masked, masked_text
from cfm_core.provisioning.dead_letters.model import DeadLetter, LetterAction


class DeadLetterEntryDocument(Document):
    """A dead letter as it is listed, without its content."""

    id: int
    version: int
    at: Instant
    subject: str
    """Where it belongs, or ``sweep`` for what the engine notes of itself."""
    target: str = ""
    """The function that did not take it in; left out where the engine itself has written the letter."""
    reason: str
    deliveries: int
    """How often it was tried in vain."""
    replayed_at: Instant | None = None
    """When it was sent once more; left out for one that was not."""


class DeadLetterDocument(DeadLetterEntryDocument):
    """A dead letter with the event, or in base64 what is none that could be read and sent. Secrets are masked, and tokens."""

    event: dict[str, Any] | None = None
    raw: str | None = None
    allowed_actions: list[LetterAction]


def entry_to_json(letter: DeadLetter) -> dict[str, Any]:
    """The database's ``dead_letter_json`` gives the same."""
    document = {
        "id": letter.id,
        "version": letter.version,
        "at": instant(letter.at),
        "subject": letter.subject,
        "target": letter.target or None,
        "reason": letter.reason,
        "deliveries": letter.deliveries,
        "replayedAt": letter.replayed_at and instant(letter.replayed_at),
    }
    return {name: value for name, value in document.items() if value is not None}


def to_entity(letter: DeadLetter) -> JsonEntity:
    """The letter as it is read."""
    document = entry_to_json(letter)
    document["reason"] = masked_text(letter.reason)
    if letter.event is not None and letter.is_readable:
        document["event"] = masked(json.loads(letter.event), letter.secret_keys)
    else:
        content = letter.raw if letter.event is None else letter.event.encode()
        text = masked_text(content.decode(errors="surrogateescape"), letter.secret_keys)
        document["raw"] = base64.b64encode(text.encode(errors="surrogateescape")).decode()
    return JsonEntity(letter.version, json_of(document | {"allowedActions": list(letter.allowed_actions)}))
