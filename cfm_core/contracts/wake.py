"""What wakes the trigger: a datagram that is empty, or that holds a row of the outbox.

    32 bytes HMAC-SHA256 of the rest, then {"id": 17, "subject": "event.cfm-orchestration", "events": [{...}]}

Each manager has a secret for it, which its functions share with the trigger. It brings no further than to the manager's own
subjects, as its role in the database does; nobody else can have the trigger deliver anything.
"""

from __future__ import annotations

import hashlib
import hmac
import json

from cfm_core.contracts.reply import OutboxRow

MOST_EVENTS = 60_000
"""Bytes of events in JSON that fit into a datagram with all the rest."""
_DIGEST = "sha256"
_SEAL_BYTES = 32


def key_of(secret: str) -> bytes:
    """The key that those share who have the same secret."""
    return hashlib.sha256(b"cfm wake " + secret.encode()).digest()


def sealed(row: OutboxRow, key: bytes) -> bytes:
    """The datagram that holds ``row``, whose events fit."""
    document = {"id": row.id, "subject": row.subject, "events": row.events}
    content = json.dumps(document, separators=(",", ":")).encode()
    return hmac.digest(key, content, _DIGEST) + content


def opened(datagram: bytes, key: bytes) -> OutboxRow | None:
    """The row in a datagram; None where there is none that was sealed with ``key``."""
    seal, content = datagram[:_SEAL_BYTES], datagram[_SEAL_BYTES:]
    if not content or not hmac.compare_digest(hmac.digest(key, content, _DIGEST), seal):
        return None
    document = json.loads(content)
    return OutboxRow(document["id"], document["subject"], document["events"])
