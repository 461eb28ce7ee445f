"""What an activity sees, and what becomes of what it returns, raises and records."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel, Field

from cfm_core.agent import ActivityContext, ActivityEnvironment, ActivityResult, Complete, Fatal, Retry, Schedule, Wait
from cfm_core.errors import ConflictError, FatalError, NotFoundError, RecoverableError


class Doing:
    """An activity that does what the test says."""

    def __init__(self, deploy: Callable[[ActivityContext], Any]) -> None:
        self._deploy = deploy

    def deploy(self, ctx: ActivityContext) -> ActivityResult:
        result: ActivityResult = self._deploy(ctx)
        return result


def run(deploy: Callable[[ActivityContext], Any], **values: Any) -> ActivityResult:
    return ActivityEnvironment(values=values).run(Doing(deploy))


@pytest.mark.parametrize(
    "result",
    [
        Complete(),
        Wait(timedelta(hours=1), "for the postman"),
        Schedule(timedelta(seconds=5)),
        Retry("not yet"),
        Fatal("never"),
    ],
)
def test_a_result_comes_back_as_it_is(result: ActivityResult) -> None:
    assert run(lambda ctx: result) == result


class _BadText(Exception):
    def __str__(self) -> str:
        raise KeyError


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (ValueError("on fire"), Retry("ValueError: on fire")),
        (KeyError("name"), Retry("KeyError: 'name'")),
        (SystemExit(3), Retry("SystemExit: 3")),
        (_BadText(), Retry("_BadText: (its text cannot be had: KeyError)")),
        (FatalError("for good"), Fatal("for good")),
        (ConflictError("taken"), Fatal("taken")),
        (NotFoundError("holder", "h"), Fatal("no holder 'h'")),
        (RecoverableError("later"), Retry("later")),
        (RecoverableError("later", 7), Retry("later", after=timedelta(seconds=7))),
        (RecoverableError("later", -1), Retry("later", after=timedelta(0))),
        (RecoverableError("later", 1e12), Retry("later", after=timedelta(days=3650))),
    ],
)
def test_an_exception_becomes_a_result(error: BaseException, result: ActivityResult) -> None:
    def deploy(ctx: ActivityContext) -> ActivityResult:
        raise error

    assert run(deploy) == result


class _BadRepr:
    def __repr__(self) -> str:
        raise KeyError


@pytest.mark.parametrize(
    ("rubbish", "shown"),
    [
        (None, "None"),
        ("forty-two", "'forty-two'"),
        (Complete, "<class 'cfm_core.agent.results.Complete'>"),
        ("x" * 500, "'" + "x" * 99),
        (_BadRepr(), "something of type _BadRepr"),
    ],
)
def test_rubbish_becomes_a_retry_that_says_what_was_returned(rubbish: object, shown: str) -> None:
    assert run(lambda ctx: rubbish) == Retry(f"Doing.deploy returned {shown}, which is not an activity result")


@pytest.mark.parametrize(
    "make",
    [
        lambda: Schedule(5),  # type: ignore[arg-type]
        lambda: Wait(5),  # type: ignore[arg-type]
        lambda: Retry("x", after=5),  # type: ignore[arg-type]
        lambda: Retry(ValueError("x")),  # type: ignore[arg-type]
        lambda: Fatal(None),  # type: ignore[arg-type]
    ],
)
def test_a_result_of_the_wrong_parts_is_refused_where_it_is_made(make: Callable[[], ActivityResult]) -> None:
    with pytest.raises(TypeError):
        make()


@pytest.mark.parametrize("after", [timedelta(seconds=-1), timedelta(days=4000)])
def test_a_delay_is_neither_negative_nor_endless(after: timedelta) -> None:
    with pytest.raises(ValueError, match="after must be between"):
        Schedule(after)


def test_each_discriminator_has_its_method() -> None:
    class All:
        def deploy(self, ctx: ActivityContext) -> ActivityResult:
            return Fatal("deploy")

        def dispose(self, ctx: ActivityContext) -> ActivityResult:
            return Fatal("dispose")

        def process(self, ctx: ActivityContext) -> ActivityResult:
            return Fatal(f"process {ctx.discriminator}")

    env = ActivityEnvironment()
    assert env.run(All()) == Fatal("deploy")
    assert env.dispose(All()) == Fatal("dispose")
    assert env.run(All(), "acme.rotate") == Fatal("process acme.rotate")


def test_a_missing_method_is_fatal() -> None:
    env = ActivityEnvironment()
    assert env.dispose(Doing(lambda ctx: Complete())) == Fatal(
        "Doing cannot run 'cfm.orchestration.vpa.dispose': it has no method 'dispose'"
    )
    assert isinstance(env.run(Doing(lambda ctx: Complete()), "acme.rotate"), Fatal)


def test_an_activity_sees_what_it_has_set_and_deleted() -> None:
    def deploy(ctx: ActivityContext) -> ActivityResult:
        ctx.set_value("new", [1])
        ctx.delete_value("old")
        ctx.set_output("out", "x")
        assert dict(ctx.values) == {"kept": 1, "new": [1]}
        assert dict(ctx.outputs) == {"out": "x"}
        return Complete()

    assert run(deploy, kept=1, old=2) == Complete()


def test_values_cannot_be_written_past_the_context() -> None:
    ctx = ActivityEnvironment(values={"a": 1}).context()
    with pytest.raises(TypeError):
        ctx.values["a"] = 2  # type: ignore[index]
    with pytest.raises(TypeError):
        ctx.outputs["a"] = 2  # type: ignore[index]


def test_what_is_recorded_is_kept_for_the_next_attempt_whatever_the_result_is() -> None:
    def deploy(ctx: ActivityContext) -> ActivityResult:
        if "id" in ctx.values:
            ctx.delete_value("id")
            return Complete()
        ctx.set_value("id", "made up")
        raise RecoverableError("lost")

    env = ActivityEnvironment()
    assert env.run(Doing(deploy)) == Retry("lost")
    assert (env.values, env.attempt) == ({"id": "made up"}, 2)
    assert env.run(Doing(deploy)) == Complete()
    assert env.values == {}


def test_setting_after_deleting_sets_and_deleting_after_setting_deletes() -> None:
    ctx = ActivityEnvironment(values={"a": 1, "b": 1}).context()
    ctx.delete_value("a")
    ctx.set_value("a", 2)
    ctx.set_value("b", 2)
    ctx.delete_value("b")
    assert ctx.recorded_values == {"a": 2}
    assert list(ctx.recorded_deletions) == ["b"]


def test_a_value_is_copied_when_it_is_set() -> None:
    ctx = ActivityEnvironment().context()
    value = {"list": [1], "tuple": (1, 2)}
    ctx.set_value("a", value)
    value["list"] = []
    assert ctx.values["a"] == {"list": [1], "tuple": [1, 2]}


@pytest.mark.parametrize(
    "value",
    [object(), {1, 2}, b"bytes", float("nan"), float("inf"), "\0", ["\\\\\0"], "\ud800", {("a",): 1}],
    ids=lambda value: type(value).__name__,
)
def test_a_value_that_is_not_json_is_fatal_and_named(value: object) -> None:
    result = run(lambda ctx: ctx.set_value("broken", value))
    assert isinstance(result, Fatal)
    assert result.reason.startswith("value 'broken' is not JSON: ")
    result = run(lambda ctx: ctx.set_output("broken", value))
    assert isinstance(result, Fatal)


def test_text_that_only_looks_like_a_nul_character_is_fine() -> None:
    ctx = ActivityEnvironment().context()
    ctx.set_value("a", r"\u0000 and \\u0000")
    assert ctx.values["a"] == r"\u0000 and \\u0000"


@pytest.mark.parametrize("key", ["", None, 7])
def test_a_value_needs_a_name(key: Any) -> None:
    assert isinstance(run(lambda ctx: ctx.set_value(key, 1)), Fatal)


class Inputs(BaseModel):
    did: str = Field(alias="cfm.participant.id", min_length=1)
    size: int = 1


def test_values_are_read_into_a_model_by_their_names() -> None:
    ctx = ActivityEnvironment(values={"cfm.participant.id": "did:web:acme", "more": 1}).context()
    assert ctx.read(Inputs).did == "did:web:acme"


def test_a_missing_value_is_fatal_and_named() -> None:
    assert run(lambda ctx: ctx.read(Inputs)) == Fatal("value 'cfm.participant.id' is missing")


def test_a_wrong_value_is_fatal_and_named_and_not_quoted() -> None:
    result = run(lambda ctx: ctx.read(Inputs), **{"cfm.participant.id": "", "size": "s3cret"})
    assert isinstance(result, Fatal)
    assert "'cfm.participant.id' is wrong" in result.reason
    assert "'size' is wrong" in result.reason
    assert "s3cret" not in result.reason


VPAS = [
    {"id": "1", "vpaType": "cfm.connector"},
    {"id": "2", "vpaType": "cfm.issuer", "properties": {"a": 1}},
    {"id": "3", "vpaType": "cfm.issuer", "properties": {"a": 2}},
]


@pytest.mark.parametrize(
    ("values", "vpa_type", "expected"),
    [
        ({}, "cfm.issuer", None),
        ({"cfm.vpa.data": []}, "cfm.issuer", None),
        ({"cfm.vpa.data": VPAS}, "cfm.dataplane", None),
        ({"cfm.vpa.data": VPAS}, "cfm.connector", {}),
        ({"cfm.vpa.data": VPAS}, "cfm.issuer", {"a": 1}),
    ],
)
def test_properties_are_those_of_the_first_vpa_of_the_type(
    values: dict[str, Any], vpa_type: str, expected: dict[str, Any] | None
) -> None:
    assert ActivityEnvironment(values=values).context().vpa_properties(vpa_type) == expected


@pytest.mark.parametrize("data", ["text", {"a": 1}, [1]])
def test_vpa_data_of_another_shape_is_fatal(data: Any) -> None:
    assert isinstance(run(lambda ctx: ctx.vpa_properties("cfm.issuer"), **{"cfm.vpa.data": data}), Fatal)


def test_the_attributes_are_those_of_the_dispatch() -> None:
    env = ActivityEnvironment(
        orchestration_id="o/1",
        activity_id="a b",
        correlation_id="c",
        attempt=3,
        completion_url="https://cfm/api/v1alpha1/",
    )
    ctx = env.context()
    assert (ctx.orchestration_id, ctx.activity_id, ctx.correlation_id, ctx.attempt) == ("o/1", "a b", "c", 3)
    assert ctx.idempotency_key == "o/1/0/a b"
    assert ctx.completion.url == "https://cfm/api/v1alpha1/orchestrations/o%2F1/activities/a%20b/complete"
    assert ctx.completion.token == "token-of-a-test"
    assert "token-of-a-test" not in repr(ctx.completion)
    assert ActivityEnvironment().context().completion.url == ""


def test_log_records_name_the_activity(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    ActivityEnvironment(activity_id="dns").context().heartbeat("half way")
    (record,) = caplog.records
    assert record.getMessage() == "at work: half way"
    assert record.__dict__["activity_id"] == "dns"
