"""What the trigger has in hand: events, each with the place that it came from and that wants to know how it ended."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from cfm_core.contracts.reply import EventDict


class Origin(Protocol):
    """Where an event came from. Told once for each of its events."""

    def settled(self) -> None:
        """One event has taken effect, or is safe in JetStream."""
        ...

    def buried(self) -> None:
        """One event has become a dead letter."""
        ...

    def given_back(self, delay: float) -> None:
        """One event was not delivered; whoever holds it shall bring it again after ``delay`` seconds."""
        ...


class Nowhere:
    """The origin of events that nobody waits for."""

    def settled(self) -> None:
        return None

    def buried(self) -> None:
        return None

    def given_back(self, delay: float) -> None:
        return None


@dataclass(slots=True, eq=False)
class Entry:
    """One event on its way to a function."""

    event: EventDict
    origin: Origin
    in_stream: bool = False
    """JetStream holds this very event and brings it again; otherwise this process keeps it until it has arrived."""
    is_outcome: bool = False
    """The outcome of an activity: the origin is that of the dispatch, which ends with it."""
    attempts: int = 0
    """Failed deliveries so far."""
    last: bool = False
    """It is not worth while to have JetStream bring it again, or it will not."""
    alone: bool = False
    """A batch with it has failed; it goes by itself."""
    _encoded: bytes = field(default=b"", repr=False)
    _sent: bytes = field(default=b"", repr=False)

    @property
    def id(self) -> str:
        return str(self.event.get("id", ""))

    @property
    def encoded(self) -> bytes:
        """The event in its JSON form."""
        if not self._encoded:
            self._encoded = _json(self.event)
        return self._encoded

    def encoded_as(self, addressed: Callable[[EventDict], EventDict]) -> bytes:
        """What ``addressed`` makes of the event for its receiver, in its JSON form; the event itself stays as it is."""
        if not self._sent:
            self._sent = _json(addressed(self.event))
        return self._sent


def batch_body(events: Iterable[bytes]) -> bytes:
    """Events in their JSON form as the body of a CloudEvents batch."""
    return b"[" + b",".join(events) + b"]"


def _json(event: EventDict) -> bytes:
    return json.dumps(event, separators=(",", ":")).encode()
