from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cfm_core.clock import system_clock
from cfm_core.entities import JsonEntity
from cfm_core.errors import ConflictError, NotFoundError, PreconditionFailedError, RefusedError, ValidationError
from cfm_core.provisioning.definitions.model import Activity, ActivityDefinition, OrchestrationTemplate
from cfm_core.provisioning.operations.model import Order
from cfm_core.provisioning.orchestrations.v1alpha1 import instant
from cfm_core.provisioning.schedules.v1alpha1 import NewSchedule, ScheduleDiff
from cfm_core.query import Page, parse
from cfm_core.versions import Expected
from tests.contract.provisioning.world import Driver, World, all_dispatches, define, manifest, orchestration_definitions

ORDER = Order(actor="ann", reason="not now", request_id="r1")
ONE = [Activity("a", "t")]
PAST = datetime(2026, 1, 10, 3, 0, tzinfo=UTC)
RUN = "nightly.20260110T030000Z"
LATER = timedelta(minutes=1)


def new(**said: Any) -> NewSchedule:
    return NewSchedule(**({"cron": "0 3 * * *", "orchestration_type": "one"} | said))


def nightly(world: World, **said: Any) -> None:
    define(world, one=ONE)
    world.schedules.put("nightly", new(**said), ORDER)


def shown(world: World, schedule_id: str = "nightly") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(world.schedules.get(schedule_id).text)
    return found


def next_at(found: JsonEntity | dict[str, Any]) -> datetime:
    document = json.loads(found.text) if isinstance(found, JsonEntity) else found
    return datetime.fromisoformat(document["nextAt"])


def sweep(world: World, driver: Driver) -> list[str]:
    """Start what is due; gives the ids of the runs."""
    progress = driver.take(world.due_starts.sweep())
    return [one.orchestration_id for one in all_dispatches(progress.outbox)]


def come_due(world: World, driver: Driver, at: datetime = PAST, schedule_id: str = "nightly") -> list[str]:
    world.set_next(schedule_id, at)
    return sweep(world, driver)


# Schedules --------------------------------------------------------------------------------------------------------------


def test_a_schedule_is_created_shown_and_deleted(world: World) -> None:
    define(world, one=ONE)
    full = new(id="s", time_zone="Europe/Berlin", overlap="queue", correlation_id="c", payload={"k": {"ö": [1]}})
    id_, created = world.schedules.create(full, ORDER)
    assert (id_, created.version) == ("s", 0)
    document = json.loads(created.text)
    assert document.pop("createdTimestamp") < document.pop("nextAt")
    assert document == {
        "id": "s",
        "version": 0,
        "cron": "0 3 * * *",
        "timeZone": "Europe/Berlin",
        "overlap": "queue",
        "orchestrationType": "one",
        "correlationId": "c",
        "payload": {"k": {"ö": [1]}},
        "paused": False,
    }
    assert world.schedules.get("s") == created
    world.schedules.delete("s", ORDER)
    for absent in (lambda: world.schedules.get("s"), lambda: world.schedules.delete("s", ORDER)):
        with pytest.raises(NotFoundError):
            absent()


def test_an_id_is_chosen_by_the_caller_or_made_up(world: World) -> None:
    define(world, one=ONE)
    first, _ = world.schedules.create(new(), ORDER)
    second, _ = world.schedules.create(new(), ORDER)
    assert len({first, second}) == 2
    with pytest.raises(ConflictError):
        world.schedules.create(new(id=first), ORDER)


@pytest.mark.parametrize("id_", ["x" * 496, "a/b", "a\nb", "a\0b"])
def test_an_id_that_no_path_can_name_is_refused(world: World, id_: str) -> None:
    define(world, one=ONE)
    with pytest.raises(ValidationError):
        world.schedules.put(id_, new(), ORDER)


def test_what_could_never_start_anything_is_refused(world: World) -> None:
    define(world, one=ONE)
    wrong: list[dict[str, Any]] = [{"cron": "61 * * * *"}, {"time_zone": "Nowhere"}, {"cron": "0 0 */40 2 MON#5"}]
    for said in wrong:
        for paused in (True, False):
            with pytest.raises(ValidationError):
                world.schedules.create(new(**said, paused=paused), ORDER)
    with pytest.raises(RefusedError) as refused:
        world.schedules.create(new(orchestration_type="two"), ORDER)
    assert [one.pointer for one in refused.value.errors] == ["/orchestrationType"]
    assert world.schedules.select("true", Page()).total == 0


def test_a_schedule_is_put_in_view_of_a_version(world: World) -> None:
    define(world, one=ONE)
    is_new, first = world.schedules.put("s", new(), ORDER, Expected(exists=False))
    assert is_new
    is_new, second = world.schedules.put("s", new(payload={"k": 1}), ORDER, Expected(frozenset({first.version})))
    assert (is_new, second.version) == (False, first.version + 1)
    for expected in (Expected(frozenset({first.version})), Expected(exists=False)):
        with pytest.raises(PreconditionFailedError):
            world.schedules.put("s", new(), ORDER, expected)
        with pytest.raises(PreconditionFailedError):
            world.schedules.change("s", ScheduleDiff(paused=True), ORDER, expected)
        with pytest.raises(PreconditionFailedError):
            world.schedules.delete("s", ORDER, expected)
    with pytest.raises(PreconditionFailedError):
        world.schedules.put("t", new(), ORDER, Expected(exists=True))
    assert world.schedules.get("s") == second


def test_put_again_a_schedule_keeps_its_next_time_unless_its_times_are_others(world: World, driver: Driver) -> None:
    nightly(world)
    world.set_next("nightly", PAST)
    assert next_at(world.schedules.put("nightly", new(payload={"k": 1}), ORDER)[1]) == PAST
    assert next_at(world.schedules.put("nightly", new(cron="0 4 * * *"), ORDER)[1]) > system_clock()
    assert sweep(world, driver) == []


def test_schedules_are_listed_by_id_and_searched(world: World) -> None:
    define(world, one=ONE, two=ONE)
    given: dict[str, dict[str, Any]] = {
        "b": {"orchestration_type": "two", "paused": True},
        "a": {"payload": {"k": {"n": 5}}, "time_zone": "Asia/Tokyo"},
        "c": {},
    }
    for id_, said in given.items():
        world.schedules.put(id_, new(**said), ORDER)

    def found(predicate: str) -> list[str]:
        return [one["id"] for one in json.loads(world.schedules.select(predicate, Page()).json)]

    assert found("true") == ["a", "b", "c"]
    assert found("paused = true") == ["b"]
    assert found("orchestrationType = 'two' OR timeZone = 'Asia/Tokyo'") == ["a", "b"]
    assert found("nextAt > '2026-01-01T00:00:00Z'") == ["a", "c"]
    assert found("lastError = ''") == ["a", "b", "c"]
    page = world.schedules.select("true", Page(limit=1, after="a"))
    assert (page.total, page.more, page.last) == (3, True, "b")
    for predicate in ("nope = 1", "payload.k.n = 5", "payload LIKE '%5%'"):
        with pytest.raises(ValidationError):
            found(predicate)


# What is due ------------------------------------------------------------------------------------------------------------


def test_nothing_is_started_before_its_time(world: World, driver: Driver) -> None:
    nightly(world)
    assert sweep(world, driver) == []
    assert "lastAt" not in shown(world)


def test_a_schedule_that_is_due_starts_its_run_once(world: World, driver: Driver) -> None:
    nightly(world, payload={"k": 1})
    before = shown(world)["version"]
    assert come_due(world, driver) == [RUN]
    assert sweep(world, driver) == []
    run = world.orchestrations.get(RUN)
    assert (run.type, run.correlation_id, run.processing_data) == ("one", RUN, {"k": 1})
    after = shown(world)
    assert (after["lastAt"], after["lastManifestId"]) == ("2026-01-10T03:00:00Z", RUN)
    assert after["version"] == before + 1
    assert next_at(after) > system_clock()


def test_runs_have_the_correlation_id_of_their_schedule_where_it_has_one(world: World, driver: Driver) -> None:
    nightly(world, correlation_id="c")
    come_due(world, driver)
    assert world.orchestrations.get(RUN).correlation_id == "c"


def test_a_time_that_comes_again_starts_nothing_again(world: World, driver: Driver) -> None:
    nightly(world, overlap="allow")
    come_due(world, driver)
    # Whatever the reason may be in life: a backup, a clock.
    assert come_due(world, driver) == []
    assert shown(world)["lastManifestId"] == RUN
    assert "lastError" not in shown(world)


def test_however_many_times_were_missed_one_run_makes_up_for_them(world: World, driver: Driver) -> None:
    nightly(world, cron="*/5 * * * *", overlap="allow")
    assert come_due(world, driver) == [RUN]
    assert sweep(world, driver) == []
    assert next_at(shown(world)) > system_clock()


def test_a_paused_schedule_starts_nothing_and_makes_up_for_nothing(world: World, driver: Driver) -> None:
    nightly(world)
    world.set_next("nightly", PAST)
    paused = world.schedules.change("nightly", ScheduleDiff(paused=True), ORDER)
    assert "nextAt" not in json.loads(paused.text)
    assert sweep(world, driver) == []
    resumed = world.schedules.change("nightly", ScheduleDiff(paused=False), ORDER)
    assert next_at(resumed) > system_clock()
    assert sweep(world, driver) == []


def test_pausing_what_is_paused_leaves_it_paused(world: World) -> None:
    nightly(world, paused=True)
    assert json.loads(world.schedules.change("nightly", ScheduleDiff(paused=True), ORDER).text)["paused"]
    with pytest.raises(NotFoundError):
        world.schedules.change("nope", ScheduleDiff(paused=True), ORDER)


def test_skip_leaves_a_time_out_while_the_last_run_goes_on(world: World, driver: Driver) -> None:
    nightly(world, overlap="skip")
    come_due(world, driver)
    assert come_due(world, driver, PAST + LATER) == []
    assert (shown(world)["skippedAt"], shown(world)["lastManifestId"]) == ("2026-01-10T03:01:00Z", RUN)
    assert next_at(shown(world)) > system_clock()
    driver.complete(RUN, "a")
    assert come_due(world, driver, PAST + 2 * LATER) == ["nightly.20260110T030200Z"]


def test_queue_starts_one_run_when_the_last_one_has_ended(world: World, driver: Driver) -> None:
    nightly(world, overlap="queue")
    come_due(world, driver)
    assert come_due(world, driver, PAST + LATER) == []
    assert next_at(shown(world)) == PAST + LATER, "it waits"
    driver.complete(RUN, "a")
    assert sweep(world, driver) == ["nightly.20260110T030100Z"]
    assert sweep(world, driver) == []
    assert next_at(shown(world)) > system_clock()


def test_allow_starts_a_run_beside_the_last_one(world: World, driver: Driver) -> None:
    nightly(world, overlap="allow")
    come_due(world, driver)
    assert come_due(world, driver, PAST + LATER) == ["nightly.20260110T030100Z"]


def test_a_schedule_whose_type_is_gone_says_so_and_stops_no_other(world: World, driver: Driver) -> None:
    define(world, one=ONE)
    define(world, two=ONE)
    (template,) = {one.template_ref for one in orchestration_definitions(world) if one.type == "two"}
    world.schedules.put("gone", new(orchestration_type="two"), ORDER)
    world.schedules.put("nightly", new(), ORDER)
    world.definitions.delete_template(template)
    world.set_next("nightly", PAST)
    assert come_due(world, driver, PAST - LATER, "gone") == [RUN]
    found = shown(world, "gone")
    assert found["lastError"] == "there is no active orchestration type two"
    assert "lastManifestId" not in found
    assert next_at(found) > system_clock()
    define(world, two=ONE)
    assert come_due(world, driver, PAST, "gone") == ["gone.20260110T030000Z"]
    assert "lastError" not in shown(world, "gone")


def test_a_schedule_is_deleted_without_its_runs(world: World, driver: Driver) -> None:
    nightly(world)
    come_due(world, driver)
    world.schedules.delete("nightly", ORDER)
    assert world.state(RUN) == "RUNNING"
    assert sweep(world, driver) == []


# Delayed starts ---------------------------------------------------------------------------------------------------------


def in_an_hour() -> datetime:
    return system_clock() + timedelta(hours=1)


def test_what_is_to_start_later_is_shown_and_starts_when_its_time_has_come(world: World, driver: Driver) -> None:
    define(world, one=ONE)
    at = in_an_hour()
    kept = world.orchestrations.start(manifest("o", "one", k=1), at)
    assert (kept.state, kept.state.number, kept.start_at) == ("SCHEDULED", 0, at)
    assert (kept.correlation_id, kept.processing_data, kept.activities) == ("of o", {"k": 1}, tuple(ONE))
    assert world.orchestrations.get("o") == kept
    assert world.orchestrations.history("o") == []
    assert sweep(world, driver) == []
    world.set_start("o", PAST)
    assert sweep(world, driver) == ["o"]
    assert sweep(world, driver) == []
    run = world.orchestrations.get("o")
    assert (run.state, run.start_at, run.processing_data) == ("RUNNING", None, {"k": 1})
    assert run.version > kept.version
    driver.complete("o", "a")
    assert world.state("o") == "COMPLETED"


def listed(world: World, predicate: str = "true", **page: Any) -> list[dict[str, Any]]:
    return list(json.loads(world.orchestrations.select(parse(predicate), Page(**page)).json))


def test_what_is_to_start_later_is_listed_and_says_so(world: World, driver: Driver) -> None:
    define(world, one=ONE)
    at = datetime(2999, 1, 1, tzinfo=UTC)
    for id_ in ("b", "d", "f"):
        kept = world.orchestrations.start(manifest(id_, "one"), at)
    driver.start(manifest("a", "one"), manifest("c", "one"), manifest("e", "one"))
    world.archive()
    assert [one["id"] for one in listed(world)] == ["a", "b", "c", "d", "e", "f"]
    assert listed(world, "id = 'f'") == [
        {
            "id": "f",
            "correlationId": "of f",
            "state": 0,
            "stateTimestamp": instant(kept.state_at),
            "createdTimestamp": instant(kept.created_at),
            "orchestrationType": "one",
            "definitionId": "one",
            "startAt": "2999-01-01T00:00:00Z",
            "status": "queued",
        }
    ]
    assert {"startAt", "status"} & {name for one in listed(world, "state = 1") for name in one} == set()
    assert [one["id"] for one in listed(world, "state = 0")] == ["b", "d", "f"]
    assert [one["id"] for one in listed(world, "correlationId IN ('of a', 'of b') AND tenantId = ''")] == ["a", "b"]
    assert [one["id"] for one in listed(world, limit=2, offset=1)] == ["b", "c"]
    assert [one["id"] for one in listed(world, limit=2, after="c")] == ["d", "e"]
    found = world.orchestrations.select(parse("true"), Page(limit=1))
    assert (found.total, found.more) == (6, True)


def test_what_will_not_start_any_more_is_listed_with_its_end(world: World) -> None:
    define(world, one=ONE)
    world.orchestrations.start(manifest("o", "one"), in_an_hour())
    world.operations.cancel("o", ORDER)
    assert [(one["id"], one["state"], one["status"]) for one in listed(world)] == [("o", 3, "cancelled")]


def test_what_has_started_before_its_time_is_listed_once(world: World, driver: Driver) -> None:
    define(world, one=ONE)
    world.orchestrations.start(manifest("o", "one"), in_an_hour())
    driver.start(manifest("o", "one"))
    for predicate in ("true", "id = 'o'", "state < 2"):
        (one,) = listed(world, predicate)
        assert (one["state"], "startAt" in one) == (1, False)
        (one,) = listed(world, predicate, after="n")
        assert one["state"] == 1
    assert listed(world, "true", offset=1) == []
    assert listed(world, "state = 0") == []


def test_a_time_that_has_passed_is_now(world: World, driver: Driver) -> None:
    define(world, one=ONE)
    world.orchestrations.start(manifest("o", "one"), PAST)
    assert sweep(world, driver) == ["o"]


def test_an_id_that_is_to_start_later_is_known(world: World, driver: Driver) -> None:
    define(world, one=ONE)
    kept = world.orchestrations.start(manifest("o", "one"), in_an_hour())
    assert world.orchestrations.start(manifest("o", "one", other=1), PAST) == kept
    assert world.orchestrations.start(manifest("o", "nope")) == kept
    assert (sweep(world, driver), world.outbox()) == ([], [])


def test_an_id_that_has_started_does_not_start_later(world: World, driver: Driver) -> None:
    define(world, one=ONE)
    driver.start(manifest("o", "one"))
    run = world.orchestrations.get("o")
    assert world.orchestrations.start(manifest("o", "one"), PAST) == run
    assert sweep(world, driver) == []
    assert world.orchestrations.get("o") == run


def test_a_manifest_from_elsewhere_starts_at_once_what_was_to_start_later(world: World, driver: Driver) -> None:
    define(world, one=ONE)
    world.orchestrations.start(manifest("o", "one"), in_an_hour())
    driver.start(manifest("o", "one"))
    assert world.orchestrations.get("o").state == "RUNNING"
    world.set_start("o", PAST)
    assert sweep(world, driver) == []


def test_an_unknown_type_is_refused_at_once(world: World) -> None:
    define(world, one=ONE)
    with pytest.raises(ValidationError):
        world.orchestrations.start(manifest("o", "nope"), in_an_hour())
    with pytest.raises(NotFoundError):
        world.orchestrations.get("o")


def test_what_nobody_defines_any_more_when_its_time_has_come_says_so(world: World, driver: Driver) -> None:
    define(world, one=ONE)
    define(world, two=ONE)
    world.orchestrations.start(manifest("gone", "one"), in_an_hour())
    world.orchestrations.start(manifest("o", "two"), PAST)
    (template,) = {one.template_ref for one in orchestration_definitions(world) if one.type == "one"}
    world.definitions.delete_template(template)
    world.set_start("gone", PAST)
    assert sweep(world, driver) == ["o"]
    found = world.orchestrations.get("gone")
    assert (found.state, found.error_detail) == ("ERRORED", "there is no active orchestration type one")
    assert sweep(world, driver) == []


def test_what_did_not_start_is_erased_with_the_runs_of_its_correlation_id(world: World, driver: Driver) -> None:
    define(world, one=ONE)
    world.orchestrations.start(manifest("o", "one", name="Ann"), in_an_hour())
    world.orchestrations.start(manifest("p", "one", name="Bob"), in_an_hour())
    with pytest.raises(ConflictError) as refused:
        world.operations.erase("of o", ORDER)
    assert refused.value.context == {"usedBy": ["o"]}
    world.operations.cancel("o", ORDER)
    assert world.operations.erase("of o", ORDER) == 1
    assert world.operations.erase("of o", ORDER) == 0
    with pytest.raises(NotFoundError):
        world.orchestrations.get("o")
    assert world.orchestrations.get("p").state == "SCHEDULED"


def test_what_is_to_start_later_can_be_cancelled_and_run_again(world: World, driver: Driver) -> None:
    define(world, one=ONE)
    kept = world.orchestrations.start(manifest("o", "one", k=1), in_an_hour())
    with pytest.raises(ConflictError) as refused:
        world.operations.pause("o", ORDER)
    assert refused.value.context == {"allowedActions": ["cancel"]}
    cancelled = world.operations.cancel("o", ORDER)
    assert (cancelled.state, cancelled.error_detail) == ("CANCELLED", "cancelled: not now")
    assert cancelled.version > kept.version
    assert world.operations.cancel("o", ORDER) == cancelled
    world.set_start("o", PAST)
    assert (sweep(world, driver), world.outbox()) == ([], [])
    for forbidden in (world.operations.retry, world.operations.compensate):
        with pytest.raises(ConflictError) as refused:
            forbidden("o", ORDER)
        assert refused.value.context == {"allowedActions": ["rerun"]}
    again = world.operations.rerun("o", ORDER)
    assert (again.id, again.state, again.processing_data) == ("o.again", "RUNNING", {"k": 1})
    noted = json.loads(world.operations.select("orchestrationId = 'o'", Page()).json)
    assert [(one["action"], one["before"], one["after"]) for one in noted] == [
        ("cancel", "scheduled", "cancelled"),
        ("rerun", "cancelled", "cancelled"),
    ]


def test_what_is_done_to_schedules_is_noted_once(world: World) -> None:
    define(world, one=ONE)
    world.schedules.create(new(id="s"), ORDER)
    for paused in (True, True, False):
        world.schedules.change("s", ScheduleDiff(paused=paused), ORDER)
    world.set_next("s", PAST)
    world.due_starts.sweep()
    world.schedules.put("s", new(paused=True), ORDER)
    with pytest.raises(PreconditionFailedError):
        world.schedules.put("s", new(), ORDER, Expected(frozenset({77})))
    with pytest.raises(ConflictError):
        world.schedules.create(new(id="s"), ORDER)
    world.schedules.delete("s", ORDER)
    noted = json.loads(world.operations.select("scheduleId = 's'", Page()).json)
    assert [(each["action"], each["before"], each["after"]) for each in noted] == [
        ("create", "absent", "active"),
        ("pause", "active", "paused"),
        ("resume", "paused", "active"),
        ("replace", "active", "paused"),
        ("delete", "paused", "deleted"),
    ]


def test_a_schedule_names_the_template_of_its_runs(world: World, driver: Driver) -> None:
    for template in ("first", "second"):
        world.definitions.put_activity_definition(ActivityDefinition(type=template))
        activities = {"one": [Activity("a", template)]}
        world.definitions.put_template(OrchestrationTemplate(id=template, activities=activities))
    _, made = world.schedules.create(new(id="s", template_ref="first"), ORDER)
    assert json.loads(made.text)["templateRef"] == "first"
    assert [one["id"] for one in json.loads(world.schedules.select("templateRef = 'first'", Page()).json)] == ["s"]
    with pytest.raises(RefusedError) as refused:
        world.schedules.put("s", new(template_ref="third"), ORDER)
    assert [one.pointer for one in refused.value.errors] == ["/templateRef"]
    world.set_next("s", PAST)
    (sent,) = all_dispatches(driver.take(world.due_starts.sweep()).outbox)
    assert sent.activity_type == "first"
    driver.complete(sent.orchestration_id, "a")
    world.definitions.delete_template("first")
    world.set_next("s", PAST + timedelta(days=1))
    world.due_starts.sweep()
    found = json.loads(world.schedules.get("s").text)
    assert found["lastError"] == "there is no active orchestration type one in template first"
