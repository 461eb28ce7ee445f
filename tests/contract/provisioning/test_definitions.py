from __future__ import annotations

from datetime import timedelta

import pytest

from cfm_core.contracts.activity import OutcomeKind
from cfm_core.contracts.orchestration import DEPLOY, DISPOSE
from cfm_core.errors import NotFoundError, ValidationError
from cfm_core.provisioning.definitions.model import (
    Activity,
    ActivityDefinition,
    OrchestrationDefinition,
    OrchestrationTemplate,
    RetryPolicy,
)
from cfm_core.provisioning.definitions.service import InUseError
from tests.contract.provisioning.world import (
    DIAMOND,
    Driver,
    World,
    activity_definitions,
    define,
    definitions_of,
    manifest,
    orchestration_definitions,
)


def test_an_activity_definition_is_listed_as_it_was_put(world: World) -> None:
    full = ActivityDefinition(
        type="b.full",
        description="D",
        input_schema={"required": ["x"], "properties": {"x": {"type": "string"}}},
        output_schema={"properties": {"y": {"type": "array"}}},
        timeout=timedelta(seconds=2.5),
        retry=RetryPolicy(max_attempts=7, backoff=timedelta(seconds=1), backoff_limit=timedelta(minutes=2)),
    )
    plain = ActivityDefinition(type="a_plain")
    world.definitions.put_activity_definition(full)
    world.definitions.put_activity_definition(plain)
    assert activity_definitions(world) == [plain, full]


def test_putting_a_known_activity_type_replaces_all_of_it(world: World) -> None:
    world.definitions.put_activity_definition(
        ActivityDefinition(type="t", description="old", input_schema={"a": 1}, timeout=timedelta(seconds=1))
    )
    world.definitions.put_activity_definition(ActivityDefinition(type="t", output_schema={"b": 1}))
    assert activity_definitions(world) == [ActivityDefinition(type="t", output_schema={"b": 1})]


@pytest.mark.parametrize(
    "type_", ["", "with space", "cfm-orchestration", "cfm.orchestration.response", "..", "a..b", "a\0"]
)
def test_a_type_that_fits_into_no_subject_is_refused(world: World, type_: str) -> None:
    with pytest.raises(ValidationError):
        world.definitions.put_activity_definition(ActivityDefinition(type=type_))


def test_a_nul_character_is_refused(world: World) -> None:
    with pytest.raises(ValidationError):
        world.definitions.put_activity_definition(ActivityDefinition(type="t", description="a\0b"))


def test_an_activity_definition_that_nobody_uses_can_be_deleted(world: World) -> None:
    world.definitions.put_activity_definition(ActivityDefinition(type="t"))
    world.definitions.delete_activity_definition("t")
    assert activity_definitions(world) == []
    with pytest.raises(NotFoundError):
        world.definitions.delete_activity_definition("t")


def test_an_activity_definition_in_use_stays(world: World) -> None:
    define(world, one=DIAMOND)
    with pytest.raises(InUseError, match="referenced by an orchestration definition: one") as caught:
        world.definitions.delete_activity_definition("t.two")
    assert caught.value.status == 400
    assert [one.type for one in activity_definitions(world)] == ["t.one", "t.two"]


def test_a_template_makes_one_definition_for_each_orchestration_type(world: World) -> None:
    world.definitions.put_activity_definition(ActivityDefinition(type="t"))
    template = OrchestrationTemplate(
        id="tpl",
        description="D",
        schema={"s": 1},
        activities={DISPOSE: [Activity("u", "t")], DEPLOY: [Activity("a", "t")]},
    )
    world.definitions.add_template(template)
    made = [
        OrchestrationDefinition(
            type=type_, template_ref="tpl", description="D", schema={"s": 1}, activities=(Activity(id_, "t"),)
        )
        for type_, id_ in ((DEPLOY, "a"), (DISPOSE, "u"))
    ]
    assert orchestration_definitions(world) == made
    assert definitions_of(world, "tpl") == made


def test_a_second_template_takes_its_types_over_and_can_clear_the_schema(world: World) -> None:
    world.definitions.put_activity_definition(ActivityDefinition(type="t"))
    both = {"x": [Activity("a", "t")], "y": [Activity("a", "t")]}
    world.definitions.add_template(OrchestrationTemplate(id="first", schema={"s": 1}, activities=both))
    world.definitions.add_template(OrchestrationTemplate(id="second", activities={"x": [Activity("b", "t")]}))
    (of_second,) = definitions_of(world, "second")
    assert (of_second.type, of_second.schema, of_second.activities) == ("x", {}, (Activity("b", "t"),))
    assert [one.type for one in definitions_of(world, "first")] == ["y"]


def test_a_template_that_cannot_run_changes_nothing(world: World) -> None:
    world.definitions.put_activity_definition(ActivityDefinition(type="t"))
    activities = {"good": [Activity("a", "t")], "bad": [Activity("a", "unknown")]}
    with pytest.raises(ValidationError, match="unknown"):
        world.definitions.add_template(OrchestrationTemplate(id="tpl", activities=activities))
    assert orchestration_definitions(world) == []


def test_an_unknown_template_is_not_found(world: World) -> None:
    with pytest.raises(NotFoundError):
        world.definitions.get_template("nope")
    with pytest.raises(NotFoundError):
        world.definitions.delete_template("nope")


def test_a_template_without_runs_can_be_deleted(world: World) -> None:
    define(world, one=DIAMOND)
    (definition,) = orchestration_definitions(world)
    world.definitions.delete_template(definition.template_ref)
    assert orchestration_definitions(world) == []
    world.definitions.delete_activity_definition("t.one")


def test_a_template_stays_while_a_run_of_it_goes_on_and_no_longer(world: World, driver: Driver) -> None:
    define(world, one=[Activity("a", "t")])
    template_ref = orchestration_definitions(world)[0].template_ref
    driver.start(manifest("o", "one"))
    with pytest.raises(InUseError) as caught:
        world.definitions.delete_template(template_ref)
    assert caught.value.status == 400
    driver.complete("o", "a")
    world.definitions.delete_template(template_ref)
    assert world.orchestrations.get("o").type == "one"


def test_a_template_stays_while_its_compensation_is_to_come(world: World, driver: Driver) -> None:
    define(world, deploy=[Activity("a", "t")], dispose=[Activity("u", "t")])
    template_ref = orchestration_definitions(world)[0].template_ref
    driver.start(manifest("o", DEPLOY))
    driver.record(driver.outcome("o", "a", OutcomeKind.FATAL))
    with pytest.raises(InUseError):
        world.definitions.delete_template(template_ref)


def test_a_run_keeps_the_definition_that_it_began_with(world: World, driver: Driver) -> None:
    define(world, one=DIAMOND)
    driver.start(manifest("o", "one"))
    define(world, one=[Activity("z", "t.one")])
    driver.complete("o", "a")
    assert set(world.nodes("o")) == {"a", "b", "c", "d"}
    assert {activity.id for activity in world.orchestrations.get("o").activities} == {"a", "b", "c", "d"}
    driver.start(manifest("new", "one"))
    assert set(world.nodes("new")) == {"z"}
