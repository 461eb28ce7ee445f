"""What can be done with the audit trail, whatever stores it. Entries come from those who change something."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Protocol

from cfm_core.access.model import ALL, EVERYTHING, Access, Action, Bounds, Resource
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

    def select(self, predicate: Predicate, page: Page, managers: Collection[Manager], bounds: Bounds = ALL) -> JsonPage:
        """One page of what was done within ``bounds`` to entities of ``managers``.

        Raises:
            ValidationError: entries have no field that the predicate names.
        """
        ...

    def erase_content(self, subject: Subject, erasure: Erasure) -> int:
        """Empty reasons and documents of all entries about an entity so far, and note it; gives how many that were."""
        ...

    def erase_actor(self, actor: str, issuer: str, erasure: Erasure) -> int:
        """Empty who somebody is in all entries so far, and note it; gives how many that were."""
        ...

    def seal(self, most: int) -> Seal | None:
        """Seal at most so many entries that have been committed; None where there are none, or others are at it."""
        ...


class Audit:
    """The use cases of the audit trail, for somebody with ``access``.

    A right with bounds shows the entries of what belongs to them; only who may delete all of the trail erases something of it.

    Raises:
        ForbiddenError: there is no right for it.
    """

    def __init__(self, store: AuditStore, access: Access = EVERYTHING) -> None:
        self._store = store
        self._access = access

    def within(self, access: Access) -> Audit:
        """See ``Bounded``."""
        return Audit(self._store, access)

    def select(self, predicate: str, page: Page, managers: Collection[Manager] = EVERYBODY) -> JsonPage:
        """One page of what was done to entities of ``managers``, in the order in which entries were begun.

        Raises:
            ValidationError: the predicate cannot be read, or names a field that entries lack.
        """
        bounds = self._access.require(Action.READ, Resource.AUDIT)
        check_place(page)
        found = self._store.select(parse(predicate), page, managers, bounds)
        return replace(found, json=array_of(masked(json.loads(found.json))).encode())

    def erase_content(self, subject: Subject, erasure: Erasure) -> int:
        """Forget why something was done to an entity, and what it held. That it was done, and by whom, stays.

        Gives how many entries there were; asked again, none.
        """
        self._access.require_all(Action.DELETE, Resource.AUDIT)
        return self._store.erase_content(subject, erasure)

    def erase_actor(self, actor: str, erasure: Erasure, issuer: str = "") -> int:
        """Forget who has done something, and from where: whom the tokens of ``issuer`` call so, or of any if that is empty.

        What was done stays; gives how many entries there were.
        """
        self._access.require_all(Action.DELETE, Resource.AUDIT)
        return self._store.erase_actor(actor, issuer, erasure)

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
