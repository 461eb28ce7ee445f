from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from cfm_core.contracts import activity
from cfm_core.contracts.reply import EventDict
from cfm_core.eventing import outcomes
from cfm_core.eventing.cloudevents import event

KEY = {"orchestrationId": "o-1", "phase": 0, "ord": 2, "token": "123"}
DISPATCH = event(
    type=activity.DISPATCH_EVENT,
    source="/engine",
    subject="event.cfm.activity.dns",
    data={**KEY, "activityId": "a", "activityType": "dns", "values": {"x": 1}},
)


def outcome(**data: Any) -> EventDict:
    return event(
        type=activity.OUTCOME_EVENT,
        source="/agent",
        subject="event.cfm.result",
        data={**KEY, "kind": "complete", **data},
    )


def test_the_word_for_outcomes_is_the_contracts() -> None:
    assert outcomes.OUTCOME_EVENT == activity.OUTCOME_EVENT


def test_an_outcome_made_here_is_one_for_the_engine() -> None:
    made = outcomes.retry(DISPATCH, "no answer")
    assert activity.ActivityOutcome.model_validate(made["data"]) == activity.ActivityOutcome(
        orchestration_id="o-1",
        phase=0,
        ord=2,
        token="123",
        kind=activity.OutcomeKind.RETRY,
        reason="no answer",
    )
    assert made["type"] == activity.OUTCOME_EVENT


def test_an_outcome_made_here_belongs_to_the_trace_of_its_dispatch() -> None:
    context = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "tracestate": "v=1", "baggage": "a=1"}
    made = outcomes.retry(DISPATCH | context, "no answer")
    assert {name: made[name] for name in context} == context
    assert not {*context} & {*outcomes.retry(DISPATCH | {"baggage": "a=1"}, "no answer")}


@pytest.mark.parametrize("kind", list(activity.OutcomeKind))
def test_what_the_contract_writes_is_recognised(kind: activity.OutcomeKind) -> None:
    written = activity.ActivityOutcome(
        orchestration_id="o-1", phase=0, ord=2, token="123", kind=kind, after=timedelta(seconds=3), values={"a": 1}
    ).to_json()
    answered = outcome(**written)
    assert outcomes.matched([DISPATCH], [answered]) == {"123": answered}


@pytest.mark.parametrize(
    "unfit",
    [
        {"token": "another"},
        {"token": 123},
        {"orchestrationId": "o-2"},
        {"phase": 1},
        {"kind": "done"},
        {"kind": None},
        {"kind": ["complete"]},
        {"values": []},
        {"reason": 5},
    ],
)
def test_what_does_not_fit_its_dispatch_is_no_outcome(unfit: dict[str, Any]) -> None:
    assert outcomes.matched([DISPATCH], [outcome(**unfit)]) == {}


@pytest.mark.parametrize("broken", [{}, {"data": None}, {"data": []}, {"data": {"token": "123"}}, {"id": 5}])
def test_what_is_no_event_is_no_outcome(broken: dict[str, Any]) -> None:
    assert outcomes.matched([DISPATCH], [{**outcome(), **broken} if broken else {}]) == {}


def test_the_first_of_two_outcomes_counts() -> None:
    first, second = outcome(), outcome(kind="fatal")
    assert outcomes.matched([DISPATCH], [first, second]) == {"123": first}


def test_a_long_answer_is_quoted_from_its_beginning() -> None:
    assert outcomes.quoted(b" " + b"x" * 1000) == "x" * 300
    assert outcomes.quoted(b"\xff") == "�"
