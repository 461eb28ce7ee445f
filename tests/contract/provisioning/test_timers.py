"""What activities have time for, how agents show that they are at work, and how somebody outside ends what waits."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cfm_core.contracts.activity import OutcomeKind
from cfm_core.contracts.completion import CompletionKey
from cfm_core.errors import (
    ConflictError,
    FatalError,
    ForbiddenError,
    NotFoundError,
    RecoverableError,
    ValidationError,
)
from cfm_core.provisioning.definitions.model import (
    Activity,
    ActivityDefinition,
    Input,
    Limits,
    OrchestrationTemplate,
    RetryPolicy,
    Timeouts,
)
from cfm_core.provisioning.operations.model import Order, Resolution
from cfm_core.provisioning.orchestrations.model import Ending, Heartbeat
from tests.contract.provisioning.world import (
    KEY,
    Driver,
    NodeView,
    World,
    dispatches,
    ending,
    manifest,
    responses,
)

SECOND = timedelta(seconds=1)
ORDER = Order(actor="ann", reason="why", request_id="r")
NO_LIMITS = Limits()
TWICE = RetryPolicy(max_attempts=2)
CHAIN = (Activity("a", "t"), Activity("b", "t", ("a",)))


def begin(
    world: World,
    driver: Driver,
    *activities: Activity,
    timeout: timedelta = 20 * SECOND,
    retry: RetryPolicy = TWICE,
    limits: Limits = NO_LIMITS,
    **timeouts: timedelta,
) -> None:
    """Start the run ``o``, whose activities are all of one type."""
    one = ActivityDefinition(type="t", timeout=timeout, timeouts=Timeouts(**timeouts), retry=retry, limits=limits)
    world.definitions.put_activity_definition(one)
    world.definitions.add_template(OrchestrationTemplate(id="x", activities={"x": activities or CHAIN}))
    driver.start(manifest("o", "x"))


def beat(world: World, driver: Driver, progress: object = None) -> datetime:
    return world.orchestrations.heartbeat("o", "a", Heartbeat(token=driver.sent["o", "a"].token, progress=progress))


def due(world: World) -> float:
    return world.seconds_until_due("o")["a"]


def shown(world: World) -> Any:
    return world.orchestrations.get("o").graph[0]


# The time of a dispatch


def test_a_dispatch_may_be_without_a_sign_of_life_for_its_timeout_or_as_long_as_is_said(
    world: World, driver: Driver
) -> None:
    begin(world, driver)
    assert 34 < due(world) <= 35
    assert driver.sent["o", "a"].timeout_seconds is None
    world.definitions.put_activity_definition(
        ActivityDefinition(type="t", timeout=20 * SECOND, timeouts=Timeouts(schedule_to_start=90 * SECOND))
    )
    driver.start(manifest("p", "x"))
    assert 89 < world.seconds_until_due("p")["a"] <= 90
    sent = driver.sent["p", "a"]
    assert sent.deadline is not None
    assert 109 < (sent.deadline - datetime.now(UTC)).total_seconds() <= 110
    assert sent.timeout_seconds == 20


def test_a_dispatch_without_a_sign_of_life_is_sent_again_and_counts_as_no_failure(world: World, driver: Driver) -> None:
    begin(world, driver, schedule_to_start=5 * SECOND)
    world.let_time_pass()
    assert set(dispatches(driver.sweep().outbox)) == {"a"}
    assert world.nodes("o")["a"] == NodeView("DISPATCHED", 0, 2, 0)
    assert world.history("o") == ["lease over"]
    assert 4 < due(world) <= 5


# Heartbeats


def test_a_sign_of_life_gives_the_agent_its_whole_timeout(world: World, driver: Driver) -> None:
    begin(world, driver, schedule_to_start=5 * SECOND)
    until = beat(world, driver)
    assert 34 < due(world) <= 35
    assert abs((until - datetime.now(UTC)).total_seconds() - due(world)) < 1
    assert (shown(world).unanswered, shown(world).started_at is None) == (0, False)


def test_with_a_heartbeat_timeout_the_next_one_has_to_come_in_time(world: World, driver: Driver) -> None:
    begin(world, driver, heartbeat=7 * SECOND)
    for _ in range(2):
        beat(world, driver)
        assert 6 < due(world) <= 7


def test_heartbeats_extend_nothing_beyond_the_timeout_of_the_attempt(world: World, driver: Driver) -> None:
    begin(world, driver, timeout=20 * SECOND)
    first = beat(world, driver)
    assert beat(world, driver) == first


def test_heartbeats_extend_nothing_beyond_schedule_to_close(world: World, driver: Driver) -> None:
    begin(world, driver, heartbeat=10 * SECOND, schedule_to_close=3 * SECOND)
    beat(world, driver)
    assert 0 < due(world) <= 3


def test_an_agent_that_falls_silent_has_failed_once(world: World, driver: Driver) -> None:
    begin(world, driver, heartbeat=5 * SECOND)
    beat(world, driver)
    world.let_time_pass()
    assert driver.sweep().outbox == []
    assert world.nodes("o")["a"] == NodeView("BACKOFF", 0, 1, 1)
    assert world.history("o") == ["heartbeat over"]
    assert shown(world).reason == "its agent fell silent"
    world.let_time_pass()
    assert dispatches(driver.sweep().outbox)["a"].attempt == 2
    assert (shown(world).started_at, shown(world).progress) == (None, None)
    beat(world, driver)
    world.let_time_pass()
    (response,) = responses(driver.sweep().outbox)
    assert response.error_detail == "activity a (t) failed after 2 attempts: its agent fell silent"


def test_progress_is_shown_until_the_next_dispatch_and_changes_the_version_only_when_it_changes(
    world: World, driver: Driver
) -> None:
    begin(world, driver)
    versions = []
    for progress in (None, {"n": 1, "none": None}, None, {"n": 1, "none": None}, "2 of 3"):
        beat(world, driver, progress)
        versions.append((world.orchestrations.get("o").version, shown(world).progress))
    first = {"n": 1, "none": None}
    assert versions == [(0, None), (1, first), (1, first), (1, first), (2, "2 of 3")]
    assert world.history("o") == []
    driver.record(driver.outcome("o", "a", OutcomeKind.RETRY))
    world.let_time_pass()
    driver.sweep()
    assert shown(world).progress is None
    beat(world, driver)
    assert shown(world).progress is None


@pytest.mark.parametrize("kind", OutcomeKind)
def test_a_heartbeat_of_an_attempt_that_has_been_heard_changes_nothing(
    world: World, driver: Driver, kind: OutcomeKind
) -> None:
    begin(world, driver)
    driver.record(driver.outcome("o", "a", kind))
    before = world.orchestrations.get("o")
    with pytest.raises(ConflictError, match="nobody waits"):
        beat(world, driver, "late")
    assert world.orchestrations.get("o") == before


def test_a_heartbeat_of_a_superseded_attempt_changes_nothing(world: World, driver: Driver) -> None:
    begin(world, driver)
    first = driver.sent["o", "a"].token
    world.let_time_pass()
    driver.sweep()
    before = world.orchestrations.get("o")
    for token in (first, "", "no token"):
        with pytest.raises(ConflictError, match="nobody waits"):
            world.orchestrations.heartbeat("o", "a", Heartbeat(token=token, progress=1))
    assert world.orchestrations.get("o") == before
    with pytest.raises(NotFoundError):
        world.orchestrations.heartbeat("o", "z", Heartbeat(token=first))
    with pytest.raises(NotFoundError):
        world.orchestrations.heartbeat("nope", "a", Heartbeat(token=first))


@pytest.mark.parametrize("progress", ["x" * 1999, "a\0b", "\ud800"])
def test_progress_that_is_too_large_or_cannot_be_stored_is_refused(
    world: World, driver: Driver, progress: object
) -> None:
    begin(world, driver)
    with pytest.raises(ValidationError):
        beat(world, driver, progress)
    assert (shown(world).started_at, shown(world).progress) == (None, None)
    beat(world, driver, "x" * 1998)


# From becoming ready to the end


def test_schedule_to_close_covers_attempts_and_pauses(world: World, driver: Driver) -> None:
    begin(world, driver, schedule_to_close=60 * SECOND, retry=RetryPolicy(max_attempts=9))
    driver.record(driver.outcome("o", "a", OutcomeKind.RETRY, after=timedelta(hours=1)))
    assert 59 < due(world) <= 60
    world.let_time_pass()
    driver.sweep()
    assert world.nodes("o")["a"].state == "DISPATCHED"
    driver.record(driver.outcome("o", "a", OutcomeKind.WAIT, after=timedelta(hours=1)))
    assert 59 < due(world) <= 60
    world.let_all_time_pass()
    (response,) = responses(driver.sweep().outbox)
    assert response.error_detail == "activity a (t): schedule to close timed out"
    assert world.history("o") == ["retry", "wait", "time over"]


@pytest.mark.parametrize("kind", [None, OutcomeKind.SCHEDULE, OutcomeKind.RETRY, OutcomeKind.WAIT])
def test_what_was_not_done_by_then_fails_whatever_it_waits_for(
    world: World, driver: Driver, kind: OutcomeKind | None
) -> None:
    begin(world, driver, schedule_to_close=60 * SECOND)
    if kind is not None:
        driver.record(driver.outcome("o", "a", kind))
    world.let_all_time_pass()
    (response,) = responses(driver.sweep().outbox)
    assert response.error_detail == "activity a (t): schedule to close timed out"
    assert world.history("o")[-1] == "time over"


def test_the_time_of_an_activity_begins_when_it_could_be_sent(world: World, driver: Driver) -> None:
    begin(world, driver, schedule_to_close=60 * SECOND)
    assert set(world.seconds_until_due("o")) == {"a"}
    world.let_all_time_pass()
    driver.complete("o", "a")
    assert 34 < world.seconds_until_due("o")["b"] <= 35
    driver.record(driver.outcome("o", "b", OutcomeKind.WAIT))
    assert 59 < world.seconds_until_due("o")["b"] <= 60


def test_what_is_held_back_for_too_long_fails_as_well(world: World, driver: Driver) -> None:
    limits = Limits(concurrency=1)
    begin(world, driver, Activity("a", "t"), Activity("b", "t"), limits=limits, schedule_to_close=60 * SECOND)
    ready = next(id_ for id_, node in world.nodes("o").items() if node.state == "READY")
    assert 59 < world.seconds_until_due("o")[ready] <= 60
    world.let_time_pass()
    driver.record(driver.outcome("o", "a", OutcomeKind.WAIT))
    world.let_all_time_pass()
    driver.sweep()
    assert {node.state for node in world.nodes("o").values()} <= {"FAILED", "CANCELLED"}
    assert "schedule to close" in world.orchestrations.get("o").error_detail


def test_what_is_held_back_by_a_pause_keeps_its_time(world: World, driver: Driver) -> None:
    begin(world, driver, schedule_to_close=60 * SECOND)
    world.operations.pause("o", ORDER)
    world.let_time_pass()
    driver.sweep()
    assert world.nodes("o")["a"].state == "READY"
    assert driver.sweep().outbox == []
    world.operations.resume("o", ORDER)
    assert world.nodes("o")["a"].state == "DISPATCHED"
    world.let_all_time_pass()
    driver.sweep()
    assert world.state("o") == "ERRORED"


def test_a_retry_by_an_operator_gives_the_whole_time_again(world: World, driver: Driver) -> None:
    begin(world, driver, schedule_to_close=60 * SECOND)
    world.let_all_time_pass()
    driver.sweep()
    world.operations.retry("o", ORDER)
    driver.hear()
    driver.record(driver.outcome("o", "a", OutcomeKind.WAIT))
    assert 59 < due(world) <= 60


def test_a_wait_lasts_as_long_as_the_agent_says_or_the_definition_or_a_day(world: World, driver: Driver) -> None:
    begin(world, driver)
    driver.record(driver.outcome("o", "a", OutcomeKind.WAIT))
    assert 86399 < due(world) <= 86400
    timeouts = Timeouts(wait=timedelta(hours=1))
    world.definitions.put_activity_definition(ActivityDefinition(type="t", timeouts=timeouts))
    driver.start(manifest("p", "x"), manifest("q", "x"))
    driver.record(
        driver.outcome("p", "a", OutcomeKind.WAIT), driver.outcome("q", "a", OutcomeKind.WAIT, after=5 * SECOND)
    )
    assert 3599 < world.seconds_until_due("p")["a"] <= 3600
    assert 4 < world.seconds_until_due("q")["a"] <= 5


# Ended from outside before the agent was heard


def end(world: World, driver: Driver, **said: Any) -> Ending:
    """End ``a`` as somebody outside."""
    made = ending(driver.sent["o", "a"], **said)
    world.orchestrations.end_activity("o", "a", made)
    driver.hear()
    return made


def test_an_early_completion_counts_with_the_wait_and_nothing_that_was_recorded_is_lost(
    world: World, driver: Driver
) -> None:
    begin(world, driver)
    end(world, driver, values={"by": "outside", "v": 1}, outputs={"o": 1})
    assert (world.nodes("o")["a"].state, shown(world).ending) == ("DISPATCHED", "complete")
    recorded = {"by": "the agent", "request": 7}
    progress = driver.record(
        driver.outcome("o", "a", OutcomeKind.WAIT, values=recorded, outputs={"o": 0, "p": 2}, deleted=["gone"])
    )
    assert (world.nodes("o")["a"].state, shown(world).ending) == ("DONE", "")
    assert dispatches(progress.outbox)["b"].values == {"by": "outside", "v": 1, "request": 7}
    assert world.orchestrations.get("o").output_data == {"o": 1, "p": 2}
    assert world.history("o") == ["complete"]


def test_what_depends_on_an_activity_gets_what_both_have_recorded(world: World, driver: Driver) -> None:
    begin(world, driver, CHAIN[0], Activity("b", "t", ("a",), inputs=_inputs("a.request", "a.v")))
    end(world, driver, values={"v": 1})
    progress = driver.record(driver.outcome("o", "a", OutcomeKind.WAIT, values={"request": 7}))
    assert dispatches(progress.outbox)["b"].values == {"a.request": 7, "a.v": 1}


def _inputs(*names: str) -> tuple[Any, ...]:
    return tuple(Input(target=name, source=name) for name in names)


HEARD = [OutcomeKind.WAIT, OutcomeKind.COMPLETE, OutcomeKind.SCHEDULE, OutcomeKind.FATAL]


@pytest.mark.parametrize("kind", HEARD)
def test_whatever_the_agent_says_it_has_been_ended_from_outside(
    world: World, driver: Driver, kind: OutcomeKind
) -> None:
    begin(world, driver)
    end(world, driver, values={"v": 1})
    driver.record(driver.outcome("o", "a", kind, values={"request": 7}))
    assert world.nodes("o")["a"].state == "DONE"
    assert world.orchestrations.get("o").processing_data == {"v": 1, "request": 7}


def test_an_attempt_that_failed_is_repeated_so_that_its_records_come(world: World, driver: Driver) -> None:
    begin(world, driver)
    made = end(world, driver, values={"v": 1})
    driver.record(driver.outcome("o", "a", OutcomeKind.RETRY))
    assert (world.nodes("o")["a"].state, shown(world).ending) == ("BACKOFF", "complete")
    world.orchestrations.end_activity("o", "a", made)
    world.let_time_pass()
    driver.sweep()
    driver.record(driver.outcome("o", "a", OutcomeKind.WAIT, values={"request": 7}))
    assert world.nodes("o")["a"].state == "DONE"
    assert world.orchestrations.get("o").processing_data == {"v": 1, "request": 7}
    before = world.orchestrations.get("o")
    world.orchestrations.end_activity("o", "a", made)
    assert world.orchestrations.get("o") == before


def test_an_attempt_that_was_not_begun_is_repeated_so_that_its_records_come(world: World, driver: Driver) -> None:
    begin(world, driver)
    end(world, driver, values={"v": 1})
    late = driver.outcome("o", "a", OutcomeKind.SCHEDULE).model_copy(update={"begun": False})
    driver.record(late)
    assert (world.nodes("o")["a"].state, shown(world).ending) == ("BACKOFF", "complete")
    world.let_time_pass()
    driver.sweep()
    driver.record(driver.outcome("o", "a", OutcomeKind.WAIT, values={"request": 7}))
    assert world.orchestrations.get("o").processing_data == {"v": 1, "request": 7}


def test_a_completion_that_comes_before_what_it_needs_is_asked_to_come_again(world: World, driver: Driver) -> None:
    begin(world, driver)
    schema = {"required": ["request"], "properties": {"v": {"type": "integer"}}}
    world.definitions.put_activity_definition(ActivityDefinition(type="t", output_schema=schema))
    driver.start(manifest("p", "x"))
    sent = driver.sent["p", "a"]
    with pytest.raises(RecoverableError, match="has not been heard yet"):
        world.orchestrations.end_activity("p", "a", ending(sent, values={"v": 1}))
    with pytest.raises(ValidationError, match="/values/v"):
        world.orchestrations.end_activity("p", "a", ending(sent, values={"v": "text", "request": 7}))
    driver.record(driver.outcome("p", "a", OutcomeKind.WAIT, values={"request": 7}))
    world.orchestrations.end_activity("p", "a", ending(sent, values={"v": 1}))
    assert world.nodes("p")["a"].state == "DONE"


def with_schema(world: World, driver: Driver, **schema: Any) -> None:
    """Start the run ``o``, whose activities are of one type with an output schema, and end ``a`` with ``v``."""
    begin(world, driver)
    one = ActivityDefinition(type="t", output_schema=schema, retry=RetryPolicy(max_attempts=1))
    world.definitions.put_activity_definition(one)
    driver.start(manifest("p", "x"))
    world.orchestrations.end_activity("p", "a", ending(driver.sent["p", "a"], values={"v": 1}))


@pytest.mark.parametrize("kind", [*HEARD, OutcomeKind.RETRY])
def test_what_an_agent_records_beside_an_early_completion_has_to_fit_as_well(
    world: World, driver: Driver, kind: OutcomeKind
) -> None:
    with_schema(world, driver, properties={"v": {"maximum": 1}, "request": {"type": "integer"}})
    made = ending(driver.sent["p", "a"], values={"v": 1})
    progress = driver.record(driver.outcome("p", "a", kind, values={"request": "seven"}))
    (response,) = responses(progress.outbox)
    problem = 'invalid output: /request: the value is not of type "integer"'
    assert response.error_detail == f"activity a (t): {problem}"
    assert world.history("p") == ["invalid output"]
    assert world.orchestrations.get("p").processing_data == {"request": "seven"}
    world.orchestrations.end_activity("p", "a", made)

    world.operations.retry("p", ORDER)
    driver.hear()
    driver.record(driver.outcome("p", "a", OutcomeKind.WAIT, values={"request": 7, "v": 5}))
    assert world.nodes("p")["a"].state == "DONE"
    assert world.orchestrations.get("p").processing_data == {"request": 7, "v": 1}


def test_what_both_record_has_to_fit_together(world: World, driver: Driver) -> None:
    with_schema(world, driver, maxProperties=2)
    driver.start(manifest("q", "x"))
    world.orchestrations.end_activity("q", "a", ending(driver.sent["q", "a"], values={"v": 1}))
    driver.record(
        driver.outcome("p", "a", OutcomeKind.WAIT, values={"v": 2, "w": 3}),
        driver.outcome("q", "a", OutcomeKind.WAIT, values={"w": 3}, outputs={"x": 4}),
    )
    assert (world.nodes("p")["a"].state, world.nodes("q")["a"].state) == ("DONE", "FAILED")


def test_what_the_agent_records_may_be_what_an_early_completion_was_asked_to_have(world: World, driver: Driver) -> None:
    with_schema(world, driver)
    world.definitions.put_activity_definition(ActivityDefinition(type="t", output_schema={"required": ["v", "w"]}))
    driver.start(manifest("q", "x", w=1))
    world.orchestrations.end_activity("q", "a", ending(driver.sent["q", "a"], values={"v": 1}))
    driver.record(driver.outcome("q", "a", OutcomeKind.WAIT, deleted=["w"]))
    assert "invalid output" in world.orchestrations.get("q").error_detail


def test_a_failure_from_outside_needs_no_records_that_fit(world: World, driver: Driver) -> None:
    begin(world, driver)
    world.definitions.put_activity_definition(ActivityDefinition(type="t", output_schema={"required": ["v"]}))
    driver.start(manifest("p", "x"))
    world.orchestrations.end_activity("p", "a", ending(driver.sent["p", "a"], error="no"))
    driver.record(driver.outcome("p", "a"))
    assert world.orchestrations.get("p").error_detail == "activity a (t): no"


def test_a_lost_answer_is_asked_for_again_before_an_early_completion_counts(world: World, driver: Driver) -> None:
    begin(world, driver)
    made = end(world, driver)
    lost = driver.outcome("o", "a", OutcomeKind.WAIT, values={"request": 7})
    world.let_time_pass()
    driver.sweep()
    assert world.nodes("o")["a"] == NodeView("DISPATCHED", 0, 2, 0)
    driver.record(lost)
    world.orchestrations.end_activity("o", "a", made)
    world.orchestrations.end_activity("o", "a", ending(driver.sent["o", "a"]))
    assert world.nodes("o")["a"] == NodeView("DISPATCHED", 0, 2, 0)
    driver.record(driver.outcome("o", "a", OutcomeKind.WAIT, values={"request": 8}))
    assert world.nodes("o")["a"].state == "DONE"
    assert world.orchestrations.get("o").processing_data == {"request": 8}
    assert world.history("o") == ["lease over", "fenced: wait", "complete"]


def test_an_early_completion_counts_where_the_agent_is_not_heard_any_more(world: World, driver: Driver) -> None:
    begin(world, driver)
    end(world, driver, values={"v": 1})
    for _ in range(10):
        world.let_time_pass()
        driver.sweep()
    assert world.nodes("o")["a"] == NodeView("DONE", 0, 10, 0)
    assert world.nodes("o")["b"].state == "DISPATCHED"
    assert world.orchestrations.get("o").processing_data == {"v": 1}


@pytest.mark.parametrize("how", ["last failure", "silence", "schedule to close"])
def test_an_early_completion_counts_in_place_of_the_end(world: World, driver: Driver, how: str) -> None:
    begin(
        *(world, driver, Activity("a", "t"), Activity("z", "t")),
        retry=RetryPolicy(max_attempts=1),
        schedule_to_close=60 * SECOND,
    )
    end(world, driver, outputs={"o": 1})
    match how:
        case "last failure":
            driver.record(driver.outcome("o", "a", OutcomeKind.RETRY))
        case "silence":
            beat(world, driver)
            driver.record(driver.outcome("o", "z"))
            world.let_time_pass()
            driver.sweep()
        case _:
            driver.record(driver.outcome("o", "z"))
            world.let_all_time_pass()
            driver.sweep()
    assert world.nodes("o")["a"].state == "DONE"
    assert world.orchestrations.get("o").output_data == {"o": 1}


# Ended from outside before the agent was heard, in a run that ends before that


def end_and_fail(world: World, driver: Driver, end_run: str = "fail", **said: Any) -> Ending:
    """End ``a``, on which ``b`` builds, as somebody outside; then the run fails by ``z``, or is cancelled."""
    begin(world, driver, *CHAIN, Activity("z", "t"))
    made = end(world, driver, **said)
    if end_run == "fail":
        driver.record(driver.outcome("o", "z", OutcomeKind.FATAL, reason="broken"))
    else:
        world.operations.cancel("o", ORDER)
        driver.record(driver.outcome("o", "z", OutcomeKind.RETRY))
    return made


def go_silent(world: World, driver: Driver, how: str) -> None:
    """Let the attempt at ``a`` end without the records of its agent."""
    match how:
        case "lost":
            world.let_time_pass()
            driver.sweep()
        case "a failure":
            driver.record(driver.outcome("o", "a", OutcomeKind.RETRY))
        case "too late to begin":
            late = driver.outcome("o", "a", OutcomeKind.SCHEDULE).model_copy(update={"begun": False})
            driver.record(late)


SILENCES = ["lost", "a failure", "too late to begin"]


@pytest.mark.parametrize("how", SILENCES)
@pytest.mark.parametrize("end_run", ["fail", "cancel"])
def test_an_early_completion_outlasts_the_end_of_its_run_and_counts_once_it_goes_on(
    world: World, driver: Driver, end_run: str, how: str
) -> None:
    made = end_and_fail(world, driver, end_run, values={"v": 1}, outputs={"o": 1})
    go_silent(world, driver, how)
    assert (world.nodes("o")["a"].state, shown(world).ending) == ("CANCELLED", "complete")
    assert world.state("o") == {"fail": "ERRORED", "cancel": "CANCELLED"}[end_run]
    run = world.orchestrations.get("o")
    assert (run.processing_data, run.output_data) == ({}, {})

    world.orchestrations.end_activity("o", "a", made)
    with pytest.raises(ConflictError, match="otherwise"):
        end(world, driver, error="no")
    assert world.orchestrations.get("o") == run

    world.operations.retry("o", ORDER)
    driver.hear()
    assert world.nodes("o")["a"] == NodeView("DISPATCHED", 0, 2, 0)
    progress = driver.record(driver.outcome("o", "a", OutcomeKind.WAIT, values={"request": 7, "v": 0}))
    assert (world.nodes("o")["a"].state, shown(world).ending) == ("DONE", "")
    assert dispatches(progress.outbox)["b"].values == {"v": 1, "request": 7}
    assert world.orchestrations.get("o").output_data == {"o": 1}
    before = world.orchestrations.get("o")
    world.orchestrations.end_activity("o", "a", made)
    assert world.orchestrations.get("o") == before


def test_only_the_ended_activity_may_be_retried_of_a_run_that_has_failed(world: World, driver: Driver) -> None:
    end_and_fail(world, driver, values={"v": 1})
    go_silent(world, driver, "lost")
    world.operations.retry_activity("o", "a", ORDER)
    driver.hear()
    driver.record(driver.outcome("o", "a", OutcomeKind.WAIT, values={"request": 7}))
    assert world.orchestrations.get("o").processing_data == {"v": 1, "request": 7}
    assert world.nodes("o")["a"].state == "DONE"


def test_an_agent_that_is_heard_after_its_run_has_failed_is_not_asked_again(world: World, driver: Driver) -> None:
    end_and_fail(world, driver, values={"v": 1})
    driver.record(driver.outcome("o", "a", OutcomeKind.WAIT, values={"request": 7}))
    assert world.nodes("o")["a"] == NodeView("DONE", 0, 1, 0)
    world.operations.retry("o", ORDER)
    assert set(dispatches(driver.take_all())) == {"b", "z"}
    assert world.orchestrations.get("o").processing_data == {"v": 1, "request": 7}


def test_an_early_completion_after_the_run_has_failed_counts_once_it_goes_on(world: World, driver: Driver) -> None:
    begin(world, driver, *CHAIN, Activity("z", "t"))
    driver.record(driver.outcome("o", "z", OutcomeKind.FATAL))
    end(world, driver, values={"v": 1})
    go_silent(world, driver, "lost")
    world.operations.retry("o", ORDER)
    driver.hear()
    driver.record(driver.outcome("o", "a", OutcomeKind.WAIT, values={"request": 7}))
    assert world.orchestrations.get("o").processing_data == {"v": 1, "request": 7}


def test_a_last_failure_in_a_failed_run_keeps_what_was_completed_from_outside(world: World, driver: Driver) -> None:
    begin(world, driver, *CHAIN, Activity("z", "t"), retry=RetryPolicy(max_attempts=1))
    end(world, driver, values={"v": 1})
    driver.record(driver.outcome("o", "z", OutcomeKind.FATAL))
    driver.record(driver.outcome("o", "a", OutcomeKind.RETRY))
    assert (world.nodes("o")["a"].state, shown(world).ending) == ("FAILED", "complete")
    world.operations.retry("o", ORDER)
    driver.hear()
    driver.record(driver.outcome("o", "a", OutcomeKind.WAIT, values={"request": 7}))
    assert world.orchestrations.get("o").processing_data == {"v": 1, "request": 7}
    assert world.nodes("o")["a"].state == "DONE"


def test_what_its_agent_does_not_get_the_second_time_fails_and_stays_completed(world: World, driver: Driver) -> None:
    begin(world, driver)
    schema = {"properties": {"n": {"maximum": 1}}}
    world.definitions.put_activity_definition(ActivityDefinition(type="t", input_schema=schema))
    world.definitions.add_template(OrchestrationTemplate(id="x", activities={"x": (*CHAIN, Activity("y", "t"))}))
    driver.start(manifest("p", "x"))
    made = ending(driver.sent["p", "a"], values={"v": 1})
    world.orchestrations.end_activity("p", "a", made)
    driver.record(driver.outcome("p", "y", values={"n": 2}))
    world.let_time_pass()
    driver.sweep()
    assert "invalid input" in world.orchestrations.get("p").error_detail
    assert world.orchestrations.get("p").graph[0].ending == "complete"
    world.orchestrations.end_activity("p", "a", made)
    assert world.nodes("p")["a"].state == "FAILED"


@pytest.mark.parametrize("how", SILENCES)
def test_an_early_failure_in_a_failed_run_is_over_with_the_attempt(world: World, driver: Driver, how: str) -> None:
    end_and_fail(world, driver, error="no")
    go_silent(world, driver, how)
    assert (world.nodes("o")["a"].state, shown(world).ending) == ("FAILED", "")
    world.operations.retry("o", ORDER)
    driver.hear()
    driver.record(driver.outcome("o", "a", values={"request": 7}))
    assert world.nodes("o")["a"].state == "DONE"


def test_an_operator_who_resolves_an_activity_of_a_failed_run_overrules_what_was_kept(
    world: World, driver: Driver
) -> None:
    end_and_fail(world, driver, values={"v": 1})
    go_silent(world, driver, "lost")
    world.operations.resolve_activity("o", "a", ORDER, Resolution({"v": 3}))
    assert (world.nodes("o")["a"].state, shown(world).ending) == ("DONE", "")
    assert world.orchestrations.get("o").processing_data == {"v": 3}


# Errors from outside


def test_an_early_failure_counts_with_the_first_answer_and_keeps_its_records(world: World, driver: Driver) -> None:
    begin(world, driver)
    made = end(world, driver, error="the registrar said no")
    assert world.state("o") == "RUNNING"
    (response,) = responses(driver.record(driver.outcome("o", "a", OutcomeKind.RETRY, values={"id": 7})).outbox)
    assert response.error_detail == "activity a (t): the registrar said no"
    assert world.orchestrations.get("o").processing_data == {"id": 7}
    world.orchestrations.end_activity("o", "a", made)
    assert world.history("o") == ["fatal"]


def test_an_early_failure_counts_when_the_lease_is_over(world: World, driver: Driver) -> None:
    begin(world, driver)
    end(world, driver, error="no")
    world.let_time_pass()
    (response,) = responses(driver.sweep().outbox)
    assert response.error_detail == "activity a (t): no"


def test_only_the_first_of_two_early_endings_counts(world: World, driver: Driver) -> None:
    begin(world, driver)
    end(world, driver, values={"v": 1})
    end(world, driver, values={"v": 2})
    with pytest.raises(ConflictError, match="otherwise"):
        end(world, driver, error="no")
    driver.record(driver.outcome("o", "a", OutcomeKind.WAIT))
    assert world.orchestrations.get("o").processing_data == {"v": 1}


def test_an_operator_who_resolves_an_activity_overrules_an_early_ending(world: World, driver: Driver) -> None:
    begin(world, driver)
    end(world, driver, error="no")
    world.operations.resolve_activity("o", "a", ORDER, Resolution({"v": 3}))
    assert world.nodes("o")["a"].state == "DONE"
    assert (shown(world).ending, world.orchestrations.get("o").processing_data) == ("", {"v": 3})


def test_an_early_ending_of_a_cancelled_run_counts_once_it_goes_on(world: World, driver: Driver) -> None:
    begin(world, driver)
    end(world, driver)
    driver.record(driver.outcome("o", "a", OutcomeKind.RETRY))
    world.operations.cancel("o", ORDER)
    assert world.nodes("o")["a"].state == "CANCELLED"
    world.operations.retry("o", ORDER)
    driver.hear()
    driver.record(driver.outcome("o", "a", OutcomeKind.WAIT))
    assert world.nodes("o")["a"].state == "DONE"


def test_what_is_erased_of_a_run_is_its_progress_too(world: World, driver: Driver) -> None:
    begin(world, driver)
    beat(world, driver, "writing to Ann")
    end(world, driver, values={"name": "Ann"})
    driver.record(driver.outcome("o", "a", OutcomeKind.RETRY))
    world.operations.cancel("o", ORDER)
    assert (shown(world).progress, shown(world).ending) == ("writing to Ann", "complete")
    assert world.operations.erase("of o", ORDER) == 1
    assert (shown(world).progress, shown(world).ending) == (None, "")


# The token


def test_the_token_is_another_than_that_of_the_dispatch_and_that_one_ends_nothing(world: World, driver: Driver) -> None:
    begin(world, driver)
    sent = driver.sent["o", "a"]
    foreign = CompletionKey("another").token("o", 0, "a", sent.token)
    others = [
        KEY.token(*of) for of in (("p", 0, "a", sent.token), ("o", 1, "a", sent.token), ("o", 0, "b", sent.token))
    ]
    for token in (sent.token, foreign, *others, "", "ö", "\ud800"):
        with pytest.raises(ForbiddenError):
            world.orchestrations.end_activity("o", "a", Ending(token=token))
    assert (world.nodes("o")["a"].state, shown(world).ending) == ("DISPATCHED", "")


def test_the_token_of_an_earlier_attempt_ends_nothing(world: World, driver: Driver) -> None:
    begin(world, driver)
    old = ending(driver.sent["o", "a"])
    world.let_time_pass()
    driver.sweep()
    with pytest.raises(ForbiddenError):
        world.orchestrations.end_activity("o", "a", old)
    assert shown(world).ending == ""


def test_without_a_key_there_is_no_token() -> None:
    with pytest.raises(FatalError, match="CFM_COMPLETION_KEY"):
        CompletionKey("").token("o", 0, "a", "t")
    assert "the key" not in repr(KEY)


# Large results


def test_a_result_of_five_thousand_values_reaches_the_next_activity(world: World, driver: Driver) -> None:
    begin(world, driver)
    values = {f"key.{n}": {"n": n, "text": "x" * 50} for n in range(5000)}
    sent = dispatches(driver.complete("o", "a", values=values, outputs=values).outbox)["b"]
    assert sent.values == values
    assert sent.outputs == values
    driver.record(driver.outcome("o", "b", deleted=list(values)[:4999], values={"key.4999": 1}))
    run = world.orchestrations.get("o")
    assert (run.state, run.processing_data) == ("COMPLETED", {"key.4999": 1})
    assert len(run.output_data) == 5000
