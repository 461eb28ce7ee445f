"""What can be done with the audit trail, whatever stores it. Entries come from those who change something."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Protocol

from cfm_core.audit.model import EVERYBODY, Manager, Subject, check_place
from cfm_core.entities import array_of
from cfm_core.masking import masked
from cfm_core.query import JsonPage, Page, Predicate, parse

log = logging.getLogger(__name__)

SEALED_AT_ONCE = 1_000
_ROUNDS = 50


@dataclass(frozen=True, slots=True)
class Seal:
    """A batch that is sealed: its digest covers its entries and the seal before."""

    number: int
    entries: int
    digest: str
    """In hexadecimal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """Whose wish it is that something is erased, why, and in which request."""

    actor: str
    reason: str
    request_id: str


class AuditStore(Protocol):
    """Keeps the trail."""

    def select(self, predicate: Predicate, page: Page, managers: Collection[Manager]) -> JsonPage:
        """Raises ValidationError: entries have no field that the predicate names."""
        ...

    def erase_content(self, subject: Subject, erasure: Erasure) -> int:
        """Empty reasons and documents of all entries about an entity so far, and note it; gives how many that were."""
        ...

    def erase_actor(self, actor: str, erasure: Erasure) -> int:
        """Empty who somebody is in all entries so far, and note it; gives how many that were."""
        ...

    def seal(self, most: int) -> Seal | None:
        """Seal at most so many entries that have been committed; None where there are none, or others are at it."""
        ...


class Audit:
    """The use cases of the audit trail."""

    def __init__(self, store: AuditStore) -> None:
        self._store = store

    def select(self, predicate: str, page: Page, managers: Collection[Manager] = EVERYBODY) -> JsonPage:
        """One page of what was done to entities of ``managers``, in the order in which entries were begun.

        Raises:
            ValidationError: the predicate cannot be read, or names a field that entries lack.
        """
        check_place(page)
        found = self._store.select(parse(predicate), page, managers)
        return replace(found, json=array_of(masked(json.loads(found.json))).encode())

    def erase_content(self, subject: Subject, erasure: Erasure) -> int:
        """Forget why something was done to an entity, and what it held. That it was done, and by whom, stays.

        Gives how many entries there were; asked again, none.
        """
        return self._store.erase_content(subject, erasure)

    def erase_actor(self, actor: str, erasure: Erasure) -> int:
        """Forget who has done something, and from where. What was done stays; gives how many entries there were."""
        return self._store.erase_actor(actor, erasure)

    def seal(self) -> None:
        """Seal what has been committed; where that is very much, a part of it. Each seal is told in the log as well, out of the
        reach of whoever could change the database."""
        for _ in range(_ROUNDS):
            sealed = self._store.seal(SEALED_AT_ONCE)
            if sealed is None:
                return
            log.info("audit seal %d:%s over %d entries", sealed.number, sealed.digest, sealed.entries)
            if sealed.entries < SEALED_AT_ONCE:
                return
