"""What a verification tells of a trail that somebody has tampered with who may do everything with the database."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from cfm_core.audit.evidence import snapshot
from cfm_core.audit.model import Kind, Subject
from cfm_core.audit.service import Audit, Erasure
from cfm_core.audit.store import PostgresAudit, note
from cfm_core.audit.verification import Verification, verify
from cfm_core.store.database import Database
from tests.support.audit import tamper

ODD = 'a "b" \\ / \n \x01 \x7f ü 漢 🙂 \u2028'
ERASURE = Erasure(actor="eve", reason="asked for", request_id="r")


@pytest.fixture
def audit(database: Database) -> Audit:
    """A trail of nine entries: three seals of two, and three entries more in a fourth."""
    audit = PostgresAudit(database)
    for number in range(1, 10):
        note(
            *(database, Subject(Kind.SCHEDULES, f"s{number}", ODD), "replace", "active", "paused"),
            actor=f"ann {ODD}",
            reason=ODD,
            request_id=f"r{number}",
            documents=({"id": number, "odd": ODD}, {"id": number, "n": [1.5, None, {"x": True}]}),
        )
    for most in (2, 2, 2, 9):
        audit.seal(most)
    return Audit(audit)


@pytest.fixture
def verified(database_url: str) -> Callable[..., Verification]:
    def verified(anchor: str = "") -> Verification:
        with snapshot(database_url) as evidence:
            return verify(evidence, anchor)

    return verified


def test_what_nobody_has_touched_is_found_as_it_was_sealed(audit: Audit, verified: Callable[..., Verification]) -> None:
    done = verified()
    assert (done.findings, done.seals, done.entries, done.waiting) == ([], 4, 9, 0)
    assert done.last is not None
    assert verified(str(done.last)).findings == []


def test_an_empty_trail_holds(database: Database, verified: Callable[..., Verification]) -> None:
    assert verified() == Verification()


@pytest.mark.parametrize(
    ("statement", "findings"),
    [
        ("UPDATE audit.entry SET after = 'deleted' WHERE id = 3", ["altered: entry 3 of seal 2"]),
        ("UPDATE audit.entry SET at = at - interval '1 us' WHERE id = 3", ["altered: entry 3 of seal 2"]),
        (
            "UPDATE audit.payload SET actor = 'bob' WHERE entry_id = 3",
            ["altered: the payload of entry 3: who has asked for it"],
        ),
        (
            "UPDATE audit.payload SET address = '10.0.0.1' WHERE entry_id = 9",
            ["altered: the payload of entry 9: who has asked for it"],
        ),
        (
            "UPDATE audit.payload SET document_after = '{}' WHERE entry_id = 3",
            ["altered: the payload of entry 3: reason and documents"],
        ),
        ("DELETE FROM audit.entry WHERE id = 3", ["removed: entry 3 of seal 2"]),
        ("DELETE FROM audit.payload WHERE entry_id = 3", ["removed: the payload of entry 3"]),
        ("DELETE FROM audit.sealed WHERE entry_id = 3", None),
        (
            "WITH e AS (DELETE FROM audit.entry WHERE id = 3), p AS (DELETE FROM audit.payload WHERE entry_id = 3)"
            " DELETE FROM audit.sealed WHERE entry_id = 3",
            ["removed: seal 2 covers 2 entries, and there are 1"],
        ),
        ("DELETE FROM audit.seal WHERE number = 2", ["removed: seal 2", "removed: seal 2, of which there are entries"]),
        (
            "DELETE FROM audit.seal WHERE number = 4",
            ["removed: seal 4, of which there are entries"],
        ),
        (
            "INSERT INTO audit.entry (id, at, manager, action, kind, entity_id, part, before, after, request_id)"
            " SELECT 100, at, manager, action, kind, entity_id, part, before, after, request_id FROM audit.entry WHERE id = 1",
            ["inserted: entry 100, which no seal covers"],
        ),
        (
            "WITH e AS (INSERT INTO audit.entry (id, at, manager, action, kind, entity_id, part, before, after, request_id)"
            " SELECT 100, at, manager, action, kind, entity_id, part, before, after, request_id FROM audit.entry WHERE id = 1)"
            " INSERT INTO audit.sealed SELECT 100, 1, who, what, digest FROM audit.sealed WHERE entry_id = 1",
            [
                "inserted: seal 1 covers 2 entries, and there are 3",
                "altered: entry 100 of seal 1",
                "removed: the payload of entry 100",
            ],
        ),
        (
            "UPDATE audit.sealed s SET digest = o.digest FROM audit.sealed o"
            " WHERE s.entry_id IN (3, 4) AND o.entry_id = 7 - s.entry_id",
            None,
        ),
        ("UPDATE audit.seal SET entries = 3 WHERE number = 2", ["removed: seal 2 covers 3 entries, and there are 2"]),
        (
            "UPDATE audit.seal SET previous = (SELECT previous FROM audit.seal WHERE number = 2) WHERE number = 3",
            [
                "reordered: seal 3 was not made behind seal 2, but behind one before",
                "altered: seal 3, or the digests that it covers",
            ],
        ),
        (
            "UPDATE audit.sealed s SET digest = sha256('x') WHERE entry_id = 3",
            ["altered: seal 2, or the digests that it covers", "altered: entry 3 of seal 2"],
        ),
    ],
)
def test_tampering_is_told(
    audit: Audit,
    database: Database,
    verified: Callable[..., Verification],
    statement: str,
    findings: list[str] | None,
) -> None:
    tamper(database, statement)
    found = [str(one) for one in verified().findings]
    assert found
    assert findings is None or found == findings


def test_entries_that_have_changed_places_are_reordered(
    audit: Audit, database: Database, verified: Callable[..., Verification]
) -> None:
    for table, column in (("entry", "id"), ("payload", "entry_id")):
        tamper(
            database,
            f"UPDATE audit.{table} SET {column} = -{column} WHERE {column} IN (7, 9)",  # noqa: S608
            f"UPDATE audit.{table} SET {column} = 16 + {column} WHERE {column} < 0",  # noqa: S608
        )
    assert [str(one) for one in verified().findings] == [
        "reordered: entry 7 of seal 4: it was entry 9",
        "reordered: entry 9 of seal 4: it was entry 7",
    ]


def test_what_has_lost_its_end_is_told_by_a_seal_that_was_written_down(
    audit: Audit, database: Database, verified: Callable[..., Verification]
) -> None:
    last = str(verified().last)
    tamper(
        database,
        "DELETE FROM audit.entry WHERE id > 6",
        "DELETE FROM audit.payload WHERE entry_id > 6",
        "DELETE FROM audit.sealed WHERE entry_id > 6",
        "DELETE FROM audit.seal WHERE number > 3",
    )
    assert verified().findings == []
    assert [one.tampering for one in verified(last).findings] == ["removed"]


def test_what_was_sealed_anew_is_told_by_a_seal_that_was_written_down(
    audit: Audit, database: Database, verified: Callable[..., Verification]
) -> None:
    last = str(verified().last)
    tamper(
        database,
        "INSERT INTO audit.waiting (id, manager, action, kind, entity_id, part, before, after, request_id)"
        " SELECT id, manager, action, kind, entity_id, part, before, 'deleted', request_id FROM audit.entry WHERE id > 6",
        "DELETE FROM audit.entry WHERE id > 6",
        "DELETE FROM audit.payload WHERE entry_id > 6",
        "DELETE FROM audit.sealed WHERE seal = 4",
        "DELETE FROM audit.seal WHERE number = 4",
    )
    audit.seal()
    assert verified().findings == []
    assert [one.tampering for one in verified(last).findings] == ["altered"]


def test_what_waits_for_a_second_seal_is_told(
    audit: Audit, database: Database, verified: Callable[..., Verification]
) -> None:
    tamper(
        database,
        "INSERT INTO audit.waiting (id, manager, action, kind, entity_id, part, before, after, request_id)"
        " SELECT id, manager, action, kind, entity_id, part, before, 'deleted', request_id FROM audit.entry WHERE id = 9",
    )
    assert [str(one) for one in verified().findings] == [
        "inserted: entry 9, which is sealed and waits for it once more"
    ]


def test_a_trail_still_holds_after_personal_data_was_erased(
    audit: Audit, database: Database, verified: Callable[..., Verification]
) -> None:
    assert audit.erase_content(Subject(Kind.SCHEDULES, "s3"), ERASURE) == 1
    assert audit.erase_actor(f"ann {ODD}", ERASURE) == 9
    assert (verified().findings, verified().waiting) == ([], 2)
    audit.seal()
    assert verified().findings == []
    stored = json.dumps([str(row) for row in database.rows("SELECT p::text FROM audit.payload p")])
    assert "ann" not in stored


def test_what_is_erased_before_it_is_sealed_is_sealed_without_it(
    audit: Audit, database: Database, verified: Callable[..., Verification]
) -> None:
    for number in (3, 4):
        note(
            *(database, Subject(Kind.SCHEDULES, f"s{number}"), "delete", "paused", "deleted"),
            actor="bob",
            reason="canary",
            request_id="r",
            documents=({"id": "canary"}, None),
        )
    # Once what is sealed already and what is not, then somebody who is in neither half of the trail but the second.
    assert audit.erase_content(Subject(Kind.SCHEDULES, "s3"), ERASURE) == 2
    assert audit.erase_content(Subject(Kind.SCHEDULES, "s4"), ERASURE) == 2
    assert audit.erase_actor("bob", ERASURE) == 2
    assert (verified().findings, verified().waiting) == ([], 5)
    audit.seal()
    assert (verified().findings, verified().waiting) == ([], 0)
    rows = database.rows("SELECT p::text FROM audit.payload p UNION ALL SELECT w::text FROM audit.waiting w")
    assert "canary" not in str(rows)
    assert "bob" not in str(rows)


def test_who_empties_without_saying_so_is_told(
    audit: Audit, database: Database, verified: Callable[..., Verification]
) -> None:
    audit.erase_content(Subject(Kind.SCHEDULES, "s3"), ERASURE)
    emptied = "SET what_salt = NULL, reason = NULL, document_before = NULL, document_after = NULL"
    for by in (1, 10, 99):
        with database.transaction() as tx:
            tx.rows(f"UPDATE audit.payload {emptied}, what_erased_by = {by} WHERE entry_id = 4")
        entries = 2 if by == 10 else 1
        assert [str(one) for one in verified().findings] == [
            f"altered: {entries} entries were emptied in the name of entry {by}, which does not tell of that"
        ]
        tamper(
            database,
            "UPDATE audit.payload p SET what_salt = gen_random_uuid(), what_erased_by = NULL WHERE entry_id = 4",
        )
