"""What the database masks, compared with what the code does: two texts of one rule."""

from __future__ import annotations

import itertools
import json

import pytest

from cfm_core.audit.model import Kind, Subject
from cfm_core.audit.store import note
from cfm_core.masking import is_secret, masked
from cfm_core.store.database import Database

_PARTS = (
    "password",
    "Passphrase",
    "pwd",
    "secrets",
    "TOKEN",
    "api",
    "Api",
    "KEY",
    "keys",
    "access",
    "private",
    "x",
    "X",
    "1",
    "é",
)
_BETWEEN = ("", "-", "_", ".", "9", "\n", "\x01", '"', "\\")


@pytest.mark.parametrize("ensure_ascii", [True, False])
def test_a_document_that_is_not_taken_apart_holds_no_secret(database: Database, ensure_ascii: bool) -> None:
    keys = [f"{first}{between}{second}" for first, between, second in itertools.product(_PARTS, _BETWEEN, _PARTS)]
    documents = [json.dumps({"a": [{key: "canary"}]}, ensure_ascii=ensure_ascii) for key in keys]
    rows = database.rows(
        "SELECT audit.masked_text(d) FROM unnest(:documents::text[]) AS documents (d)", documents=documents
    )
    assert [key for key, (text,) in zip(keys, rows, strict=True) if is_secret(key) and "canary" in text] == []
    assert any("canary" in text for (text,) in rows)


def test_the_same_keys_are_those_of_secrets(database: Database) -> None:
    keys = [
        f"{first}{between}{second}{after}"
        for first, between, second, after in itertools.product(_PARTS, _BETWEEN, _PARTS, ("", "y", "Y", "-y"))
    ]
    rows = database.rows("SELECT k, audit.is_secret(k) FROM unnest(:keys::text[]) AS keys (k)", keys=keys)
    told = dict(map(tuple, rows))
    # The database may take one too many for a secret, and none too few.
    assert [key for key in keys if is_secret(key) and not told[key]] == []
    excess = [key for key in keys if told[key] and not is_secret(key)]
    assert len(excess) * 100 < len(keys), excess[:20]


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"a": 1, "b": [None, True, 1.5, "token"]},
        {"password": "p", "passwords": ["p"], "token": 0, "secret": {"a": 1}, "apiKey": 1.5},
        {"password": "", "token": None, "secret": False, "pwd": [], "privateKey": {}},
        {"password": "vault:a/b#c", "x": {"y": [{"db.password": "p", "tokenizer": "t", "key": "k"}]}},
    ],
)
def test_the_same_values_are_masked(database: Database, document: object) -> None:
    shown = database.value("SELECT audit.masked_text(:document)", document=json.dumps(document))
    assert json.loads(shown) == masked(document)


def test_what_is_too_deep_to_look_into_is_masked_as_a_whole(database: Database) -> None:
    deep = '{"a":' * 500 + '{"password":"p"}' + "}" * 500
    with database.transaction() as tx:
        tx.simple("SET LOCAL max_stack_depth = '100kB'")
        assert tx.value("SELECT audit.masked_text(:document)", document=deep) == '"***"'


def test_what_is_stored_is_masked_already(database: Database) -> None:
    documents = ({"password": "canary"}, {"a": [{"token": "canary"}]})
    subject = Subject(Kind.SCHEDULES, "s")
    note(database, subject, "change", "", "", actor="ann", reason="", request_id="r", documents=documents)
    stored = database.value("SELECT w::text FROM audit.waiting w")
    assert "password" in stored
    assert "canary" not in stored
