"""Query indexes in Postgres: the declarations, and the indexes themselves.

An index is built and dropped ``CONCURRENTLY``, which blocks no writes, and cannot be part of a transaction. So a
declaration is kept first, and whoever is woken makes it true; one who dies in the middle leaves an index that is not
valid, which the next one drops and builds again.
"""

from __future__ import annotations

import logging

from cfm_core.entities import JsonEntity
from cfm_core.errors import CfmError, RecoverableError
from cfm_core.query import Column, Fields, IndexKind, JsonPage, Kind, Page, Predicate, index_expression, to_sql
from cfm_core.store import paging
from cfm_core.store.database import Database, Transaction
from cfm_core.store.paging import Listing
from cfm_core.store.sql import Queries
from cfm_core.tenancy.query_indexes.model import (
    MOST,
    ROOT,
    IndexedEntity,
    IndexState,
    QueryIndex,
    QueryIndexId,
    too_many,
)
from cfm_core.versions import Expected

log = logging.getLogger(__name__)

SQL = Queries("cfm_core.tenancy.query_indexes")

FIELDS = Fields(
    {
        "id": Column("t.id", Kind.UUID),
        "version": Column("t.version", Kind.INTEGER),
        "entity": Column("t.entity"),
        "path": Column("t.path"),
        "kind": Column("t.kind"),
        "state": Column("t.state"),
        "reason": Column("t.reason"),
    }
)

LISTING = Listing("tenant_manager.query_indexes", "tenant_manager.query_index_json(t)", "octet_length((t).path)")

_TABLES = {
    IndexedEntity.TENANTS: "tenant_manager.tenants",
    IndexedEntity.PARTICIPANT_PROFILES: "tenant_manager.participant_profiles",
}
_ONE_AT_A_TIME = "SELECT pg_try_advisory_lock(hashtext('tenant_manager.query_indexes'))"


class PostgresQueryIndexes:
    def __init__(self, database: Database) -> None:
        self._database = database

    def declare(self, index: QueryIndex) -> tuple[QueryIndexId, JsonEntity]:
        what = {"entity": index.entity, "keys": list(index.keys), "kind": index.kind}
        with self._database.transaction() as transaction:
            transaction.rows(SQL["lock"])
            if (row := transaction.row(SQL["find_declared"], **what)) is not None:
                known, version, text = row
                return QueryIndexId(known), JsonEntity(version, text)
            if transaction.value(SQL["count"]) >= MOST:
                raise too_many()
            ((version, text),) = transaction.rows(SQL["insert"], id=index.id, path=index.path, **what)
        return index.id, JsonEntity(version, text)

    def find(self, index_id: QueryIndexId) -> JsonEntity | None:
        row = self._database.row(SQL["find"], id=index_id)
        return JsonEntity(*row) if row else None

    def select(self, predicate: Predicate, page: Page) -> JsonPage:
        condition, params = to_sql(predicate, FIELDS)
        return paging.select(self._database, LISTING, page, condition, params)

    def drop(self, index_id: QueryIndexId, expected: Expected) -> bool:
        return self._database.row(SQL["drop"], id=index_id, versions=expected.as_array) is not None

    def work(self) -> None:
        if not self._database.value(SQL["open"]):
            return
        with self._database.maintenance() as session:
            # Held until the session ends, and with it if its holder dies.
            if not session.value(_ONE_AT_A_TIME):
                return
            while (row := session.row(SQL["next"])) is not None:
                id_, version, entity, keys, kind, state = row
                index = QueryIndex(
                    id_, IndexedEntity(entity), tuple(keys), IndexKind(kind), IndexState(state), version=version
                )
                if index.state is IndexState.DROPPING:
                    session.simple(f"DROP INDEX CONCURRENTLY IF EXISTS tenant_manager.{_name(index)}")
                    session.rows(SQL["dropped"], id=index.id)
                else:
                    _build(session, index)


def _build(session: Transaction, index: QueryIndex) -> None:
    state, reason = IndexState.READY, ""
    try:
        if not session.value(SQL["is_valid"], name=_name(index)):
            session.simple(f"DROP INDEX CONCURRENTLY IF EXISTS tenant_manager.{_name(index)}")
            session.simple(definition(index))
            # What the planner has to know of the values.
            session.simple(f"ANALYZE {_TABLES[index.entity]}")
    except RecoverableError:
        raise
    except CfmError as error:
        log.exception("the query index %s cannot be built", index.id)
        # What is left of it would be kept up to date for nothing.
        session.simple(f"DROP INDEX CONCURRENTLY IF EXISTS tenant_manager.{_name(index)}")
        state, reason = IndexState.FAILED, str(error)
    session.rows(SQL["built"], id=index.id, state=state, reason=reason)


def definition(index: QueryIndex) -> str:
    """The statement that builds an index. Its keys are quoted literals, and nothing else of a request is in it."""
    keys = ", ".join("'" + key.replace("'", "''") + "'" for key in index.keys)
    expression = index_expression(index.kind, ROOT, f"ARRAY[{keys}]::text[]")
    return f"CREATE INDEX CONCURRENTLY {_name(index)} ON {_TABLES[index.entity]} (({expression}))"


def _name(index: QueryIndex) -> str:
    """A name that a parsed UUID makes, so that it needs no quotes."""
    return f"query_index_{index.id.replace('-', '')}"
