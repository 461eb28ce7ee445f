"""The words that the schema repeats, compared with the code's."""

from __future__ import annotations

import re
from datetime import datetime

from cfm_core.contracts import subjects
from cfm_core.contracts.activity import CALL_EVENT, DISPATCH_EVENT, OutcomeKind
from cfm_core.contracts.instants import instant
from cfm_core.contracts.orchestration import DISPOSE, compensation_id
from cfm_core.provisioning.calls.model import CALL_TIMEOUT, LOOKED_AFTER_EVERY
from cfm_core.provisioning.engine.model import (
    LEASE_SLACK,
    MOST_UNANSWERED,
    SOURCE,
    ActivityState,
    OrchestrationState,
    Policy,
)
from cfm_core.provisioning.schedules.model import Overlap
from cfm_core.store.database import Database
from cfm_core.store.migrations import known
from tests.contract.provisioning.world import DIAMOND, PostgresWorld, define

TEXT = "".join(
    migration.sql
    for migration in known()
    if migration.name in {"definitions", "runs", "announcements", "engine", "orders"}
)


def words_of(emptied: Database, constraint: str) -> set[str]:
    text = emptied.value("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = :name", name=constraint)
    return set(re.findall(r"'(\w+)'", text))


def test_states_are_those_of_the_enums(emptied: Database) -> None:
    assert words_of(emptied, "orchestration_state") == set(OrchestrationState) - {OrchestrationState.SCHEDULED}
    assert words_of(emptied, "delayed_start_state") < set(OrchestrationState)
    assert words_of(emptied, "schedule_overlap") == set(Overlap)
    assert words_of(emptied, "activity_state") == set(ActivityState)


def test_states_have_the_numbers_of_the_enum(emptied: Database) -> None:
    define(PostgresWorld(emptied), one=DIAMOND)
    for state in set(OrchestrationState) - {OrchestrationState.SCHEDULED}:
        stored = emptied.value(
            "INSERT INTO provision_manager.orchestration"
            "  (id, def_id, type, correlation_id, remaining, state, state_at, created_at)"
            " SELECT :state, id, 'one', '', 0, :state, now(), now() FROM provision_manager.definition"
            " RETURNING state_number",
            state=state,
        )
        assert stored == state.number


def test_the_functions_show_instants_as_the_code_does(emptied: Database) -> None:
    for text in (
        "2026-11-23T07:07:23.019245Z",
        "2026-11-23T07:07:20Z",
        "2026-01-30T00:00:00.5Z",
        "0001-01-01T00:00:00Z",
    ):
        shown = emptied.value("SELECT provision_manager.instant(:at::timestamptz)", at=text)
        assert shown == instant(datetime.fromisoformat(text)) == text


def test_the_functions_write_the_subjects_and_names_of_the_contracts() -> None:
    for word in (
        subjects.MANIFESTS,
        subjects.RESPONSES,
        subjects.INPUTS,
        subjects.CALLS,
        CALL_EVENT,
        subjects.activity(""),
        DISPATCH_EVENT,
        DISPOSE,
        SOURCE,
    ):
        assert f"'{word}'" in TEXT
    assert all(f"'{kind}'" in TEXT for kind in OutcomeKind)


def test_the_functions_know_the_same_derived_id(emptied: Database) -> None:
    query = "SELECT provision_manager.compensated_by(:id)"
    assert emptied.value(query, id=compensation_id("ö/1")) == "ö/1"
    assert emptied.value(query, id="ö/1") is None


def test_the_functions_know_the_same_numbers(emptied: Database) -> None:
    assert emptied.value("SELECT provision_manager.lease(0)") == LEASE_SLACK
    assert f"unanswered >= {MOST_UNANSWERED}" in TEXT
    policy = Policy()
    for number in (
        policy.timeout.total_seconds(),
        policy.backoff.total_seconds(),
        policy.backoff_limit.total_seconds(),
        policy.wait.total_seconds(),
    ):
        assert f", {number:.0f})" in TEXT
    assert f"n.calls THEN {CALL_TIMEOUT.total_seconds():.0f} ELSE" in TEXT
    assert f"instant + interval '{LOOKED_AFTER_EVERY.total_seconds() / 60:.0f} min'" in TEXT
    assert f", {policy.max_attempts}) AS max_attempts" in TEXT
