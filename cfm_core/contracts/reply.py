"""What an event function answers to the trigger that called it.

    {"failures": [{"id": "...", "status": 503, "reason": "...", "retryAfter": 5, "kept": false}],
     "outbox":   [{"id": 17, "subject": "event.cfm.activity.x", "events": [{...}]}],
     "events":   [{...}]}

An event that is not among ``failures`` has taken effect. ``outbox`` names the rows that the function has committed and the
trigger may hand on at once; ``events`` are results that are stored nowhere yet. Empty lists are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

EventDict = dict[str, Any]


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """A committed row of the outbox; ``events`` are CloudEvents in their JSON form."""

    id: int
    subject: str
    events: list[EventDict]


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

    def to_json(self) -> dict[str, Any]:
        document: dict[str, Any] = {}
        if self.failures:
            document["failures"] = [
                {"id": event_id, "status": failure.status, "reason": failure.reason}
                | ({} if failure.retry_after is None else {"retryAfter": failure.retry_after})
                | ({"kept": True} if failure.kept else {})
                for event_id, failure in self.failures.items()
            ]
        if self.outbox:
            document["outbox"] = [{"id": row.id, "subject": row.subject, "events": row.events} for row in self.outbox]
        if self.events:
            document["events"] = self.events
        return document

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
