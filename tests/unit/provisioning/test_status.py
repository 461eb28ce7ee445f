from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cfm_core.provisioning.definitions.model import Activity
from cfm_core.provisioning.engine.model import ActivityState, OrchestrationState
from cfm_core.provisioning.orchestrations.model import ActivityStatus, Orchestration
from cfm_core.provisioning.orchestrations.status import status_of

NOW = datetime(2026, 11, 23, tzinfo=UTC)
SOON = NOW + timedelta(seconds=16)


def activity(id_: str, state: ActivityState, **more: Any) -> ActivityStatus:
    return ActivityStatus(
        **{"ord": 0, "id": id_, "type": "t", "state": state, "max_attempts": 8, "has_agent": True, **more}
    )


def run(*graph: ActivityStatus, state: OrchestrationState = OrchestrationState.RUNNING, **more: Any) -> Orchestration:
    return Orchestration(
        id="o",
        version=0,
        correlation_id="c",
        type="x",
        state=state,
        state_at=NOW,
        created_at=NOW,
        activities=tuple(Activity(one.id, one.type) for one in graph),
        graph=graph,
        **more,
    )


DISPATCHED = activity("a", ActivityState.DISPATCHED, dispatches=1, unanswered=1)
RETRYING = activity("b", ActivityState.BACKOFF, failures=2, due_at=SOON, outcome="retry", reason="503 from issuer")


@pytest.mark.parametrize(
    ("graph", "status", "reason"),
    [
        ([DISPATCHED], "running", "a is with its agent"),
        ([RETRYING, DISPATCHED], "running", "a is with its agent"),
        ([RETRYING], "retrying", "b: try 3 of 8 in 16 s: 503 from issuer"),
        (
            [activity("a", ActivityState.DISPATCHED, dispatches=3, unanswered=3, has_agent=False)],
            "no-agent",
            "a: no agent has announced itself for t; sent 3 times",
        ),
        (
            [activity("a", ActivityState.DISPATCHED, dispatches=5, unanswered=2)],
            "overdue",
            "a: the agent for t has not answered; sent 2 times since",
        ),
        (
            [activity("a", ActivityState.WAITING, due_at=SOON, outcome="wait", reason="a signature")],
            "waiting",
            "a waits to be ended from outside until 2026-11-23T00:00:16Z: a signature",
        ),
        ([replace(DISPATCHED, started_at=NOW, progress="3 of 7")], "running", "a is with its agent: 3 of 7"),
        ([replace(DISPATCHED, started_at=NOW, progress={"n": 3})], "running", 'a is with its agent: {"n": 3}'),
        (
            [replace(DISPATCHED, ending="complete")],
            "running",
            "a has been ended from outside, and its agent has not said yet what it has recorded",
        ),
        (
            [activity("a", ActivityState.WAITING, due_at=NOW - timedelta(seconds=11), outcome="wait")],
            "overdue",
            "a was due at 2026-11-22T23:59:49Z, and nobody has taken care of it since",
        ),
        (
            [activity("a", ActivityState.READY, due_at=SOON)],
            "queued",
            "a is held back, and fails at 2026-11-23T00:00:16Z",
        ),
        ([activity("a", ActivityState.BACKOFF, due_at=SOON, outcome="schedule")], "waiting", "a looks again in 16 s"),
        ([activity("a", ActivityState.READY)], "queued", "a is held back"),
        (
            [activity("a", ActivityState.READY, rate_opens_at=SOON)],
            "queued",
            "a is held back by the rate of t, which lets the next one through in 16 s",
        ),
    ],
)
def test_a_running_run_says_what_it_does_or_waits_for(graph: list[ActivityStatus], status: str, reason: str) -> None:
    assert status_of(run(*graph), NOW) == (status, reason)


def test_a_paused_run_says_what_it_holds_back() -> None:
    assert status_of(run(DISPATCHED, paused=True), NOW) == ("paused", "nothing is sent until it is resumed")
    held = [activity(id_, ActivityState.READY) for id_ in "ab"]
    assert status_of(run(*held, paused=True), NOW) == ("paused", "a, b are held back")
    above = run(*held, paused=True, paused_above=True, parent="above")
    assert status_of(above, NOW) == ("paused", "with above: a, b are held back")


def test_a_run_that_ends_says_what_it_waits_for_and_why() -> None:
    why = {"error_detail": "activity b (t): broken"}
    ending = run(DISPATCHED, state=OrchestrationState.CANCELLING, **why)
    assert status_of(ending, NOW) == ("cancelling", "a is still with an agent: activity b (t): broken")
    undone = run(state=OrchestrationState.COMPENSATING, **why)
    assert status_of(undone, NOW) == ("compensating", "o.compensate undoes it: activity b (t): broken")
    assert status_of(run(state=OrchestrationState.ERRORED, **why), NOW) == ("errored", "activity b (t): broken")
    assert status_of(run(state=OrchestrationState.COMPLETED), NOW) == ("completed", "")
