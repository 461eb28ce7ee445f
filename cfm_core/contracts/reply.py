"""What an event function answers to the trigger that called it.

    {"failures": [{"id": "...", "status": 503, "reason": "...", "retryAfter": 5, "kept": false}],
     "outbox":   [{"id": 17, "subject": "event.cfm.activity.x", "events": [{...}]}],
     "events":   [{...}]}

An event that is not among ``failures`` has taken effect. ``outbox`` names the rows that the function has committed and the
trigger may hand on at once; ``events`` are results that are stored nowhere yet. Empty lists are left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

EventDict = dict[str, Any]


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """A committed row of the outbox.

    Args:
        content: CloudEvents in their JSON form, as a list, or as the text of one: who only hands a row on need not read it.
    """

    id: int
    subject: str
    content: list[EventDict] | str

    @property
    def events(self) -> list[EventDict]:
        """The row's events."""
        if isinstance(self.content, str):
            found: list[EventDict] = json.loads(self.content)
            return found
        return self.content

    @property
    def text(self) -> str:
        """The row's events as the text of a JSON array."""
        return self.content if isinstance(self.content, str) else _text(self.content)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why one event did not take effect: an HTTP status in the sense of the delivery contract, and a reason.

    ``retry_after`` is in seconds. One that is ``kept`` is a dead letter already.
    """

    status: int
    reason: str
    retry_after: float | None = None
    kept: bool = False


@dataclass(slots=True)
class Reply:
    """The outcome of a batch; ``failures`` by event id."""

    failures: dict[str, Failure] = field(default_factory=dict)
    outbox: list[OutboxRow] = field(default_factory=list)
    events: list[EventDict] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The answer as JSON."""
        members = []
        if self.failures:
            failures = [
                {"id": event_id, "status": failure.status, "reason": failure.reason}
                | ({} if failure.retry_after is None else {"retryAfter": failure.retry_after})
                | ({"kept": True} if failure.kept else {})
                for event_id, failure in self.failures.items()
            ]
            members.append(f'"failures":{_text(failures)}')
        if self.outbox:
            rows = (f'{{"id":{row.id},"subject":{_text(row.subject)},"events":{row.text}}}' for row in self.outbox)
            members.append(f'"outbox":[{",".join(rows)}]')
        if self.events:
            members.append(f'"events":{_text(self.events)}')
        return f"{{{','.join(members)}}}"

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Reply:
        """Read an answer.

        Raises:
            KeyError, TypeError, AttributeError, ValueError: this is not an answer of that form.
        """
        return cls(
            {
                str(item["id"]): Failure(
                    int(item["status"]), str(item["reason"]), item.get("retryAfter"), kept=item.get("kept") is True
                )
                for item in document.get("failures", ())
            },
            [
                OutboxRow(int(row["id"]), str(row["subject"]), [dict(event) for event in row["events"]])
                for row in document.get("outbox", ())
            ],
            [dict(event) for event in document.get("events", ())],
        )


def _text(document: Any) -> str:
    return json.dumps(document, separators=(",", ":"))
