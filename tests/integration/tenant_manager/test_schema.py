from __future__ import annotations

import re

import pytest

from cfm_core.store.constraints import RULES, USES, error_for
from cfm_core.store.database import Database
from cfm_core.tenancy.states import DeploymentState


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
    [
        *("cells_external_id_key", "participant_profiles_identifier_key", "participant_profiles_tenant_id_fkey"),
        *("roles_name_key", "users_subject_key"),
    ],
)
def test_a_constraint_that_has_an_error_exists(database: Database, name: str) -> None:
    assert error_for(name) is not None
    assert database.value(
        "SELECT count(*) FROM (SELECT conname::text AS name FROM pg_constraint"
        " UNION ALL SELECT relname::text FROM pg_class) known WHERE known.name = :name",
        name=name,
    )


@pytest.mark.parametrize("name", sorted(RULES | USES))
def test_a_rule_that_has_an_error_is_raised_by_a_trigger(database: Database, name: str) -> None:
    assert database.value(
        "SELECT count(*) FROM pg_proc WHERE pronamespace = 'tenant_manager'::regnamespace"
        "   AND prorettype = 'trigger'::regtype AND strpos(prosrc, quote_literal(:name)) > 0",
        name=name,
    )


def test_functions_with_a_subquery_keep_one_plan(database: Database) -> None:
    replanned = database.rows(
        "SELECT proname FROM pg_proc WHERE pronamespace = ANY (ARRAY['tenant_manager', 'provision_manager']::regnamespace[])"
        " AND proname LIKE '%json' AND pg_get_functiondef(oid) LIKE '%SELECT%' AND proconfig IS NULL"
    )
    assert replanned == []
