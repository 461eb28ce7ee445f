"""Postgres and memory give one meaning to a predicate."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cfm_core.query import DeclaredPath, IndexKind, holds, parse, to_condition, to_sql, to_test
from cfm_core.query.instants import instant_of
from cfm_core.store.database import Database, Transaction
from tests.support.predicates import FIELDS, TIMES, UUIDS, questions, written

_TABLE = """
CREATE TABLE entities (
  n integer, id uuid, version integer, name text, error boolean, at timestamptz,
  properties jsonb, roles jsonb, vpas jsonb, ids jsonb);
CREATE INDEX ON entities USING gin
  (properties jsonb_path_ops, roles jsonb_path_ops, vpas jsonb_path_ops, ids jsonb_path_ops);
"""
_FILL = "INSERT INTO entities SELECT * FROM jsonb_populate_recordset(NULL::entities, :entities::jsonb)"


@pytest.fixture(scope="module")
def store(shared: Database) -> Iterator[Database]:
    for statement in filter(str.strip, _TABLE.split(";")):
        shared.rows(statement)
    yield shared
    shared.rows("DROP TABLE entities")


def fill(transaction: Transaction, documents: Sequence[dict[str, Any]]) -> None:
    transaction.rows("DELETE FROM entities")
    numbered = [{"n": n, **document} for n, document in enumerate(documents)]
    transaction.rows(_FILL, entities=json.dumps(numbered, default=lambda at: at.isoformat()))


def in_postgres(
    transaction: Transaction, texts: Sequence[str], declared: Collection[DeclaredPath] = ()
) -> list[list[int]]:
    """The numbers of the entities that satisfy each predicate; all of them asked at once."""
    selects: list[str] = []
    params: dict[str, Any] = {}
    for number, text in enumerate(texts):
        condition, values = to_sql(parse(text), FIELDS, declared)
        condition = re.sub(r":q(\d+)", rf":p{number}_\1", condition)
        params |= {f"p{number}_{name[1:]}": value for name, value in values.items()}
        selects.append(f"ARRAY(SELECT n FROM entities t WHERE {condition} ORDER BY n)")  # noqa: S608
    (row,) = transaction.rows(f"SELECT {', '.join(selects)}", **params)
    return row


def in_memory(documents: Sequence[dict[str, Any]], text: str) -> list[int]:
    test = to_test(parse(text), FIELDS)
    return [n for n, document in enumerate(documents) if test(document)]


@pytest.mark.parametrize("way", ["enable_seqscan", "enable_bitmapscan"])
@settings(max_examples=60, derandomize=True, deadline=None)
@given(question=questions())
def test_both_find_the_same_entities(
    store: Database, way: str, question: tuple[list[dict[str, Any]], list[str]]
) -> None:
    documents, texts = question
    with store.transaction() as transaction:
        transaction.rows(f"SET LOCAL {way} = off")
        fill(transaction, documents)
        found = in_postgres(transaction, texts)
    assert dict(zip(texts, found, strict=True)) == {text: in_memory(documents, text) for text in texts}


@settings(max_examples=60, derandomize=True, deadline=None)
@given(question=questions())
def test_what_indexes_are_told_changes_nothing(
    store: Database, question: tuple[list[dict[str, Any]], list[str]]
) -> None:
    documents, texts = question
    declared = [
        DeclaredPath("properties", keys, kind)
        for keys in (("a",), ("b",), ("a", "a"), ("a", "b"), ("c d",))
        for kind in IndexKind
    ]
    with store.transaction() as transaction:
        fill(transaction, documents)
        found = in_postgres(transaction, texts, declared)
    assert dict(zip(texts, found, strict=True)) == {text: in_memory(documents, text) for text in texts}


@settings(max_examples=60, derandomize=True, deadline=None)
@given(question=questions())
def test_both_say_the_same_of_a_condition(shared: Database, question: tuple[list[dict[str, Any]], list[str]]) -> None:
    documents = [{key: value for key, value in one.items() if key != "at"} for one in question[0]]
    predicates = [parse(text) for text in question[1]]
    rows = shared.rows(
        "SELECT query.holds(p.value, d.value) FROM jsonb_array_elements(:predicates::jsonb) WITH ORDINALITY p (value, n),"
        " jsonb_array_elements(:documents::jsonb) WITH ORDINALITY d (value, n) ORDER BY p.n, d.n",
        predicates=json.dumps([to_condition(one) for one in predicates]),
        documents=json.dumps(documents),
    )
    assert [held for (held,) in rows] == [holds(one, document) for one in predicates for document in documents]


def test_both_compare_every_timestamp_with_every_other(store: Database) -> None:
    blank = {"id": UUIDS[0], "version": 0, "name": None, "error": None, "at": None, "roles": {}, "vpas": [], "ids": []}
    documents = [{**blank, "properties": {"a": time}} for time in TIMES]
    texts = [f"properties.a {order} {written(time)}" for time in TIMES for order in ("<", "<=", ">", ">=")]
    with store.transaction() as transaction:
        fill(transaction, documents)
        found = in_postgres(transaction, texts)
    assert dict(zip(texts, found, strict=True)) == {text: in_memory(documents, text) for text in texts}


near_timestamps = st.from_regex(
    r"[0-9]{4}-(0[0-9]|1[0-3])-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9](\.[0-9]{1,9})?(Z|[+-][0-2][0-9]:[0-6][0-9])",
    fullmatch=True,
)


@settings(max_examples=100, derandomize=True, deadline=None)
@given(texts=st.lists(near_timestamps | st.sampled_from(TIMES) | st.text(max_size=5), min_size=1, max_size=50))
def test_both_read_a_timestamp_alike(shared: Database, texts: list[str]) -> None:
    texts = [text for text in texts if "\0" not in text]
    rows = shared.rows(
        "SELECT query.instant_of(text) FROM unnest(:texts::text[]) WITH ORDINALITY AS u(text, n) ORDER BY n",
        texts=texts,
    )
    assert [at for (at,) in rows] == [instant_of(text) for text in texts]
