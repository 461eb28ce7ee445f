"""The audit trail in Postgres. Triggers on the entities' tables write most of it, in the transaction of the change."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from cfm_core.access.conditions import within
from cfm_core.access.model import ALL, Bounds
from cfm_core.audit.fields import FIELDS
from cfm_core.audit.model import EVERYBODY, Manager, Subject
from cfm_core.audit.service import Erasure, Seal
from cfm_core.entities import json_of
from cfm_core.query import JsonPage, Page, Predicate, to_sql
from cfm_core.store import paging
from cfm_core.store.conditions import both
from cfm_core.store.database import Database, Transaction
from cfm_core.store.paging import Listing
from cfm_core.store.sql import Queries

SQL = Queries("cfm_core.audit")

Document = Mapping[str, Any]

LISTING = Listing(
    "audit.trail",
    "audit.entry_json(t)",
    "1024 + coalesce(octet_length((t).reason), 0) + coalesce(octet_length((t).document_before::text), 0)"
    " + coalesce(octet_length((t).document_after::text), 0)",
    key_type="bigint",
    one_by_one=True,
)


def note(
    where: Database | Transaction,
    subject: Subject,
    action: str,
    before: str,
    after: str,
    *,
    actor: str,
    reason: str,
    request_id: str,
    documents: tuple[Document | None, Document | None] = (None, None),
) -> None:
    """Note what was done to one of the Provision Manager's entities, by whom, and from which state to which.

    What the Tenant Manager does is noted by the database, with the change itself: nobody can note it in its name.

    Args:
        documents: before and after.
    """
    document_before, document_after = documents
    where.rows(
        SQL["note"],
        action=action,
        kind=subject.kind,
        entity_id=subject.entity_id,
        part=subject.part,
        tenant_id=subject.belongs_to.tenant_id,
        participant_profile_id=subject.belongs_to.participant_profile_id,
        before=before,
        after=after,
        actor=actor,
        reason=reason,
        request_id=request_id,
        document_before=document_before and json_of(document_before),
        document_after=document_after and json_of(document_after),
    )


class PostgresAudit:
    """See ``AuditStore``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def select(self, predicate: Predicate, page: Page, managers: Collection[Manager], bounds: Bounds = ALL) -> JsonPage:
        of_them = within(bounds, "t.tenant_id", "t.participant_profile_id")
        condition, params = both(of_them, to_sql(predicate, FIELDS))
        if set(managers) != EVERYBODY:
            condition = f"t.manager = ANY (:managers::text[]) AND ({condition})"
            params = params | {"managers": sorted(managers)}
        return paging.select(self._database, LISTING, page, condition, params)

    def erase_content(self, subject: Subject, erasure: Erasure) -> int:
        return self._erase(erasure, kind=subject.kind, entity_id=subject.entity_id)

    def erase_actor(self, actor: str, issuer: str, erasure: Erasure) -> int:
        return self._erase(erasure, erased_actor=actor, erased_issuer=issuer)

    def seal(self, most: int) -> Seal | None:
        row = self._database.row(SQL["seal"], most=most)
        return Seal(*row) if row else None

    def _erase(self, erasure: Erasure, **what: Any) -> int:
        names: dict[str, Any] = {"kind": None, "entity_id": None, "erased_actor": None, "erased_issuer": ""}
        count: int = self._database.value(
            SQL["erase"],
            actor=erasure.actor,
            reason=erasure.reason,
            request_id=erasure.request_id,
            **names | what,
        )
        return count
