"""The endpoints of query indexes, and what builds them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from flask import Request, Response

from cfm_core.contracts.reply import Reply
from cfm_core.eventing.cloudevents import CloudEvent
from cfm_core.function import event_function, http_function
from cfm_core.tenancy.assembly import QUERY_INDEX_BUILDS, QUERY_INDEXES
from cfm_core.tenancy.query_indexes.service import QueryIndexes
from cfm_core.tenancy.query_indexes.v1alpha1 import NewQueryIndex, QueryIndexDocument
from cfm_core.web import answers
from cfm_core.web.auth import TM_READ, TM_WRITE
from cfm_core.web.conditional import expected
from cfm_core.web.paging import Asked

PATH = "/api/v1alpha1/query-indexes"
INDEX = PATH + "/{index_id}"


@http_function(
    "GET", PATH, scope=TM_READ, rights=["read queryIndex"], requires=[QUERY_INDEXES], lists=QueryIndexDocument
)
def list_query_indexes(request: Request, indexes: QueryIndexes, asked: Asked) -> Response:
    """A page of all query indexes, or of those that a predicate holds for."""
    return answers.page(request, asked, indexes.select(asked.predicate, asked.page))


@http_function(
    "POST",
    PATH,
    scope=TM_WRITE,
    rights=["create queryIndex"],
    requires=[QUERY_INDEXES],
    body=NewQueryIndex,
    gives={202: QueryIndexDocument},
)
def declare_query_index(request: Request, indexes: QueryIndexes, new: NewQueryIndex) -> Response:
    """Declare a path below the properties of an entity as indexed: ranges and beginnings over it become fast.

    The index is built without blocking writes, and used once it is ready. Repeated, it has the same effect.
    """
    index_id, index = indexes.declare(new)
    return answers.accepted(request, index.text, f"{PATH}/{index_id}", index.version)


@http_function(
    "GET", INDEX, scope=TM_READ, rights=["read queryIndex"], requires=[QUERY_INDEXES], gives={200: QueryIndexDocument}
)
def get_query_index(request: Request, indexes: QueryIndexes, index_id: str) -> Response:
    """One query index."""
    return answers.entity(request, indexes.get(index_id))


@http_function(
    "DELETE", INDEX, scope=TM_WRITE, rights=["delete queryIndex"], requires=[QUERY_INDEXES], gives={202: None}
)
def drop_query_index(request: Request, indexes: QueryIndexes, index_id: str) -> Response:
    """Drop a query index. Queries find the same without it."""
    indexes.drop(index_id, expected(request))
    return answers.accepted(request, "", f"{PATH}/{index_id}")


@event_function(every=timedelta(seconds=5), slots=1, timeout=timedelta(minutes=10), requires=[QUERY_INDEX_BUILDS])
def build_query_indexes(events: Sequence[CloudEvent[None]], indexes: QueryIndexes) -> Reply:
    """Build the indexes that have been declared, and drop those that are not wanted any more. Safe at several places.

    The database goes on with an index that takes longer than the timeout, and a later look finds it whole.
    """
    indexes.work()
    return Reply()
