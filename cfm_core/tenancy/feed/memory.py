"""The feed in memory: written by the maps that hold the entities, as triggers do it in Postgres."""

from __future__ import annotations

import threading
from collections import UserDict
from collections.abc import Callable, Mapping
from datetime import timedelta
from itertools import islice
from typing import Any, Protocol, TypeVar

from cfm_core.access.model import EVERYTHING, UNBOUNDED, Access, Action, Bound, bounds_of
from cfm_core.audit.memory import MemoryAudit
from cfm_core.audit.model import Kind as AuditKind
from cfm_core.audit.model import Subject as AuditSubject
from cfm_core.clock import Clock
from cfm_core.entities import JsonText, array_of
from cfm_core.tenancy.cells.model import Cell
from cfm_core.tenancy.dataspace_profiles.model import DataspaceProfile
from cfm_core.tenancy.feed.model import RESOURCES, START, Event, Happening, Kind, Place, Subject, no_such_place
from cfm_core.tenancy.feed.v1alpha1 import shown
from cfm_core.tenancy.participant_profiles.bounds import belongs
from cfm_core.tenancy.participant_profiles.model import ParticipantProfile


class _Versioned(Protocol):
    @property
    def id(self) -> str: ...

    @property
    def version(self) -> int: ...


Key = TypeVar("Key")
Entity = TypeVar("Entity", bound=_Versioned)


class MemoryFeed:
    """See ``FeedStore``. Whoever records holds a lock of the entities' own, so that the order is theirs.

    Args:
        profile_of: gives the participant profile with an id that is there now.
    """

    def __init__(self, clock: Clock, profile_of: Callable[[str], ParticipantProfile | None] = lambda _: None) -> None:
        self._profile_of = profile_of
        self._clock = clock
        self._lock = threading.Lock()
        self._events: list[Event] = []
        self._last = START

    def record(self, kind: Kind, happening: Happening, entity: _Versioned) -> None:
        with self._lock:
            self._last = Place(1, self._last.serial + 1)
            data = _data(entity, happening)
            self._events.append(Event(self._last, Subject(kind, entity.id), happening, data, self._clock()))

    def read(
        self, after: Place, subject: Subject | None, limit: int, access: Access = EVERYTHING
    ) -> tuple[JsonText, str]:
        with self._lock:
            if after > self._last:
                raise no_such_place(str(after))
            wanted = (
                one
                for one in self._events
                if one.place > after and _fits(subject, one.subject) and self._is_told(one, access)
            )
            found = list(islice(wanted, limit))
        return array_of(map(shown, found)), str(found[-1].place) if found else ""

    def _is_told(self, event: Event, access: Access) -> bool:
        """Whether somebody may read what it is about."""
        bounds = access.bounds(Action.READ, RESOURCES[event.subject.kind])
        entity_id, data = event.subject.entity_id, event.data
        if bounds.unlimited or bounds.nothing:
            return bounds.unlimited
        match event.subject.kind:
            case Kind.TENANTS:
                return bounds.allow(Bound(entity_id))
            case Kind.CELLS:
                return bounds.allow(Bound(cell_id=entity_id))
            case Kind.DATASPACE_PROFILES:
                cells = data["cellIds"]
                return bool(cells) and all(bounds.allow(Bound(cell_id=cell)) for cell in cells)
            case Kind.PARTICIPANT_PROFILES:
                profile = self._profile_of(entity_id)
                # What has been deleted is told by what the event says of it.
                return (
                    entity_id in bounds.participant_profiles()
                    or data["tenantId"] in bounds.tenants()
                    or (profile is not None and belongs(profile, bounds_of(bounds.others())))
                )
        return False

    def forget(self, kept: timedelta, most: int) -> int:
        with self._lock:
            limit = self._clock() - kept
            gone = sum(event.at <= limit for event in self._events[:most])
            del self._events[:gone]
        return gone


class Recorded(UserDict[Key, Entity]):
    """Entities of one kind by their ids; whatever is written to it is recorded, but for a version that is there already.

    Args:
        shown: gives an entity as the audit trail tells it.
        belongs_to: gives whom an entity belongs to.
    """

    def __init__(
        self,
        kind: Kind,
        feed: MemoryFeed,
        audit: MemoryAudit,
        shown: Callable[[Entity], Mapping[str, Any]],
        belongs_to: Callable[[Entity], Bound] = lambda _: UNBOUNDED,
    ) -> None:
        super().__init__()
        self._kind = kind
        self._feed = feed
        self._audit = audit
        self._shown = shown
        self._belongs_to = belongs_to

    def __setitem__(self, key: Key, entity: Entity) -> None:
        before = self.data.get(key)
        self.data[key] = entity
        if before is None:
            self._feed.record(self._kind, Happening.CREATED, entity)
        elif before.version != entity.version:
            self._feed.record(self._kind, Happening.CHANGED, entity)
        self._note(before, entity)

    def __delitem__(self, key: Key) -> None:
        gone = self.data.pop(key)
        self._feed.record(self._kind, Happening.DELETED, gone)
        self._note(gone, None)

    def _note(self, before: Entity | None, after: Entity | None) -> None:
        there = after or before
        if there is not None and (before is None or after is None or before.version != after.version):
            subject = AuditSubject(AuditKind(self._kind.value), there.id, belongs_to=self._belongs_to(there))
            self._audit.note_change(subject, before, after, self._shown)


def _fits(wanted: Subject | None, subject: Subject) -> bool:
    return wanted is None or (wanted.kind == subject.kind and wanted.entity_id in ("", subject.entity_id))


def _data(entity: _Versioned, happening: Happening) -> Mapping[str, Any]:
    document: dict[str, Any] = {"id": entity.id, "version": entity.version}
    match entity:
        case Cell():
            return document | {"state": entity.state}
        case DataspaceProfile():
            # Its deployments have gone with it.
            deployments = () if happening is Happening.DELETED else entity.deployments
            return document | {"cellIds": sorted(deployment.cell_id for deployment in deployments)}
        case ParticipantProfile():
            return document | {
                "tenantId": entity.tenant_id,
                "state": entity.state,
                "manifestId": entity.manifest_id,
            }
    return document
