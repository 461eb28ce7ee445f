"""Which declared indexes queries may count on."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from cfm_core.query import DeclaredPath, IndexKind
from cfm_core.store.database import Database
from cfm_core.tenancy.query_indexes.model import ROOT, IndexedEntity
from cfm_core.tenancy.query_indexes.store import SQL

REMEMBERED_SECONDS = 3.0
"""A new index is used, and one that is gone not asked any more, so much later; neither changes what is found."""


class ReadyIndexes:
    """The paths of one entity whose index is ready, looked up every few seconds. Safe to share between threads."""

    def __init__(self, database: Database, entity: IndexedEntity, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._entity = entity
        self._clock = clock
        self._known: tuple[float, Collection[DeclaredPath]] = (float("-inf"), ())

    def paths(self) -> Collection[DeclaredPath]:
        read_at, paths = self._known
        if self._clock() - read_at > REMEMBERED_SECONDS:
            rows = self._database.rows(SQL["ready"], entity=self._entity)
            paths = frozenset(DeclaredPath(ROOT, tuple(keys), IndexKind(kind)) for keys, kind in rows)
            self._known = (self._clock(), paths)
        return paths
