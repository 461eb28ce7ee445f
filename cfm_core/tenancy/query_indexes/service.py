"""What can be done with query indexes."""

from __future__ import annotations

import uuid
from typing import Protocol

from cfm_core.entities import JsonEntity
from cfm_core.errors import NotFoundError
from cfm_core.query import JsonPage, Page, Predicate, parse, parse_path
from cfm_core.tenancy.ids import check_key, is_id
from cfm_core.tenancy.query_indexes.model import QueryIndex, QueryIndexId, indexable_keys
from cfm_core.tenancy.query_indexes.v1alpha1 import NewQueryIndex
from cfm_core.versions import ANY, Expected


class QueryIndexStore(Protocol):
    """Keeps declared indexes, and gives them as the API shows them."""

    def declare(self, index: QueryIndex) -> tuple[QueryIndexId, JsonEntity]:
        """Keep an index, or give the one that the path has already; one that has failed is built again.

        Raises:
            ConflictError: there are too many.
        """
        ...

    def find(self, index_id: QueryIndexId) -> JsonEntity | None: ...

    def select(self, predicate: Predicate, page: Page) -> JsonPage:
        """Raises ValidationError: query indexes have no field that the predicate names."""
        ...

    def drop(self, index_id: QueryIndexId, expected: Expected) -> bool:
        """Begin to drop an index; whether there was one in an expected version."""
        ...

    def work(self) -> None:
        """Build what is to be built, drop what is to be dropped; wherever the last one who did so has stopped."""
        ...


class QueryIndexes:
    """The use cases of query indexes. An id that is none is unknown like any other: NotFoundError."""

    def __init__(self, store: QueryIndexStore) -> None:
        self._store = store

    def declare(self, new: NewQueryIndex) -> tuple[QueryIndexId, JsonEntity]:
        """Declare a path as indexed; a second time it changes nothing.

        Raises:
            ValidationError: the path cannot be read.
            RefusedError: it cannot have an index.
            ConflictError: there are too many.
        """
        keys = indexable_keys(parse_path(new.path))
        return self._store.declare(QueryIndex(QueryIndexId(str(uuid.uuid4())), new.entity, keys, new.kind))

    def get(self, index_id: str) -> JsonEntity:
        found = self._store.find(QueryIndexId(index_id)) if is_id(index_id) else None
        if found is None:
            raise NotFoundError("query index", index_id)
        return found

    def select(self, predicate: str, page: Page) -> JsonPage:
        """Those that ``predicate`` holds for, by id.

        Raises:
            ValidationError: the predicate or the page cannot be read.
        """
        check_key(page)
        return self._store.select(parse(predicate), page)

    def drop(self, index_id: str, expected: Expected = ANY) -> None:
        """Raises PreconditionFailedError: the index is not in an expected version."""
        if not is_id(index_id) or not self._store.drop(QueryIndexId(index_id), expected):
            expected.check(f"query index {index_id}", self.get(index_id).version)

    def work(self) -> None:
        """Build what is to be built, drop what is to be dropped. Safe at any time, at several places."""
        self._store.work()
