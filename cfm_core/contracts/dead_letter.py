"""What the trigger tells the Provision Manager of a message that no delivery can help: an event, ours alone."""

from __future__ import annotations

from typing import Any

from pydantic import Base64Bytes, Field

from cfm_core.contracts.documents import Document


class DeadLetterNotice(Document):
    """One message that could not be delivered, with all that is known of it."""

    key: str = Field(min_length=1, max_length=512)
    """Of the delivery that failed: a notice about the same subject that comes again has the same."""
    subject: str
    """Where the message belongs."""
    target: str
    """The function that was to take it."""
    reason: str
    deliveries: int = Field(ge=0, lt=2**31)
    """How often it was tried in vain."""
    event: dict[str, Any] | None = None
    raw: Base64Bytes = b""
    """The message as it came, where it could not be read as an event."""
