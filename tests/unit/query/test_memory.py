"""What predicates mean, row by row, in memory; that Postgres says the same is tested with a database.

Source: CFM wire contract, sections 10.2 to 10.5.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from cfm_core.errors import ValidationError
from cfm_core.query import Column, Fields, Json, JsonArray, Kind, parse, to_test

FIELDS = Fields(
    {
        "id": Column("t.id", Kind.UUID),
        "state": Column("t.state", Kind.INTEGER),
        "identifier": Column("t.identifier"),
        "error": Column("t.error", Kind.BOOLEAN),
        "createdTimestamp": Column("t.created_at", Kind.TIMESTAMP),
        "properties": Json("t.properties"),
        "participantRoles": Json("t.participant_roles"),
        "vpas": JsonArray("t.vpas"),
        "dataspaceProfileIds": JsonArray("t.dataspace_profile_ids"),
    }
)
ID = "0ffab9ba-b53e-45c1-83b6-2d60c5dd7efd"
ENTITY: dict[str, Any] = {
    "id": ID,
    "state": 2,
    "identifier": "did:web:foo.com",
    "error": False,
    "createdTimestamp": datetime(2026, 11, 23, 7, 7, 23, 500_000, tzinfo=UTC),
    "properties": {
        "group": "suppliers",
        "size": 5,
        "share": 2.5,
        "large": 10**22,
        "yes": True,
        "none": None,
        "empty": [],
        "nulls": [None],
        "tags": ["red", "blue", 7],
        "nested": [["deep"]],
        "people": [{"name": "Ada", "age": 36}, {"name": "Max"}, {"name": ["Eve", "Eva"]}],
        "cfm.vpa.state": {"region": {"code": "eu-1"}},
        "since": "2026-11-23T08:00:00+01:00",
        "note": "it's 100% true",
        "5": "five",
        "object": {"a": 1},
    },
    "participantRoles": {ID: ["oem", "tier1"], "other": []},
    "vpas": [
        {"type": "cfm.connector", "state": "active", "version": 1, "properties": {"k": "v"}},
        {"type": "cfm.issuer", "state": "error", "version": 2},
    ],
    "dataspaceProfileIds": ["d1", "d2"],
}


def holds(text: str) -> bool:
    return to_test(parse(text), FIELDS)(ENTITY)


@pytest.mark.parametrize(
    "text",
    [
        # What both stores of the reference agree about.
        "properties.group = 'suppliers'",
        "properties.group != 'customers'",
        "properties.group IN ('a', 'suppliers')",
        "properties.group NOT IN ('a', 'b')",
        "properties.yes = true",
        "properties.yes != false",
        "properties.size = 5",
        "properties.size > 4 AND properties.size <= 5",
        "properties.absent IS NULL",
        "properties.group IS NOT NULL",
        "vpas.type = 'cfm.issuer'",
        "vpas.type != 'cfm.issuer'",
        "vpas.state IN ('error', 'pending')",
        "vpas.properties.k = 'v'",
        "dataspaceProfileIds = 'd2'",
        "error = false",
        "identifier = 'did:web:foo.com'",
        f"id = '{ID}'",
        "state = 2",
        "createdTimestamp > '2026-11-22'",
        "createdTimestamp < '2026-11-24T00:00:00Z'",
        "CREATEDTIMESTAMP > '2026-11-22T23:59:59'",
        # Numbers by value, types strictly.
        "properties.size = 5.0",
        "properties.share = 2.5",
        "properties.large = 1e22",
        "properties.size != '5'",
        "state = 2.0",
        "state != 'x'",
        # Paths and arrays.
        "properties.`cfm.vpa.state`.region.code = 'eu-1'",
        "properties.`5` = 'five'",
        "properties.tags = 'blue'",
        "properties.tags = 7",
        "properties.tags != 'blue'",
        "properties.people.name = 'Ada'",
        "properties.people.name = 'Eva'",
        "properties.people.age < 40",
        "properties.nested != 'deep'",
        f"participantRoles.`{ID}` = 'oem'",
        # Presence.
        "properties.none IS NULL",
        "properties.empty IS NOT NULL",
        "properties.nulls IS NOT NULL",
        "properties.object IS NOT NULL",
        "properties.people.age IS NOT NULL",
        "vpas.absent IS NULL",
        # Order.
        "properties.group > 'supplier'",
        "properties.group < 'supplierz'",
        "properties.since = '2026-11-23T08:00:00+01:00'",
        "properties.since >= '2026-11-23T07:00:00Z'",
        "properties.since <= '2026-11-23T07:00:00Z'",
        "properties.since < '2026-11-23T07:00:00.000001Z'",
        "properties.since > '2026-11-22'",
        "vpas.version > 1",
        "createdTimestamp = '2026-11-23T08:07:23.5+01:00'",
        "createdTimestamp >= '2026-11-23T07:07:23.5'",
        # Texts.
        "identifier LIKE 'did:web:%'",
        "identifier LIKE '%foo_com'",
        "identifier NOT LIKE 'did:key:%'",
        "identifier STARTS_WITH 'did:'",
        "identifier ENDS_WITH '.com'",
        "identifier CONTAINS 'web'",
        "properties.note LIKE '%100\\%%'",
        "properties.note CONTAINS 'it''s'",
        "properties.note ENDS_WITH ''",
        "properties.tags CONTAINS 'red'",
        "properties.tags CONTAINS 7",
        "properties.tags STARTS_WITH 'bl'",
        "properties.people.name CONTAINS 'Eve'",
        "properties.people.name CONTAINS 'da'",
        "dataspaceProfileIds CONTAINS 'd1'",
        "vpas.type CONTAINS 'connector'",
        "properties.size NOT LIKE '5'",
        # Logic.
        "NOT properties.absent = 'x'",
        "NOT properties.absent != 'x'",
        "true AND NOT false",
        "vpas.type = 'cfm.connector' AND vpas.state = 'error'",
    ],
)
def test_this_holds(text: str) -> None:
    assert holds(text)
    assert not holds(f"NOT ({text})")


@pytest.mark.parametrize(
    "text",
    [
        "false",
        # What is absent, or null, satisfies nothing.
        "properties.absent = 'x'",
        "properties.absent != 'x'",
        "properties.absent NOT IN ('x')",
        "properties.absent NOT LIKE 'x'",
        "properties.none = 'x'",
        "properties.none != 'x'",
        "properties.nulls != 'x'",
        "properties.empty != 'x'",
        "properties.none IS NOT NULL",
        "properties.nulls = NULL",
        "properties.group != NULL",
        "properties.group NOT IN ('x', NULL)",
        # Types are strict.
        "properties.size = '5'",
        "properties.yes = 'true'",
        "properties.yes = 1",
        "state = '2'",
        "error = 0",
        "properties.object = 'a'",
        # One level of an array for each step, and one at the end.
        "properties.nested = 'deep'",
        "properties.nested CONTAINS 'deep'",
        "properties.tags.red IS NOT NULL",
        "properties.group.x IS NOT NULL",
        # Orders of other types.
        "properties.group > 5",
        "properties.size > '4'",
        "properties.yes > 0",
        "properties.yes > false",
        "properties.tags > 7",
        "properties.group < '2026-11-23T07:00:00Z'",
        "properties.group > '2026-11-23T07:00:00Z'",
        "state < '3'",
        "error < true",
        "createdTimestamp < 'yesterday'",
        "createdTimestamp = 'yesterday'",
        "createdTimestamp > '2026-11-24'",
        # Texts.
        "identifier LIKE 'DID:%'",
        "identifier LIKE 'web'",
        "identifier NOT LIKE '%web%'",
        "properties.note LIKE '100\\%'",
        "properties.size LIKE '5'",
        "properties.size CONTAINS '5'",
        "properties.size CONTAINS 5",
        "state STARTS_WITH '2'",
        "createdTimestamp CONTAINS '2026'",
        "properties.tags CONTAINS 'ed'",
        "properties.object CONTAINS 'a'",
        f"participantRoles.`{ID}` CONTAINS 'em'",
        "participantRoles.other = 'oem'",
    ],
)
def test_this_does_not_hold(text: str) -> None:
    assert not holds(text)
    assert holds(f"NOT ({text})")


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("state = 1 AND ctid = 'x'", "position 15: there is no field 'ctid'; there are id, state, identifier, "),
        ("propertys.a = 1", "position 1: there is no field 'propertys' (did you mean properties?); there are id, "),
        ("identifier.x = 1", "position 1: the field 'identifier' has no fields of its own"),
        ("properties = 'x'", "position 1: the field 'properties' is an object: name a key of it, as in properties.key"),
        ("NOT (true OR nowhere IS NULL)", "position 14: there is no field 'nowhere'"),
        ("nowhere = NULL", "position 1: there is no field 'nowhere'"),
    ],
)
def test_a_field_that_the_entity_lacks_is_refused(text: str, detail: str) -> None:
    with pytest.raises(ValidationError) as caught:
        to_test(parse(text), FIELDS)
    assert str(caught.value).startswith(f"Client error: parse error: {detail}")
