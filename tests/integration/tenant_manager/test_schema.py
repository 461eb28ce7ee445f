from __future__ import annotations

import re

import pytest

from cfm_core.query import parse, to_sql
from cfm_core.store.constraints import error_for
from cfm_core.store.database import Database
from cfm_core.tenancy.participant_profiles.store import FIELDS as PARTICIPANT_PROFILE_FIELDS
from cfm_core.tenancy.participant_profiles.store import SQL as PARTICIPANT_PROFILE_SQL
from cfm_core.tenancy.states import DeploymentState
from cfm_core.tenancy.tenants.store import FIELDS as TENANT_FIELDS
from cfm_core.tenancy.tenants.store import SQL as TENANT_SQL

ID = "00000000-0000-4000-8000-000000000000"


def words(database: Database, constraint: str) -> set[str]:
    text = database.value("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = :name", name=constraint)
    return set(re.findall(r"'(\w+)'", text))


def test_the_states_of_a_cell_are_those_of_the_code(database: Database) -> None:
    assert words(database, "cells_state") == set(DeploymentState)


def test_the_states_of_a_participant_profile_are_among_those_of_the_code(database: Database) -> None:
    assert words(database, "participant_profiles_state") == {"pending", "active", "disposing", "disposed", "error"}
    assert words(database, "participant_profiles_state") < set(DeploymentState)


@pytest.mark.parametrize(
    "name",
    ["cells_external_id_key", "participant_profiles_identifier_key", "participant_profiles_tenant_id_fkey"],
)
def test_a_constraint_that_has_an_error_exists(database: Database, name: str) -> None:
    assert error_for(name) is not None
    assert database.value(
        "SELECT count(*) FROM (SELECT conname::text AS name FROM pg_constraint"
        " UNION ALL SELECT relname::text FROM pg_class) known WHERE known.name = :name",
        name=name,
    )


@pytest.mark.parametrize(
    ("predicate", "index"),
    [
        (f"id = '{ID}'", "tenants_pkey"),
        ("properties.group = 'x'", "tenants_properties"),
        ("properties.a.b = 5 AND properties.c = true", "tenants_properties"),
    ],
)
def test_a_selective_query_of_tenants_uses_an_index(database: Database, predicate: str, index: str) -> None:
    condition, params = to_sql(parse(predicate), TENANT_FIELDS)
    assert index in plan(database, TENANT_SQL["select"].replace("<<condition>>", condition), params)


@pytest.mark.parametrize(
    ("predicate", "index"),
    [
        ("identifier = 'x'", "participant_profiles_identifier "),
        (f"tenantId = '{ID}'", "participant_profiles_tenant"),
        ("vpas.state = 'active'", "participant_profiles_json"),
        (f"dataspaceProfileIds = '{ID}'", "participant_profiles_json"),
        (f"participantRoles.`{ID}` = 'oem'", "participant_profiles_json"),
    ],
)
def test_a_selective_query_of_participant_profiles_uses_an_index(
    database: Database, predicate: str, index: str
) -> None:
    condition, params = to_sql(parse(predicate), PARTICIPANT_PROFILE_FIELDS)
    assert index in plan(database, PARTICIPANT_PROFILE_SQL["select"].replace("<<condition>>", condition), params)


def plan(database: Database, sql: str, params: dict[str, object]) -> str:
    """How Postgres would run ``sql`` if reading a whole table was dear, as it is with many rows."""
    with database.transaction() as transaction:
        transaction.rows("SET LOCAL enable_seqscan = off")
        rows = transaction.rows(f"EXPLAIN {sql}", page_limit=10, page_offset=0, **params)
    return "\n".join(text for (text,) in rows)
