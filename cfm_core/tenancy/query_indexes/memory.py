"""Query indexes in memory, where an index would change nothing: a declared one is ready at once."""

from __future__ import annotations

from dataclasses import replace

from cfm_core.audit.model import Kind, Subject
from cfm_core.entities import JsonEntity, json_of
from cfm_core.query import JsonPage, Page, Predicate
from cfm_core.store.memory import page_of
from cfm_core.tenancy.memory import Fabric
from cfm_core.tenancy.query_indexes.model import MOST, IndexState, QueryIndex, QueryIndexId, too_many
from cfm_core.tenancy.query_indexes.store import FIELDS
from cfm_core.tenancy.query_indexes.v1alpha1 import shown
from cfm_core.versions import Expected


class MemoryQueryIndexes:
    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric

    def declare(self, index: QueryIndex) -> tuple[QueryIndexId, JsonEntity]:
        with self._fabric.lock:
            for known in self._fabric.query_indexes.values():
                if (known.entity, known.declared) == (index.entity, index.declared):
                    return known.id, _entity(known)
            if len(self._fabric.query_indexes) >= MOST:
                raise too_many()
            self._fabric.query_indexes[index.id] = ready = replace(index, state=IndexState.READY)
            self._fabric.audit.note_change(_subject(ready), None, ready, shown)
            return ready.id, _entity(ready)

    def find(self, index_id: QueryIndexId) -> JsonEntity | None:
        with self._fabric.lock:
            index = self._fabric.query_indexes.get(index_id)
            return _entity(index) if index else None

    def select(self, predicate: Predicate, page: Page) -> JsonPage:
        with self._fabric.lock:
            return page_of(self._fabric.query_indexes, predicate, FIELDS, page, shown, shown)

    def drop(self, index_id: QueryIndexId, expected: Expected) -> bool:
        with self._fabric.lock:
            index = self._fabric.query_indexes.get(index_id)
            if index is None or not expected.allows(index.version):
                return False
            del self._fabric.query_indexes[index_id]
            self._fabric.audit.note_change(_subject(index), index, None, shown)
            return True

    def work(self) -> None:
        """There is nothing to build."""


def _subject(index: QueryIndex) -> Subject:
    return Subject(Kind.QUERY_INDEXES, index.id)


def _entity(index: QueryIndex) -> JsonEntity:
    return JsonEntity(index.version, json_of(shown(index)))
