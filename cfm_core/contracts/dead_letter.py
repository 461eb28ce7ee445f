"""What the trigger tells the Provision Manager of a message that no delivery can help: an event, ours alone."""

from __future__ import annotations

from typing import Any

from pydantic import Base64Bytes, Field

from cfm_core.contracts.documents import Document


class DeadLetterNotice(Document):
    """One message that could not be delivered, with all that is known of it."""

    key: str = Field(min_length=1)
    """Of the delivery that failed: a notice that comes again has the same."""
    subject: str
    """Where the message belongs."""
    target: str
    """The function that was to take it."""
    reason: str
    deliveries: int
    """How often it was tried in vain."""
    event: dict[str, Any] | None = None
    raw: Base64Bytes = b""
    """The message as it came, where it could not be read as an event."""
