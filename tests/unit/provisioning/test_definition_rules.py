from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from cfm_core.contracts.orchestration import DEPLOY
from cfm_core.errors import FieldError, ValidationError
from cfm_core.provisioning.definitions.model import (
    Activity,
    ActivityDefinition,
    Input,
    OrchestrationTemplate,
    RetryPolicy,
    Timeouts,
    source_of,
    steps_of,
)
from cfm_core.provisioning.definitions.rules import check_activity_definition, check_template


def schema(required: list[str] | None = None, **types: str) -> dict[str, Any]:
    properties = {name.replace("_", "."): {"type": type_} for name, type_ in types.items()}
    return {"properties": properties} | ({"required": required} if required else {})


def problems(*activities: Activity, known: dict[str, ActivityDefinition] | None = None, type_: str = "x") -> list[Any]:
    definitions = {"t": ActivityDefinition(type="t")} if known is None else known
    try:
        check_template(OrchestrationTemplate(id="tpl", activities={type_: activities}), definitions)
    except ValidationError as error:
        return [(problem.pointer, problem.detail) for problem in error.errors]
    return []


def fit(a: ActivityDefinition, *others: ActivityDefinition, type_: str = DEPLOY) -> list[str]:
    """The problems of an activity ``a`` that depends on all others."""
    known = {one.type: one for one in (a, *others)}
    nodes = [Activity(one.type, one.type) for one in others]
    found = problems(*nodes, Activity(a.type, a.type, tuple(known)[1:]), known=known, type_=type_)
    return [detail for _, detail in found]


def test_a_graph_of_known_types_is_valid() -> None:
    assert problems(Activity("a", "t"), Activity("b", "t", ("a",))) == []


def test_a_template_needs_an_orchestration_type() -> None:
    with pytest.raises(ValidationError):
        check_template(OrchestrationTemplate(id="tpl", activities={}), {})


def test_an_orchestration_needs_an_activity() -> None:
    assert [pointer for pointer, _ in problems()] == ["/activities/x"]


def test_all_problems_are_named_at_once() -> None:
    found = problems(
        Activity("a", "nope", ("ghost",)),
        Activity("", "t"),
        Activity("a", "t"),
        Activity("b", "also.nope"),
        type_="x/y",
    )
    assert found == [
        ("/activities/x~1y/0/type", "there is no activity type 'nope'"),
        ("/activities/x~1y/0/dependsOn", "there is no activity 'ghost'"),
        ("/activities/x~1y/1/id", "must not be empty"),
        ("/activities/x~1y/2/id", "'a' is there twice"),
        ("/activities/x~1y/3/type", "there is no activity type 'also.nope'"),
    ]


def test_a_cycle_is_named() -> None:
    ((pointer, detail),) = problems(Activity("a", "t", ("b",)), Activity("b", "t", ("a",)), Activity("c", "t"))
    assert pointer == "/activities/x"
    assert detail.endswith(("a -> b -> a", "b -> a -> b"))


def test_an_activity_that_depends_on_itself_is_a_cycle() -> None:
    assert next(detail for _, detail in problems(Activity("a", "t", ("a",)))).endswith("a -> a")


def test_a_required_field_must_be_delivered_by_a_direct_dependency_or_the_payload() -> None:
    a = ActivityDefinition(type="a", input_schema=schema(["cfm.participant.id", "y"]))
    y = ActivityDefinition(type="y", output_schema=schema(y="string"))
    assert fit(a, y) == []
    assert fit(a) == ["nothing that 'a' depends on delivers 'y'"]


def test_a_field_delivered_twice_is_a_problem_and_hides_the_others() -> None:
    a = ActivityDefinition(type="a", input_schema=schema(["missing"]))
    one, two = (ActivityDefinition(type=type_, output_schema=schema(y="string")) for type_ in ("one", "two"))
    assert fit(a, one, two) == ["the field 'y' is delivered by 'two' and by another source"]


def test_a_field_of_the_payload_may_not_be_delivered_again() -> None:
    one = ActivityDefinition(type="one", output_schema=schema(cfm_vpa_data="array"))
    assert fit(ActivityDefinition(type="a"), one) == [
        "the field 'cfm.vpa.data' is delivered by 'one' and by another source"
    ]


def test_types_must_agree_on_both_sides() -> None:
    a = ActivityDefinition(type="a", input_schema=schema(y="array", cfm_participant_id="string"))
    y = ActivityDefinition(type="y", output_schema=schema(y="string"))
    assert fit(a, y) == ["the field 'y' is delivered as string and required as array"]


def test_schemas_count_for_the_deployment_only() -> None:
    assert fit(ActivityDefinition(type="a", input_schema=schema(["missing"])), type_="other") == []


def test_schemas_of_any_shape_are_read() -> None:
    odd: dict[str, Any] = {"required": "no list", "properties": {"p": "no object"}}
    assert fit(ActivityDefinition(type="a", input_schema=odd), ActivityDefinition(type="b", output_schema=odd)) == []


def test_a_policy_is_checked() -> None:
    definition = ActivityDefinition(
        type="t",
        timeout=timedelta(0),
        timeouts=Timeouts(
            schedule_to_start=timedelta(0),
            schedule_to_close=timedelta(seconds=-1),
            heartbeat=timedelta(days=367),
            wait=timedelta(0),
        ),
        retry=RetryPolicy(max_attempts=0, backoff=timedelta(seconds=-1), backoff_limit=timedelta(days=400)),
    )
    with pytest.raises(ValidationError) as caught:
        check_activity_definition(definition)
    assert {error.pointer for error in caught.value.errors} == {
        *("/timeout", "/retry/backoff", "/timeouts/wait", "/timeouts/heartbeat"),
        *("/timeouts/scheduleToStart", "/timeouts/scheduleToClose"),
        *("/retry/backoffLimit", "/retry/maxAttempts"),
    }
    assert isinstance(caught.value.errors[0], FieldError)


def test_a_timeout_that_could_never_count_is_refused() -> None:
    definition = ActivityDefinition(
        type="t",
        timeout=timedelta(seconds=30),
        timeouts=Timeouts(
            heartbeat=timedelta(seconds=31),
            schedule_to_start=timedelta(minutes=2),
            schedule_to_close=timedelta(minutes=1),
        ),
    )
    with pytest.raises(ValidationError) as caught:
        check_activity_definition(definition)
    assert [(error.pointer, error.detail) for error in caught.value.errors] == [
        ("/timeouts/heartbeat", "must not be longer than the timeout of the attempt"),
        ("/timeouts/scheduleToStart", "must not be longer than scheduleToClose"),
    ]


def test_steps_are_tiers_from_the_end_sorted_by_id() -> None:
    steps = steps_of([Activity("c", "t"), Activity("b", "t", ("a",)), Activity("a", "t")])
    assert [[activity.id for activity in step] for step in steps] == [["a"], ["b", "c"]]


def doubts(*activities: Activity, known: Sequence[ActivityDefinition], type_: str = "x") -> list[tuple[str, str]]:
    template = OrchestrationTemplate(id="tpl", activities={type_: activities})
    return [(one.pointer, one.detail) for one in check_template(template, {one.type: one for one in known})]


K_TEXT = ActivityDefinition(type="k", output_schema=schema(k="string"))
WANTS_K = ActivityDefinition(type="w", input_schema=schema(["k"], k="string"))
PLAIN = ActivityDefinition(type="p")
CHAIN = (Activity("1", "k"), Activity("2", "p", ("1",)), Activity("3", "w", ("2",)))


def test_what_is_required_may_be_delivered_further_up() -> None:
    for type_ in (DEPLOY, "x"):
        assert doubts(*CHAIN, known=[K_TEXT, WANTS_K, PLAIN], type_=type_) == []


def test_what_the_contract_does_not_look_at_is_doubtful_at_most() -> None:
    number = ActivityDefinition(type="k", output_schema=schema(k="number"))
    differs = ("/activities/{}/2", "the field 'k' is delivered as number and required as string")
    for type_ in (DEPLOY, "x"):
        assert doubts(*CHAIN, known=[number, WANTS_K, PLAIN], type_=type_) == [(differs[0].format(type_), differs[1])]
    twice = (Activity("1", "k"), Activity("2", "k", ("1",)), Activity("3", "p", ("2",)))
    assert doubts(*twice, known=[K_TEXT, PLAIN], type_=DEPLOY) == [
        (f"/activities/{DEPLOY}/2", "the field 'k' is delivered by '2' and by another source")
    ]


def test_in_other_orchestrations_the_payload_may_deliver_what_nothing_else_does() -> None:
    alone, both = Activity("1", "w"), (Activity("1", "k"), Activity("2", "k"), Activity("3", "p", ("1", "2")))
    assert doubts(alone, known=[WANTS_K]) == [("/activities/x/0", "nothing that '1' depends on delivers 'k'")]
    assert doubts(*both, known=[K_TEXT, PLAIN]) == [
        ("/activities/x/2", "the field 'k' is delivered by '2' and by another source")
    ]


def mapped(*inputs: tuple[str, str], type_: str = "w", depends_on: tuple[str, ...] = ("2",)) -> list[Any]:
    """The problems of an activity that names its inputs, each a target and its source."""
    given = tuple(Input(target, source) for target, source in inputs)
    nodes = (*CHAIN[:2], Activity("3", type_, depends_on, given), Activity("other", "k"))
    return problems(*nodes, known={one.type: one for one in (K_TEXT, WANTS_K, PLAIN)})


def test_inputs_are_looked_at_in_every_orchestration() -> None:
    assert mapped(("k", "1.k")) == []
    assert mapped(("k", "anything")) == []
    assert mapped(("j", "1.k")) == [("/activities/x/2/inputs", "'w' requires 'k', which is not among them")]
    assert mapped(("k", "other.k")) == [("/activities/x/2/inputs/0", "'3' does not depend on 'other', by no way")]
    assert mapped(("k", "1.k"), ("k", "x")) == [("/activities/x/2/inputs/1", "the target 'k' is there twice")]
    assert mapped(("k", "x"), ("", "x"), ("y", "")) == [
        ("/activities/x/2/inputs/1", "source and target must not be empty"),
        ("/activities/x/2/inputs/2", "source and target must not be empty"),
    ]


def test_an_input_of_another_type_is_a_problem() -> None:
    number = ActivityDefinition(type="k", output_schema=schema(n="number"))
    known = {one.type: one for one in (number, WANTS_K)}
    for source in ("1.n", "n"):
        nodes = (Activity("1", "k"), Activity("2", "w", ("1",), (Input("k", source),)))
        assert problems(*nodes, known=known) == [
            ("/activities/x/1/inputs/0", f"{source!r} is delivered as number and 'k' required as string")
        ]


def test_an_output_that_no_schema_names_is_doubtful() -> None:
    nodes = (Activity("1", "k"), Activity("2", "p", ("1",), (Input("j", "1.j"),)))
    assert doubts(*nodes, known=[K_TEXT, PLAIN]) == [
        ("/activities/x/1/inputs/0", "the output schema of 'k' has no 'j'")
    ]


@pytest.mark.parametrize(
    ("name", "means"),
    [
        ("a.b.c", ("a.b", "c")),
        ("a.c", ("a", "c")),
        ("a.", ("", "a.")),
        ("a", ("", "a")),
        ("x.c", ("", "x.c")),
        (".a", ("", ".a")),
        ("a..c", ("a", ".c")),
    ],
)
def test_a_source_means_an_activity_where_one_is_called_so(name: str, means: tuple[str, str]) -> None:
    assert source_of(name, {"a", "a.b"}) == means
