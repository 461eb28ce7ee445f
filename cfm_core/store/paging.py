"""One page of a table that a predicate holds for, made by Postgres in one statement.

Rows are ordered by their key. A page ends at its limit, or when its entries together would become too large to be held in
memory; then it says that more follow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cfm_core.query.page import JsonPage, Page
from cfm_core.store.database import Database
from cfm_core.store.sql import Queries

SQL = Queries("cfm_core.store")

LARGEST = 12 * 1024 * 1024
"""Bytes of stored JSON on one page, about."""
EVERYTHING = "true"
"""The condition of a list without a predicate."""
FEW = 5_000
"""So many rows, or fewer, are sorted by their keys; more are read in the order of the list, where the page is soon full."""


@dataclass(frozen=True, slots=True)
class Listing:
    """How one kind of entity is listed. All are fixed SQL, over a row named ``t``."""

    table: str
    """Such as ``tenant_manager.tenants``."""
    json: str
    """The entry as the API shows it, such as ``tenant_manager.tenant_json(t)``."""
    bytes: str
    """The size of what the row holds, such as ``t.bytes``."""
    key: str = "id"
    """The column that orders them, unique among those that are listed."""
    key_type: str = "uuid"
    only: str = "true"
    """Which rows of the table are listed, such as ``t.is_current``."""
    one_by_one: bool = False
    """Whether rows are fetched each by its key: of a view over several tables, a join would read all."""


def select(database: Database, listing: Listing, page: Page, condition: str, params: dict[str, Any]) -> JsonPage:
    """The page of the rows for which ``condition``, fixed text with parameters, holds."""
    sql, cursor = statement(listing, page, condition)
    ((entries, total, last, size, more),) = database.query(sql, **params, **cursor)
    return JsonPage(entries, total, size, last or "", more)


def statement(listing: Listing, page: Page, condition: str) -> tuple[str, dict[str, Any]]:
    """The statement that gives a page, and its parameters beside those of ``condition``."""
    skips = bool(page.offset) and not page.after
    rows = SQL["skipping" if skips else "in_order"]
    known, total = "", SQL["count"]
    if condition != EVERYTHING:
        rows = SQL["of_few"].replace("<<many>>", rows)
        known, total = f"WITH {SQL['few']}\n", SQL["count_of_few"]
    sql = SQL["page"]
    for name, part in (
        # The first may hold the others' places.
        ("known", known),
        ("total", f"({total})" if page.counted else "NULL::bigint"),
        ("rows", rows),
        ("fetched", SQL["one_by_one" if listing.one_by_one else "joined"].rstrip(";")),
        ("condition", condition),
        ("after", f"t.{listing.key} > :page_after::{listing.key_type}" if page.after else "true"),
        ("offset", "OFFSET :page_offset::bigint" if skips else ""),
        ("most", str(FEW)),
        ("only", listing.only),
        ("table", listing.table),
        ("json", listing.json),
        ("bytes", listing.bytes),
        ("key", listing.key),
    ):
        sql = sql.replace(f"<<{name}>>", part)
    place: dict[str, Any] = {"page_after": page.after} if page.after else {"page_offset": page.offset} if skips else {}
    return sql, {"page_limit": page.limit, "page_bytes": LARGEST, **place}
