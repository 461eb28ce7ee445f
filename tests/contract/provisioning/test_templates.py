"""Templates side by side: which one a run starts with, and what becomes of those that are replaced."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from cfm_core.contracts.activity import OutcomeKind
from cfm_core.contracts.orchestration import DEPLOY, DISPOSE, OrchestrationManifest
from cfm_core.errors import NotFoundError, PreconditionFailedError, RefusedError, ValidationError
from cfm_core.provisioning.definitions.model import Activity, ActivityDefinition, OrchestrationTemplate
from cfm_core.provisioning.definitions.service import InUseError
from cfm_core.query import Page, parse
from cfm_core.versions import Expected
from tests.contract.provisioning.world import (
    Driver,
    PostgresWorld,
    World,
    definitions_of,
    dispatches,
    manifest,
    manifests,
    orchestration_definitions,
    responses,
)


def template(id_: str, *types: str, activity: str = "", active: bool = True) -> OrchestrationTemplate:
    """Each type has one activity, called like the template."""
    return OrchestrationTemplate(
        id=id_, activities={type_: [Activity(activity or id_, "t")] for type_ in types}, active=active
    )


def of_template(id_: str, type_: str, template_ref: str) -> OrchestrationManifest:
    return manifest(id_, type_).model_copy(update={"template_ref": template_ref})


def listed(world: World) -> list[tuple[str, str]]:
    return [(one.type, one.template_ref) for one in orchestration_definitions(world)]


@pytest.fixture(autouse=True)
def known_type(world: World) -> None:
    world.definitions.put_activity_definition(ActivityDefinition(type="t"))


def test_posted_templates_leave_one_definition_to_each_type(world: World) -> None:
    for id_ in ("install 1", "install 2", "install 3"):
        world.definitions.add_template(template(id_, DEPLOY, DISPOSE))
    assert listed(world) == [(DEPLOY, "install 3"), (DISPOSE, "install 3")]
    with pytest.raises(NotFoundError):
        world.definitions.get_template("install 2")


def test_a_template_that_was_put_keeps_its_types_and_leaves_others_theirs(world: World) -> None:
    world.definitions.add_template(template("posted", "x"))
    world.definitions.put_template(template("put", "x"))
    assert sorted(listed(world)) == [("x", "posted"), ("x", "put")]
    world.definitions.add_template(template("posted later", "x"))
    assert sorted(listed(world)) == [("x", "posted later"), ("x", "put")]
    world.definitions.add_template(template("put", "x", "y"))
    assert sorted(listed(world)) == [("x", "posted later"), ("x", "put"), ("y", "put")]


def test_a_run_starts_with_the_newest_template_or_the_one_that_is_named(world: World, driver: Driver) -> None:
    world.definitions.put_template(template("one", "x"))
    world.definitions.put_template(template("two", "x"))
    driver.start(manifest("newest", "x"), of_template("named", "x", "one"))
    assert (list(world.nodes("newest")), list(world.nodes("named"))) == (["two"], ["one"])
    world.definitions.put_template(template("one", "x", activity="one again"))
    driver.start(manifest("newest 2", "x"))
    assert list(world.nodes("newest 2")) == ["one again"]
    assert world.orchestrations.start(of_template("by hand", "x", "two")).activities[0].id == "two"


def test_a_template_that_is_not_active_starts_nothing_and_is_shown_as_such(world: World, driver: Driver) -> None:
    world.definitions.add_template(template("one", "x"))
    world.definitions.add_template(template("two", "x", active=False))
    assert sorted(listed(world)) == [("x", "one"), ("x", "two")]
    driver.start(manifest("a", "x"))
    assert list(world.nodes("a")) == ["one"]
    (refused,) = responses(driver.start(of_template("b", "x", "two")).outbox)
    assert (refused.success, refused.error_detail) == (False, "there is no active orchestration type x in template two")
    with pytest.raises(ValidationError) as caught:
        world.orchestrations.start(of_template("b", "x", "two"))
    assert [error.pointer for error in caught.value.errors] == ["/templateRef"]
    shown = json.loads(world.definitions.get_template("two").text)
    assert [one["active"] for one in shown] == [False]
    page = world.definitions.select_orchestration_definitions(parse("active = false"), Page())
    assert [one["templateRef"] for one in json.loads(page.json)] == ["two"]


def test_switching_a_template_off_and_on_again_changes_what_runs_start_with(world: World, driver: Driver) -> None:
    world.definitions.put_template(template("one", "x"))
    before = world.definitions.put_template(template("two", "x")).template
    off = world.definitions.set_active("two", False, Expected(frozenset({before.version})))
    assert off.version > before.version
    assert world.definitions.set_active("two", False) == off
    driver.start(manifest("a", "x"))
    on = world.definitions.set_active("two", True)
    driver.start(manifest("b", "x"))
    assert (list(world.nodes("a")), list(world.nodes("b"))) == (["one"], ["two"])
    assert (on.text, on.version > off.version) == (before.text, True)


def test_a_template_in_another_version_is_not_switched(world: World) -> None:
    before = world.definitions.put_template(template("one", "x")).template
    with pytest.raises(PreconditionFailedError):
        world.definitions.set_active("one", False, Expected(frozenset({before.version + 1})))
    with pytest.raises(NotFoundError):
        world.definitions.set_active("nope", False)
    assert world.definitions.get_template("one") == before


def test_a_template_is_switched_on_only_if_it_could_run(world: World) -> None:
    world.definitions.put_template(template("one", "x", active=False))
    world.definitions.delete_activity_definition("t")
    with pytest.raises(ValidationError, match="there is no activity type 't'"):
        world.definitions.set_active("one", True)
    assert [one.active for one in definitions_of(world, "one")] == [False]


def test_what_undoes_a_run_is_of_its_own_template_even_if_that_is_not_active_any_more(
    world: World, driver: Driver
) -> None:
    world.definitions.put_template(template("one", DEPLOY, DISPOSE))
    world.definitions.put_template(template("two", DEPLOY, DISPOSE))
    driver.start(of_template("o", DEPLOY, "one"))
    world.definitions.set_active("one", False)
    progress = driver.record(driver.outcome("o", "one", OutcomeKind.FATAL))
    driver.start(*manifests(progress.outbox))
    assert list(world.nodes("o.compensate")) == ["one"]
    driver.complete("o.compensate", "one")
    assert world.state("o") == "COMPENSATED"


def test_a_run_of_a_replaced_template_is_undone_by_the_one_that_replaced_it(world: World, driver: Driver) -> None:
    world.definitions.add_template(template("one", DEPLOY, DISPOSE))
    driver.start(manifest("o", DEPLOY))
    world.definitions.add_template(template("two", DEPLOY, DISPOSE))
    progress = driver.record(driver.outcome("o", "one", OutcomeKind.FATAL))
    driver.start(*manifests(progress.outbox))
    assert list(world.nodes("o.compensate")) == ["two"]


def test_a_run_without_a_way_to_undo_it_ends_with_its_error(world: World, driver: Driver) -> None:
    world.definitions.put_template(template("one", DEPLOY))
    world.definitions.put_template(template("two", DISPOSE))
    driver.start(manifest("o", DEPLOY))
    driver.record(driver.outcome("o", "one", OutcomeKind.FATAL))
    assert world.state("o") == "ERRORED"


def test_an_activity_type_is_in_use_by_active_definitions_only(world: World) -> None:
    world.definitions.put_template(template("one", "x"))
    with pytest.raises(InUseError, match="referenced by an orchestration definition: x"):
        world.definitions.delete_activity_definition("t")
    world.definitions.set_active("one", False)
    world.definitions.delete_activity_definition("t")


def test_an_activity_type_is_in_use_by_runs_that_have_not_ended(world: World, driver: Driver) -> None:
    world.definitions.put_template(template("one", "x"))
    driver.start(manifest("o", "x"))
    world.definitions.set_active("one", False)
    with pytest.raises(InUseError) as caught:
        world.definitions.delete_activity_definition("t")
    assert (caught.value.status, caught.value.context) == (400, {"usedBy": ["o"]})
    driver.complete("o", "one")
    world.definitions.delete_activity_definition("t")


def field(name: str, type_: str = "string") -> dict[str, object]:
    return {"properties": {name: {"type": type_}}}


def wired(world: World, *, active: bool = True) -> None:
    """A deployment where ``a`` delivers what ``b`` requires."""
    world.definitions.put_activity_definition(ActivityDefinition(type="a", output_schema=field("k")))
    world.definitions.put_activity_definition(
        ActivityDefinition(type="b", input_schema=field("k") | {"required": ["k"]})
    )
    activities = {DEPLOY: [Activity("1", "a"), Activity("2", "b", ("1",))]}
    world.definitions.put_template(OrchestrationTemplate(id="tpl", activities=activities, active=active))


def test_an_activity_type_keeps_what_active_definitions_need_of_it(world: World) -> None:
    wired(world)
    for definition, pointer, detail in (
        (ActivityDefinition(type="a"), "/outputSchema", "delivers 'k'"),
        (ActivityDefinition(type="a", output_schema=field("k", "array")), "/outputSchema", "as array and required as"),
        (ActivityDefinition(type="b", input_schema={"required": ["other"]}), "/inputSchema", "delivers 'other'"),
    ):
        before = world.definitions.get_activity_definition(definition.type)
        with pytest.raises(RefusedError) as caught:
            world.definitions.put_activity_definition(definition)
        (error,) = caught.value.errors
        assert error.pointer == pointer
        assert detail in error.detail
        assert f"activity '2' of '{DEPLOY}' in template 'tpl'" in error.detail
        assert world.definitions.get_activity_definition(definition.type) == before
    world.definitions.put_activity_definition(ActivityDefinition(type="a", output_schema=field("k"), description="D"))


def test_what_is_not_active_does_not_hold_an_activity_type(world: World) -> None:
    wired(world, active=False)
    world.definitions.put_activity_definition(ActivityDefinition(type="a"))
    with pytest.raises(ValidationError, match="delivers 'k'"):
        world.definitions.set_active("tpl", True)


def test_other_schemas_of_an_activity_type_make_a_new_version_of_its_definitions(world: World) -> None:
    world.definitions.add_template(template("one", "x"))
    before = world.definitions.get_template("one")

    def versions() -> list[int]:
        return [
            n
            for n in range(1, 6)
            if world.definitions.select_orchestration_definitions(parse(f"version = {n}"), Page()).size
        ]

    world.definitions.put_activity_definition(ActivityDefinition(type="t", timeout=timedelta(seconds=1)))
    assert versions() == [1]
    world.definitions.put_activity_definition(ActivityDefinition(type="t", output_schema=field("k")))
    assert versions() == [2]
    assert world.definitions.get_template("one") == before


def test_definitions_without_runs_are_forgotten_once_they_are_replaced(world: World) -> None:
    driver = Driver(world)
    for number in range(4):
        world.definitions.add_template(template(f"tpl {number}", "x", activity=f"a{number}"))
        if number == 1:
            driver.start(manifest("o", "x"))
    world.definitions.delete_template("tpl 3")
    world.definitions.forget(unused_for=timedelta(hours=1))
    if isinstance(world, PostgresWorld):
        count = "SELECT count(*) FROM provision_manager.definition"
        assert world.database.value(count) == 4
        assert world.definitions.forget(most=1, unused_for=timedelta(0)) == 1
        assert world.definitions.forget(unused_for=timedelta(0)) == 1
        assert world.database.value(count) == 2
        assert world.database.value("SELECT count(DISTINCT def_id) FROM provision_manager.def_node") == 2
    driver.complete("o", "a1")
    assert world.state("o") == "COMPLETED"
    world.definitions.add_template(template("tpl 4", "x"))
    assert world.definitions.select_orchestration_definitions(parse("version = 5"), Page()).size == 1


def test_pages_lead_past_templates_of_one_type(world: World) -> None:
    world.definitions.add_template(template("posted", "x"))
    for id_ in ("one", "two"):
        world.definitions.put_template(template(id_, "w", "x", "x.y"))
    seen: list[str] = []
    after = ""
    while True:
        page = world.definitions.select_orchestration_definitions(parse("true"), Page(limit=2, after=after))
        seen += [f"{next(iter(one['activities']))} {one['templateRef']}" for one in json.loads(page.json)]
        if not page.more:
            break
        after = page.last
    assert sorted(seen) == sorted({*seen})
    assert [one.split(" ")[0] for one in seen] == ["w", "w", "x", "x", "x", "x.y", "x.y"]
    assert seen[2] == "x posted"


def test_a_start_that_is_repeated_keeps_its_template(world: World, driver: Driver) -> None:
    world.definitions.put_template(template("one", "x"))
    world.definitions.put_template(template("two", "x"))
    first = driver.start(of_template("o", "x", "one"))
    again = driver.start(of_template("o", "x", "two"))
    assert (list(dispatches(first.outbox)), again.outbox) == (["one"], [])
    assert list(world.nodes("o")) == ["one"]
