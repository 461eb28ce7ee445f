"""Events as API version v1alpha1 shows them.

Source: CloudEvents 1.0, JSON format.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from cfm_core.tenancy.feed.model import Event
from cfm_core.tenancy.instants import shown_instant
from cfm_core.tenancy.participant_profiles.manifests import EVENT_SOURCE


class EventDocument(BaseModel):
    """A CloudEvent. ``sequence`` is where it stands in the feed; texts of it are in the order of the events."""

    specversion: str
    id: str
    source: str
    type: str
    subject: str
    time: str = Field(json_schema_extra={"format": "date-time"})
    datacontenttype: str
    sequence: str
    data: dict[str, Any]


def shown(event: Event) -> dict[str, Any]:
    """``event`` as the API shows it; the database's ``event_json`` gives the same."""
    return {
        "specversion": "1.0",
        "id": str(event.place),
        "source": EVENT_SOURCE,
        "type": f"cfm.{event.subject.kind.removesuffix('s')}.{event.happening}",
        "subject": f"{event.subject.kind}/{event.subject.entity_id}",
        "time": shown_instant(event.at),
        "datacontenttype": "application/json",
        "sequence": str(event.place),
        "data": dict(event.data),
    }
