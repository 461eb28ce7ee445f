"""The events that the EDC runtimes publish.

Source: dataspace service contracts, section 12.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

SUBJECTS = "events."
CONTENT_TYPE = "application/cloudevents+json"

Emit = Callable[[str, dict[str, Any]], None]
"""Takes what an event is about, ``keypair.added``, and its data."""


def dropped(about: str, data: dict[str, Any]) -> None:
    """Publishes nothing."""


def envelope(about: str, data: dict[str, Any]) -> dict[str, Any]:
    """The CloudEvent that goes to the subject ``events.<about>``; its type is the name of a class."""
    package, name = about.rsplit(".", 1)
    kind = {"keypair": "KeyPair", "participantcontext": "ParticipantContext"}[package]
    return {
        "specversion": "1.0",
        "id": str(uuid.uuid4()),
        "source": "identityhub",
        "time": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        "type": f"org.eclipse.edc.identityhub.spi.{package}.events.{kind}{name.capitalize()}",
        "datacontenttype": "application/json",
        "data": data,
    }
