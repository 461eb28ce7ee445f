"""That the tests bite: with any one safeguard of the engine taken out, a test that is named here fails."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cfm_core.errors import CfmError
from cfm_core.store.database import Database
from local.chaos.alterations import alter
from tests.contract.provisioning import test_engine as engine
from tests.contract.provisioning.world import Driver, PostgresWorld
from tests.integration.provisioning import test_concurrency as concurrency
from tests.integration.provisioning import test_crashes as crashes

Test = Callable[[PostgresWorld, Driver], None]


SAFEGUARDS: dict[str, tuple[str, str, str, Test]] = {
    "the token is compared": (
        "record_outcomes",
        "AND a.token::text = u.token",
        "",
        engine.test_a_superseded_outcome_changes_nothing_even_beside_the_live_one,
    ),
    "the state is compared": (
        "record_outcomes",
        "AND (a.state = 'DISPATCHED' AND (u.outside IS NOT TRUE OR a.ending IS NULL)\n"
        "            OR a.state = 'WAITING' AND u.kind <> 'wait')",
        "",
        engine.test_an_outcome_recorded_twice_counts_once,
    ),
    "all parents are counted": (
        "unlock",
        "c.open AND a.deps_left = c.done",
        "c.open",
        engine.test_a_child_starts_when_its_own_parents_are_done,
    ),
    "a failing run dispatches nothing": (
        "unlock",
        "c.open AND a.deps_left = c.done",
        "a.deps_left = c.done",
        engine.test_in_one_batch_a_fatal_outcome_keeps_the_others_from_dispatching,
    ),
    "runs are locked": (
        "lock_runs",
        "FOR UPDATE",
        "",
        concurrency.test_results_wait_for_those_that_are_being_recorded_of_the_same_run,
    ),
    "the overdue are swept": (
        "sweep_activities",
        "WHERE a.due_at <= instant",
        "WHERE false",
        crashes.test_messages_that_are_lost_altogether_are_made_up_for_by_the_sweep,
    ),
    "dispatches are in the outbox": (
        "announce_dispatches",
        "SELECT subject, events, clock_timestamp() + lease FROM sent",
        "SELECT subject, events, clock_timestamp() + lease FROM sent WHERE false",
        engine.test_starting_dispatches_what_depends_on_nothing,
    ),
    "a compensation is asked for again": (
        "sweep_activities",
        "WHERE o.resend_at <= instant",
        "WHERE false",
        engine.test_a_compensation_whose_manifest_was_lost_is_asked_for_again,
    ),
}


@pytest.mark.parametrize("safeguard", SAFEGUARDS)
def test_a_missing_safeguard_is_noticed(database_url: str, safeguard: str) -> None:
    function, text, instead, test = SAFEGUARDS[safeguard]
    database = Database(database_url)
    world = PostgresWorld(database)
    alter(database_url, function, text, instead)
    with pytest.raises((AssertionError, CfmError, ValueError, KeyError)):
        test(world, Driver(world))
    database.close()
