"""That runs bite: with a safeguard taken out a run breaks a rule, and the same run with the safeguard in place breaks none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from cfm_core.store.database import connect
from local.bench.fabric import Fabric
from local.chaos import plan
from local.chaos.alterations import alter
from local.chaos.ground import Ground
from local.chaos.plan import Fault, Plan
from local.chaos.run import run
from local.chaos.workload import prepare

SECONDS = 3.0
RATE = 8.0
PATIENCE_SECONDS = 60.0
"""How long a run may take to come to rest; on a machine that has nothing else to do they take two or three."""
NO_PATIENCE_SECONDS = 12.0
"""How long a run is waited for that is not expected to come to rest."""


@contextmanager
def altered(database_url: str, function: str, text: str, instead: str) -> Iterator[None]:
    alter(database_url, function, text, instead)
    try:
        yield
    finally:
        alter(database_url, function, instead, text)


@contextmanager
def without_token_check(database_url: str) -> Iterator[None]:
    with altered(database_url, "record_outcomes", "AND a.token::text = u.token", "AND u.token IS NOT NULL"):
        yield


@contextmanager
def without_sweeper(database_url: str) -> Iterator[None]:
    with altered(database_url, "sweep_activities", "WHERE a.due_at <= instant", "WHERE a.due_at <= '-infinity'"):
        yield


@contextmanager
def without_relay(database_url: str) -> Iterator[None]:
    """Rows of the outbox that somebody has in hand never become free again."""
    connection = connect(database_url)
    connection.run(
        "CREATE FUNCTION eventing.kept() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " NEW.claimable_at := 'infinity'; RETURN NEW; END $$"
    )
    connection.run(
        "CREATE TRIGGER kept BEFORE INSERT OR UPDATE ON eventing.outbox FOR EACH ROW"
        " WHEN (NEW.claimable_at > clock_timestamp()) EXECUTE FUNCTION eventing.kept()"
    )
    try:
        yield
    finally:
        connection.run("DROP FUNCTION eventing.kept CASCADE")
        connection.close()


@contextmanager
def slow_to_write(database_url: str) -> Iterator[None]:
    """Between what the engine reads and what it writes there is time for others: the interleaving is forced."""
    text = "IF batch.has_data THEN"
    with altered(database_url, "advance", text, f"PERFORM pg_sleep(0.05); {text}"):
        yield


@contextmanager
def without_lock(database_url: str) -> Iterator[None]:
    with altered(database_url, "lock_runs", "FOR UPDATE", "FOR KEY SHARE"):
        yield


Change = Callable[[str], AbstractContextManager[None]]


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    """A ground of its own: what a run without its safeguard has left under way would come into the next one."""
    with Ground(tmp_path, print) as ground:
        yield ground


@pytest.fixture
def fabric(ground: Ground) -> Fabric:
    return prepare(ground.url)


@dataclass(frozen=True)
class Case:
    """A run, what is true of it in any case, and the safeguard that it needs."""

    plan: Plan
    safeguard_out: Change
    rule: str
    always: tuple[Change, ...] = ()


CALM = plan.calm(1, SECONDS, RATE)
KILLS = (0.5, 1.0, 1.5, 2.0, 2.5)
CASES = {
    "the token is compared": Case(
        replace(CALM, messages={"outcomes outdated": 1.0}), without_token_check, "what counts was said"
    ),
    "the overdue are swept": Case(CALM, without_sweeper, "everything comes to an end"),
    "the outbox is relayed": Case(
        # Calls take their time, so that whoever is killed has something in hand.
        replace(CALM, faults=tuple(Fault(at, "kill", name) for at in KILLS for name in ("trigger", "trigger-2"))),
        without_relay,
        "everything comes to an end",
        (slow_to_write,),
    ),
    "runs are locked": Case(
        replace(CALM, messages={"call doubled": 0.5}),
        without_lock,
        "what counts was said",
        (slow_to_write,),
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_run_notices_that_a_safeguard_is_missing(ground: Ground, fabric: Fabric, case: Case) -> None:
    with ExitStack() as changes:
        for change in case.always:
            changes.enter_context(change(ground.database_url))
        assert run(case.plan, ground, fabric, PATIENCE_SECONDS, print).violations == {}
        changes.enter_context(case.safeguard_out(ground.database_url))
        assert case.rule in run(case.plan, ground, fabric, NO_PATIENCE_SECONDS, print).violations
