"""Query indexes as API version v1alpha1 reads and shows them."""

from __future__ import annotations

from typing import Any

from cfm_core.contracts.documents import Document
from cfm_core.query import IndexKind
from cfm_core.tenancy.query_indexes.model import IndexedEntity, IndexState, QueryIndex


class NewQueryIndex(Document):
    """``path`` is written as in a predicate."""

    entity: IndexedEntity
    path: str
    kind: IndexKind


class QueryIndexDocument(Document):
    """A query index as it is shown; ``reason`` says why it has failed, and is left out where it has not."""

    id: str
    version: int
    entity: IndexedEntity
    path: str
    kind: IndexKind
    state: IndexState
    reason: str = ""


def shown(index: QueryIndex) -> dict[str, Any]:
    """``index`` as the API shows it; the database's ``query_index_json`` gives the same."""
    document: dict[str, Any] = {
        "id": index.id,
        "version": index.version,
        "entity": index.entity,
        "path": index.path,
        "kind": index.kind,
        "state": index.state,
    }
    return document | ({"reason": index.reason} if index.reason else {})
