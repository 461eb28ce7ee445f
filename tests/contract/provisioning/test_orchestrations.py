from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from cfm_core.contracts.activity import ActivityDispatch, OutcomeKind
from cfm_core.contracts.orchestration import DEPLOY, TENANT_ID
from cfm_core.errors import ConflictError, ForbiddenError, NotFoundError, ValidationError
from cfm_core.provisioning.definitions.model import Activity
from cfm_core.provisioning.orchestrations.model import Ending
from cfm_core.query import Page, parse
from tests.contract.provisioning.world import DIAMOND, Driver, World, define, ending, manifest

ONE = [Activity("a", "t")]


def test_a_started_orchestration_is_shown_as_running(world: World) -> None:
    define(world, one=DIAMOND)
    started = world.orchestrations.start(manifest("o", "one", k=1))
    assert (started.id, started.correlation_id, started.type, started.state) == ("o", "of o", "one", "RUNNING")
    assert (started.activities, started.completed) == (DIAMOND, ())
    assert (started.processing_data, started.output_data) == ({"k": 1}, {})
    assert timedelta(0) <= datetime.now(UTC) - started.created_at < timedelta(seconds=60)
    assert started.state_at == started.created_at
    assert world.orchestrations.get("o") == started
    assert world.outbox() == ["event.cfm.activity.t.one"]


def test_starting_a_known_id_gives_the_run_that_has_it(world: World, driver: Driver) -> None:
    define(world, one=ONE, two=ONE)
    first = world.orchestrations.start(manifest("o", "one", k=1))
    assert world.orchestrations.start(manifest("o", "two", k=2)) == first
    assert world.orchestrations.start(manifest("o", "unknown")) == first
    assert len(world.outbox()) == 1


def test_starting_again_after_the_end_answers_nobody(world: World, driver: Driver) -> None:
    define(world, one=ONE)
    driver.start(manifest("o", "one"))
    driver.complete("o", "a")
    written = len(world.outbox())
    assert world.orchestrations.start(manifest("o", "one")).state == "COMPLETED"
    assert len(world.outbox()) == written


def test_an_unknown_type_is_the_callers_mistake(world: World) -> None:
    with pytest.raises(ValidationError, match="'nope'"):
        world.orchestrations.start(manifest("o", "nope"))
    assert world.outbox() == []


def test_what_cannot_be_stored_is_the_callers_mistake(world: World) -> None:
    define(world, one=ONE)
    with pytest.raises(ValidationError):
        world.orchestrations.start(manifest("o\0", "one"))
    with pytest.raises(ValidationError):
        world.orchestrations.start(manifest("o", "one", k="\0"))


@pytest.mark.parametrize("id_", ["nope", "", "a\0b", "x" * 5000])
def test_an_unknown_orchestration_is_not_found(world: World, id_: str) -> None:
    with pytest.raises(NotFoundError):
        world.orchestrations.get(id_)
    with pytest.raises(NotFoundError):
        world.orchestrations.history(id_)
    with pytest.raises(NotFoundError):
        world.orchestrations.end_activity(id_, "a", Ending(token="x"))


def test_completed_activities_data_and_errors_are_shown(world: World, driver: Driver) -> None:
    define(world, one=DIAMOND)
    driver.start(manifest("o", "one", k=1))
    driver.complete("o", "a", values={"v": 2}, outputs={"o": 3})
    driver.record(driver.outcome("o", "c", OutcomeKind.FATAL, reason="broken"))
    shown = world.orchestrations.get("o")
    assert (shown.state, shown.error_detail) == ("ERRORED", "activity c (t.two): broken")
    assert (shown.completed, shown.processing_data, shown.output_data) == (("a",), {"k": 1, "v": 2}, {"o": 3})
    assert shown.version > 0
    assert shown.state_at > shown.created_at


@pytest.mark.parametrize(
    ("predicate", "found"),
    [
        ("true", ["a", "b", "c", "d"]),
        ("state = 1", ["b", "c"]),
        ("state = 2", ["a"]),
        ("state = 3", ["d"]),
        ("state = '2'", []),
        ("correlationId = 'of b'", ["b"]),
        ("orchestrationType = 'two' AND definitionId = 'two'", ["c"]),
        ("id = 'a' AND state = 2", ["a"]),
        ("id = 'nope'", []),
        ("version = 0 AND state = 1", ["b", "c"]),
        ("createdTimestamp = '2020-01-01T00:00:00Z'", []),
        ("tenantId = ''", ["a", "b", "d"]),
        ("tenantId = 'tenant'", ["c"]),
    ],
)
def test_orchestrations_are_found_by_their_fields(
    world: World, driver: Driver, predicate: str, found: list[str]
) -> None:
    define(world, one=ONE, two=ONE)
    of_tenant = manifest("c", "two", **{TENANT_ID: "tenant"})
    driver.start(manifest("b", "one"), manifest("a", "one"), of_tenant, manifest("d", "one", **{TENANT_ID: 1}))
    driver.complete("a", "a")
    driver.record(driver.outcome("d", "a", OutcomeKind.FATAL))
    page = world.orchestrations.select(parse(predicate), Page())
    entries = json.loads(page.json)
    assert [entry["id"] for entry in entries] == found
    assert page.total == len(found)


def test_an_entry_has_the_fields_of_the_contract_in_order(world: World, driver: Driver) -> None:
    define(world, one=ONE)
    driver.start(manifest("o", "one"))
    (entry,) = json.loads(world.orchestrations.select(parse("true"), Page()).json)
    assert list(entry) == [
        *("id", "correlationId", "state", "stateTimestamp"),
        *("createdTimestamp", "orchestrationType", "definitionId"),
    ]
    created = datetime.fromisoformat(entry.pop("createdTimestamp"))
    assert entry.pop("stateTimestamp").endswith("Z")
    assert created == world.orchestrations.get("o").created_at
    assert entry == {
        "id": "o",
        "correlationId": "of o",
        "state": 1,
        "orchestrationType": "one",
        "definitionId": "one",
    }
    exactly = f"createdTimestamp = '{created.isoformat()}'"
    assert world.orchestrations.select(parse(exactly), Page()).total == 1


def test_a_page_past_the_end_is_empty_and_the_total_still_right(world: World, driver: Driver) -> None:
    define(world, one=ONE)
    driver.start(*(manifest(id_, "one") for id_ in "cab"))
    pages = [world.orchestrations.select(parse("true"), Page(offset, 2)) for offset in (0, 2, 4)]
    assert [[entry["id"] for entry in json.loads(page.json)] for page in pages] == [["a", "b"], ["c"], []]
    assert {page.total for page in pages} == {3}


def test_a_page_begins_behind_any_text(world: World, driver: Driver) -> None:
    define(world, one=ONE)
    ids = ["A", "a", "a'b", "a/b", "ö", "\U0001f600"]
    driver.start(*(manifest(id_, "one") for id_ in reversed(ids)))
    for place, id_ in enumerate(ids):
        page = world.orchestrations.select(parse("true"), Page(after=id_, limit=1))
        assert [entry["id"] for entry in json.loads(page.json)] == ids[place + 1 : place + 2]
        assert page.more == (place + 2 < len(ids))
    assert world.orchestrations.select(parse("true"), Page(after="x" * 5000)).size == 2
    with pytest.raises(ValidationError, match="after"):
        world.orchestrations.select(parse("true"), Page(after="\0"))


def test_whatever_is_seen_of_an_orchestration_raises_its_version(world: World, driver: Driver) -> None:
    define(world, deploy=[Activity("a", "t"), Activity("b", "t"), Activity("c", "t")])
    driver.start(manifest("o", DEPLOY))
    seen = [world.orchestrations.get("o")]

    def look() -> None:
        seen.append(world.orchestrations.get("o"))
        assert seen[-1].version > seen[-2].version

    for outcome in (
        driver.outcome("o", "a", values={"v": 1}),
        driver.outcome("o", "b", OutcomeKind.SCHEDULE, values={"v": 2}, after=timedelta(0)),
        driver.outcome("o", "c", OutcomeKind.WAIT, deleted=["v"]),
    ):
        driver.record(outcome)
        look()
    driver.sweep()
    driver.record(driver.outcome("o", "b", OutcomeKind.RETRY, outputs={"w": 1}))
    look()
    driver.record(driver.outcome("o", "c", OutcomeKind.FATAL))
    look()
    assert seen[-1].state == "ERRORED"


def test_a_field_that_orchestrations_lack_is_the_callers_mistake(world: World) -> None:
    with pytest.raises(ValidationError):
        world.orchestrations.select(parse("payload = 'x'"), Page())


def test_the_history_tells_how_each_attempt_ended(world: World, driver: Driver) -> None:
    define(world, one=DIAMOND)
    driver.start(manifest("o", "one"))
    assert world.orchestrations.history("o") == []
    driver.record(driver.outcome("o", "a", OutcomeKind.RETRY, reason="not now", after=timedelta(seconds=5)))
    (attempt,) = world.orchestrations.history("o")
    assert (attempt.activity_id, attempt.activity_type, attempt.outcome, attempt.reason) == (
        "a",
        "t.one",
        "retry",
        "not now",
    )
    assert (attempt.dispatch, attempt.attempt) == (1, 1)
    assert attempt.started_at is not None
    assert attempt.next_at is not None
    assert attempt.started_at <= attempt.ended_at
    assert attempt.next_at - attempt.ended_at == timedelta(seconds=5)


def test_the_history_of_an_unknown_orchestration_is_not_found(world: World) -> None:
    with pytest.raises(NotFoundError):
        world.orchestrations.history("nope")


def waiting(world: World, driver: Driver) -> ActivityDispatch:
    """A run whose only activity waits; gives its dispatch."""
    define(world, one=ONE)
    driver.start(manifest("o", "one"))
    driver.record(driver.outcome("o", "a", OutcomeKind.WAIT, after=timedelta(hours=1)))
    assert world.nodes("o")["a"].state == "WAITING"
    return driver.sent["o", "a"]


def test_a_waiting_activity_is_ended_from_outside_with_what_it_records(world: World, driver: Driver) -> None:
    sent = waiting(world, driver)
    end = ending(sent, values={"v": 1}, outputs={"o": 2})
    world.orchestrations.end_activity("o", "a", end)
    ended = world.orchestrations.get("o")
    assert (ended.state, ended.processing_data["v"], ended.output_data) == ("COMPLETED", 1, {"o": 2})
    rows = world.outbox()
    world.orchestrations.end_activity("o", "a", end)
    assert world.outbox() == rows
    with pytest.raises(ConflictError, match="done"):
        world.orchestrations.end_activity("o", "a", ending(sent, error="no"))


def test_an_activity_can_be_ended_before_its_agent_says_that_it_waits(world: World, driver: Driver) -> None:
    define(world, one=ONE)
    driver.start(manifest("o", "one"))
    late = driver.outcome("o", "a", OutcomeKind.WAIT)
    world.orchestrations.end_activity("o", "a", ending(driver.sent["o", "a"]))
    driver.record(late)
    assert world.orchestrations.get("o").state == "COMPLETED"


def test_a_waiting_activity_that_fails_outside_fails_its_orchestration(world: World, driver: Driver) -> None:
    sent = waiting(world, driver)
    world.orchestrations.end_activity("o", "a", ending(sent, error="the registrar said no"))
    ended = world.orchestrations.get("o")
    assert (ended.state, ended.error_detail) == ("ERRORED", "activity a (t): the registrar said no")
    with pytest.raises(ConflictError, match="failed"):
        world.orchestrations.end_activity("o", "a", ending(sent))


def test_only_the_token_of_the_last_dispatch_ends_an_activity(world: World, driver: Driver) -> None:
    waiting(world, driver)
    with pytest.raises(ForbiddenError):
        world.orchestrations.end_activity("o", "a", Ending(token="00000000-0000-4000-8000-000000000000"))
    with pytest.raises(NotFoundError):
        world.orchestrations.end_activity("o", "b", Ending(token="x"))
    with pytest.raises(NotFoundError):
        world.orchestrations.end_activity("nope", "a", Ending(token="x"))
    assert world.nodes("o")["a"].state == "WAITING"
