"""The feed in Postgres, written by triggers on the entities' tables."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from cfm_core.access.model import EVERYTHING, Access, Action, bounds_of
from cfm_core.entities import JsonText
from cfm_core.store import conditions
from cfm_core.store.conditions import Condition
from cfm_core.store.database import Database
from cfm_core.store.sql import Queries
from cfm_core.tenancy.feed.model import RESOURCES, Kind, Place, Subject, no_such_place
from cfm_core.tenancy.participant_profiles.manifests import EVENT_SOURCE
from cfm_core.tenancy.participant_profiles.store import condition_of

SQL = Queries("cfm_core.tenancy.feed")


class PostgresFeed:
    def __init__(self, database: Database) -> None:
        self._database = database

    def read(
        self, after: Place, subject: Subject | None, limit: int, access: Access = EVERYTHING
    ) -> tuple[JsonText, str]:
        condition, wanted = conditions.both(_within(access), _condition(subject))
        ((text, last, is_known),) = self._database.query(
            SQL["read"].replace("<<condition>>", condition),
            source=EVENT_SOURCE,
            xid=str(after.transaction),
            serial=after.serial,
            limit=limit,
            **wanted,
        )
        if not is_known:
            raise no_such_place(str(after))
        return text, last or ""

    def forget(self, kept: timedelta, most: int) -> int:
        count: int = self._database.value(SQL["forget"], kept=kept, most=most)
        return count


def _condition(subject: Subject | None) -> Condition:
    if subject is None:
        return conditions.EVERYTHING
    if not subject.entity_id:
        return "f.kind = :kind", {"kind": subject.kind}
    return "f.kind = :kind AND f.entity_id = :entity_id::uuid", {"kind": subject.kind, "entity_id": subject.entity_id}


def _within(access: Access) -> Condition:
    """The condition that an event ``f`` is about something that somebody may read."""
    bounds = {kind: access.bounds(Action.READ, resource) for kind, resource in RESOURCES.items()}
    whole = [kind.value for kind, one in bounds.items() if one.unlimited]
    if len(whole) == len(bounds):
        return conditions.EVERYTHING
    parts = ["f.kind = ANY (:whole_kinds::text[])"]
    params: dict[str, Any] = {"whole_kinds": whole}
    if tenants := bounds[Kind.TENANTS].tenants():
        parts.append(SQL["of_tenants"])
        params["event_tenants"] = tenants
    if cells := bounds[Kind.CELLS].cells():
        parts.append(SQL["of_cells"])
        params["event_cells"] = cells
    if cells := bounds[Kind.DATASPACE_PROFILES].cells():
        parts.append(SQL["of_dataspace_profiles"])
        params["event_dataspace_cells"] = json.dumps(cells)
    profiles = bounds[Kind.PARTICIPANT_PROFILES]
    if not profiles.unlimited:
        # What has been deleted is told by what the event says of it.
        parts.append(SQL["of_participant_profiles"])
        params |= {"event_profiles": profiles.participant_profiles(), "event_profile_tenants": profiles.tenants()}
        if others := profiles.others():
            condition, bound = condition_of(bounds_of(others))
            parts.append(SQL["of_participant_profiles_that_are"].replace("<<condition>>", condition))
            params |= bound
    return " OR ".join(parts), params
