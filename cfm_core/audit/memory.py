"""The audit trail in memory: nobody else can reach it, so that nothing has to be sealed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

from cfm_core import caller
from cfm_core.access.model import ALL, UNBOUNDED, Bounds
from cfm_core.audit.fields import FIELDS
from cfm_core.audit.model import Entry, Kind, Manager, Subject
from cfm_core.audit.service import Erasure, Seal
from cfm_core.audit.v1alpha1 import entry_to_json
from cfm_core.clock import Clock, system_clock
from cfm_core.masking import masked
from cfm_core.query import JsonPage, Page, Predicate
from cfm_core.store.memory import page_of

Document = Mapping[str, Any]


class _Versioned(Protocol):
    @property
    def version(self) -> int: ...


Entity = TypeVar("Entity", bound=_Versioned)


@dataclass(slots=True)
class MemoryAudit:
    """See ``AuditStore``."""

    clock: Clock = system_clock
    entries: list[Entry] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(
        self,
        subject: Subject,
        action: str,
        before: str,
        after: str,
        *,
        document_before: Document | None = None,
        document_after: Document | None = None,
        actor: str | None = None,
        reason: str | None = None,
        request_id: str | None = None,
    ) -> None:
        """Note what was done; None stands for what the caller says."""
        asking = caller.current() or caller.Caller(actor="", request_id="")
        with self.lock:
            self.entries.append(
                Entry(
                    id=len(self.entries) + 1,
                    at=self.clock(),
                    action=action,
                    subject=subject,
                    before=before,
                    after=after,
                    request_id=asking.request_id if request_id is None else request_id,
                    actor=asking.actor if actor is None else actor,
                    issuer=asking.issuer,
                    address=asking.address,
                    reason=asking.reason if reason is None else reason,
                    document_before=masked(document_before),
                    document_after=masked(document_after),
                )
            )

    def note_asked(
        self,
        subject: Subject,
        action: str,
        before: str,
        after: str,
        *,
        document_before: Document | None = None,
        document_after: Document | None = None,
    ) -> None:
        """Note what was done if somebody has asked for it over the API."""
        if caller.current() is not None:
            self.note(subject, action, before, after, document_before=document_before, document_after=document_after)

    def note_change(
        self, subject: Subject, before: Entity | None, after: Entity | None, shown: Callable[[Entity], Document]
    ) -> None:
        """Note, if somebody has asked for it, that an entity was created, changed or deleted."""
        if caller.current() is not None:
            self.note(
                subject,
                "create" if before is None else "delete" if after is None else "change",
                "absent" if before is None else f"version {before.version}",
                "deleted" if after is None else f"version {after.version}",
                document_before=None if before is None else shown(before),
                document_after=None if after is None else shown(after),
            )

    def select(self, predicate: Predicate, page: Page, managers: Collection[Manager], bounds: Bounds = ALL) -> JsonPage:
        def is_told(one: Entry) -> bool:
            return one.subject.kind.manager in managers and bounds.allow(one.subject.belongs_to)

        with self.lock:
            # Compared as texts, the places are to have the order of numbers.
            found = {f"{one.id:020}": one for one in self.entries if is_told(one)}
        place = replace(page, after=page.after and page.after.zfill(20))
        shown = page_of(found, predicate, FIELDS, place, _fields_of, entry_to_json)
        return replace(shown, last=shown.last.lstrip("0"))

    def erase_content(self, subject: Subject, erasure: Erasure) -> int:
        def is_meant(one: Entry) -> bool:
            same = (one.subject.kind, one.subject.entity_id) == (subject.kind, subject.entity_id)
            return same and one.action != "erase" and one.content_erased_by is None

        def emptied(one: Entry, by: int) -> Entry:
            return replace(one, reason=None, document_before=None, document_after=None, content_erased_by=by)

        return self._erase(subject, erasure, is_meant, emptied)

    def erase_actor(self, actor: str, issuer: str, erasure: Erasure) -> int:
        def is_meant(one: Entry) -> bool:
            return one.actor == actor and issuer in ("", one.issuer)

        def emptied(one: Entry, by: int) -> Entry:
            return replace(one, actor=None, issuer=None, address=None, actor_erased_by=by)

        return self._erase(Subject(Kind.ACTORS, ""), erasure, is_meant, emptied)

    def seal(self, most: int) -> Seal | None:
        return None

    def _erase(
        self,
        subject: Subject,
        erasure: Erasure,
        is_meant: Callable[[Entry], bool],
        emptied: Callable[[Entry, int], Entry],
    ) -> int:
        with self.lock:
            by = len(self.entries) + 1
            meant = [place for place, one in enumerate(self.entries) if is_meant(one)]
            for place in meant:
                self.entries[place] = emptied(self.entries[place], by)
        if meant:
            whose = self.entries[meant[0]].subject.belongs_to if subject.kind is not Kind.ACTORS else UNBOUNDED
            self.note(
                *(Subject(subject.kind, subject.entity_id, belongs_to=whose), "erase", "kept", f"erased {len(meant)}"),
                actor=erasure.actor,
                reason=erasure.reason,
                request_id=erasure.request_id,
            )
        return len(meant)


_TEXTS = (
    *("actor", "issuer", "address", "entityId", "part", "orchestrationId", "activityId", "activityType", "scheduleId"),
    *("deadLetterId", "reason"),
)


def _fields_of(entry: Entry) -> dict[str, object]:
    return dict.fromkeys(_TEXTS, "") | entry_to_json(entry) | {"at": entry.at}
