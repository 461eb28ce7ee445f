"""What the EDC runtimes tell of themselves, as far as somebody here listens; what happened is told by the subject.

Source: dataspace service contracts, section 12.3.
"""

from __future__ import annotations

from pydantic import Field

from cfm_core.contracts.documents import Document


class KeyPairResource(Document):
    """The key pair, as it was at that moment."""

    id: str = ""


class KeyPairEvent(Document):
    """Something happened to a key pair of a participant."""

    participant_context_id: str = Field(min_length=1)
    key_id: str = Field(min_length=1)
    key_pair_resource: KeyPairResource | None = None

    @property
    def pair(self) -> str:
        """What tells the key pair from others: its own id, else that of its key."""
        return (self.key_pair_resource.id if self.key_pair_resource else "") or self.key_id


class ParticipantContextEvent(Document):
    """Something happened to a participant context."""

    participant_context_id: str = Field(min_length=1)
