from __future__ import annotations

import json
from datetime import timedelta

import pytest

from cfm_core.contracts.activity import OutcomeKind
from cfm_core.contracts.orchestration import DEPLOY, DISPOSE
from cfm_core.errors import NotFoundError, PreconditionFailedError, ValidationError
from cfm_core.provisioning.definitions.model import (
    Activity,
    ActivityDefinition,
    OrchestrationDefinition,
    OrchestrationTemplate,
    RetryPolicy,
    Timeouts,
)
from cfm_core.provisioning.definitions.service import InUseError
from cfm_core.query import Page, parse
from cfm_core.versions import Expected
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
        timeouts=Timeouts(
            schedule_to_start=timedelta(seconds=1),
            schedule_to_close=timedelta(hours=1),
            heartbeat=timedelta(seconds=2),
            wait=timedelta(days=2),
        ),
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
    assert (caught.value.status, caught.value.context) == (400, {"usedBy": ["o"]})
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


ABSENT, PRESENT = Expected(exists=False), Expected(exists=True)


def version(number: int) -> Expected:
    return Expected(frozenset({number}), exists=True)


def test_the_version_of_an_activity_definition_rises_with_every_write(world: World) -> None:
    is_new, first = world.definitions.put_activity_definition(ActivityDefinition(type="t"), ABSENT)
    assert (is_new, first.text) == (True, '{"type":"t"}')
    is_new, second = world.definitions.put_activity_definition(
        ActivityDefinition(type="t", description="ü"), version(first.version)
    )
    assert (is_new, second.text) == (False, '{"type":"t","description":"ü"}')
    assert second.version > first.version
    assert world.definitions.get_activity_definition("t") == second


def test_an_activity_definition_in_another_version_stays_as_it_is(world: World) -> None:
    with pytest.raises(PreconditionFailedError):
        world.definitions.put_activity_definition(ActivityDefinition(type="t"), PRESENT)
    _, first = world.definitions.put_activity_definition(ActivityDefinition(type="t"))
    _, second = world.definitions.put_activity_definition(ActivityDefinition(type="t", description="new"))
    for expected in (ABSENT, version(first.version)):
        with pytest.raises(PreconditionFailedError):
            world.definitions.put_activity_definition(ActivityDefinition(type="t"), expected)
    with pytest.raises(PreconditionFailedError):
        world.definitions.delete_activity_definition("t", version(first.version))
    assert world.definitions.get_activity_definition("t") == second
    world.definitions.delete_activity_definition("t", version(second.version))
    with pytest.raises(NotFoundError):
        world.definitions.get_activity_definition("t")


@pytest.mark.parametrize("key", ["nope", "", "a\0b", "ö/ü", "x" * 5000])
def test_a_key_that_nothing_has_is_not_found(world: World, key: str) -> None:
    for act in (
        world.definitions.get_activity_definition,
        world.definitions.delete_activity_definition,
        world.definitions.get_template,
        world.definitions.delete_template,
    ):
        with pytest.raises(NotFoundError):
            act(key)


@pytest.mark.parametrize(
    ("predicate", "found"),
    [
        ("true", ["a", "b", "c"]),
        ("type = 'a'", ["a"]),
        ("description = ''", ["b", "c"]),
        ("description = 'D' AND version = 0", ["a"]),
        ("version = 1", ["c"]),
        ("inputSchema.properties.x.type = 'string'", ["a"]),
        ("inputSchema.required = 'x'", ["a"]),
        ("outputSchema.deep.er = true", ["b"]),
        ("timeout = 'PT1M30S'", ["b"]),
        ("retry.maxAttempts = 7", ["b"]),
        ("timeouts.scheduleToClose = 'PT1H'", ["b"]),
        ("retry.backoff = 'PT1S'", []),
        ("type = 1", []),
    ],
)
def test_activity_definitions_are_found_by_their_fields(world: World, predicate: str, found: list[str]) -> None:
    schema = {"required": ["x"], "properties": {"x": {"type": "string"}}}
    for definition in (
        ActivityDefinition(type="c"),
        ActivityDefinition(type="a", description="D", input_schema=schema),
        ActivityDefinition(
            type="b",
            output_schema={"deep": {"er": True}},
            timeout=timedelta(seconds=90),
            timeouts=Timeouts(schedule_to_close=timedelta(hours=1)),
            retry=RetryPolicy(max_attempts=7),
        ),
        ActivityDefinition(type="c"),
    ):
        world.definitions.put_activity_definition(definition)
    page = world.definitions.select_activity_definitions(parse(predicate), Page())
    assert [one["type"] for one in json.loads(page.json)] == found
    assert page.total == len(found)


@pytest.mark.parametrize(
    ("predicate", "found"),
    [
        ("true", ["x", "y", "z"]),
        ("type = 'y'", ["y"]),
        ("templateRef = 'first'", ["x", "y"]),
        ("templateRef = 'second' AND description = ''", ["z"]),
        ("description = 'D'", ["x", "y"]),
        ("version = 2", ["z"]),
        ("schema.s.t = 1", ["x", "y"]),
        ("activities.type = 't.two'", ["y"]),
        ("activities.id = 'b'", ["y"]),
        ("activities.dependsOn = 'a'", ["y"]),
        ("activities.dependsOn = 'b'", []),
    ],
)
def test_orchestration_definitions_are_found_by_their_fields(world: World, predicate: str, found: list[str]) -> None:
    define(world, z=DIAMOND)
    one, two = [Activity("a", "t.one")], [Activity("a", "t.one"), Activity("b", "t.two", ("a",))]
    world.definitions.add_template(
        OrchestrationTemplate(id="first", description="D", schema={"s": {"t": 1}}, activities={"y": two, "x": one})
    )
    world.definitions.add_template(OrchestrationTemplate(id="second", activities={"z": one}))
    page = world.definitions.select_orchestration_definitions(parse(predicate), Page())
    assert [type_ for definition in json.loads(page.json) for type_ in definition["activities"]] == found
    assert page.total == len(found)


@pytest.mark.parametrize("predicate", ["nope = 1", "input_schema = 1", "document.type = 't'", "timeout.x = 1"])
def test_a_field_that_definitions_lack_is_the_callers_mistake(world: World, predicate: str) -> None:
    with pytest.raises(ValidationError):
        world.definitions.select_activity_definitions(parse(predicate), Page())
    with pytest.raises(ValidationError):
        world.definitions.select_orchestration_definitions(parse(predicate), Page())


def test_definitions_are_read_page_by_page_in_the_order_of_their_types(world: World) -> None:
    types = ["B", "a", "a-b", "a.b", "b"]
    define(world, **{type_: [Activity("a", type_)] for type_ in reversed(types)})
    for select in (world.definitions.select_activity_definitions, world.definitions.select_orchestration_definitions):
        first = select(parse("true"), Page(limit=2))
        second = select(parse("true"), Page(limit=2, after=first.last))
        third = select(parse("true"), Page(limit=2, after=second.last, counted=False))
        assert [one.last for one in (first, second, third)] == ["a", "a.b", "b"]
        assert [(one.size, one.more, one.total) for one in (first, second, third)] == [
            (2, True, 5),
            (2, True, 5),
            (1, False, None),
        ]
        assert select(parse("true"), Page(offset=3)).size == 2
        assert select(parse("true"), Page(after="ö' behind all")).size == 0
        with pytest.raises(ValidationError, match="after"):
            select(parse("true"), Page(after="a\0"))


def test_a_template_that_is_put_has_what_it_names_and_no_more(world: World) -> None:
    world.definitions.put_activity_definition(ActivityDefinition(type="t"))
    both = {"x": [Activity("a", "t")], "y": [Activity("a", "t")]}
    is_new, first, _ = world.definitions.put_template(OrchestrationTemplate(id="tpl", activities=both), ABSENT)
    assert is_new
    assert [one.type for one in definitions_of(world, "tpl")] == ["x", "y"]
    less = OrchestrationTemplate(id="tpl", activities={"y": [Activity("b", "t")]})
    is_new, second, _ = world.definitions.put_template(less, version(first.version))
    assert not is_new
    assert second.text == '[{"activities":{"y":[{"id":"b","type":"t"}]},"templateRef":"tpl"}]'
    assert second.version > first.version
    assert world.definitions.get_template("tpl") == second
    assert [one.type for one in orchestration_definitions(world)] == ["y"]


def test_a_template_that_is_posted_again_keeps_what_it_does_not_name(world: World) -> None:
    world.definitions.put_activity_definition(ActivityDefinition(type="t"))
    for type_ in ("x", "y"):
        world.definitions.add_template(OrchestrationTemplate(id="tpl", activities={type_: [Activity("a", "t")]}))
    assert [one.type for one in definitions_of(world, "tpl")] == ["x", "y"]


def test_a_template_in_another_version_stays_as_it_is(world: World) -> None:
    world.definitions.put_activity_definition(ActivityDefinition(type="t"))
    template = OrchestrationTemplate(id="tpl", activities={"x": [Activity("a", "t")]})
    with pytest.raises(PreconditionFailedError):
        world.definitions.put_template(template, PRESENT)
    first = world.definitions.put_template(template).template
    second = world.definitions.put_template(template).template
    for expected in (ABSENT, version(first.version)):
        with pytest.raises(PreconditionFailedError):
            world.definitions.put_template(template, expected)
    with pytest.raises(PreconditionFailedError):
        world.definitions.delete_template("tpl", version(first.version))
    assert world.definitions.get_template("tpl") == second
    world.definitions.delete_template("tpl", version(second.version))
    assert orchestration_definitions(world) == []


def test_no_version_of_a_template_comes_twice(world: World) -> None:
    world.definitions.put_activity_definition(ActivityDefinition(type="t"))

    def template(id_: str, *types: str) -> OrchestrationTemplate:
        return OrchestrationTemplate(id=id_, activities={type_: [Activity("a", "t")] for type_ in types})

    world.definitions.add_template(template("tpl", "x", "y", "z"))
    versions = [world.definitions.get_template("tpl").version]
    world.definitions.add_template(template("other", "x"))
    versions.append(world.definitions.get_template("tpl").version)
    world.definitions.add_template(template("tpl", "x"))
    versions.append(world.definitions.get_template("tpl").version)
    versions.append(world.definitions.put_template(template("tpl", "z"))[1].version)
    world.definitions.delete_template("tpl")
    versions.append(world.definitions.put_template(template("tpl", "x", "y", "z"), ABSENT)[1].version)
    assert versions == sorted(set(versions))


def test_a_type_does_not_leave_its_template_while_a_run_of_it_goes_on(world: World, driver: Driver) -> None:
    world.definitions.put_activity_definition(ActivityDefinition(type="t"))
    both = {DEPLOY: [Activity("a", "t")], DISPOSE: [Activity("u", "t")]}
    world.definitions.add_template(OrchestrationTemplate(id="tpl", activities=both))
    before = world.definitions.get_template("tpl")
    driver.start(manifest("o", DEPLOY))
    alone = OrchestrationTemplate(id="tpl", activities={DEPLOY: [Activity("b", "t")]})
    with pytest.raises(InUseError):
        world.definitions.put_template(alone)
    assert world.definitions.get_template("tpl") == before
    world.definitions.put_template(OrchestrationTemplate(id="tpl", activities=both))
    driver.complete("o", "a")
    world.definitions.put_template(alone)
    assert [one.type for one in definitions_of(world, "tpl")] == [DEPLOY]


@pytest.mark.parametrize("id_", ["a\0b", "x" * 513])
def test_a_template_with_an_id_that_cannot_be_kept_is_refused(world: World, id_: str) -> None:
    world.definitions.put_activity_definition(ActivityDefinition(type="t"))
    template = OrchestrationTemplate(id=id_, activities={"x": [Activity("a", "t")]})
    for put in (world.definitions.add_template, world.definitions.put_template):
        with pytest.raises(ValidationError):
            put(template)
    assert orchestration_definitions(world) == []


def test_the_longest_names_are_kept(world: World) -> None:
    type_ = "t" * 256
    world.definitions.put_activity_definition(ActivityDefinition(type=type_))
    template = OrchestrationTemplate(id="\U0001f600" * 512, activities={"\U0001f600" * 256: [Activity("a", type_)]})
    world.definitions.put_template(template)
    assert [one.type for one in definitions_of(world, template.id)] == ["\U0001f600" * 256]
    with pytest.raises(ValidationError):
        world.definitions.put_activity_definition(ActivityDefinition(type="t" * 257))
