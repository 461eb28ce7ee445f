from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cfm_core.errors import ValidationError
from cfm_core.provisioning.definitions import v1alpha1 as definitions
from cfm_core.provisioning.definitions.model import (
    Activity,
    ActivityDefinition,
    OrchestrationDefinition,
    RetryPolicy,
    Timeouts,
)
from cfm_core.provisioning.engine.model import ActivityState, OrchestrationState
from cfm_core.provisioning.orchestrations import v1alpha1 as orchestrations
from cfm_core.provisioning.orchestrations.model import ActivityStatus, Orchestration
from cfm_core.web.body import parse

AT = datetime(2026, 11, 23, 7, 7, 23, 19245, UTC)


def read_template(document: dict[str, Any]) -> definitions.OrchestrationTemplateDocument:
    return parse(json.dumps(document).encode(), definitions.OrchestrationTemplateDocument)[0]


def test_an_activity_definition_goes_through_json_unchanged() -> None:
    definition = ActivityDefinition(
        type="t",
        description="D",
        input_schema={"required": ["x"]},
        output_schema={"properties": {}},
        timeout=timedelta(seconds=90),
        timeouts=Timeouts(schedule_to_close=timedelta(hours=1), wait=timedelta(days=2)),
        retry=RetryPolicy(max_attempts=3, backoff=timedelta(seconds=0.5)),
    )
    document = definitions.activity_definition_to_json(definition)
    assert document == {
        "type": "t",
        "description": "D",
        "inputSchema": {"required": ["x"]},
        "outputSchema": {"properties": {}},
        "timeout": "PT1M30S",
        "timeouts": {"scheduleToClose": "PT1H", "wait": "P2D"},
        "retry": {"maxAttempts": 3, "backoff": "PT0.5S"},
    }
    read = parse(json.dumps(document).encode(), definitions.ActivityDefinitionDocument)[0]
    assert read.to_model() == definition


def test_what_is_empty_in_an_activity_definition_is_left_out() -> None:
    assert definitions.activity_definition_to_json(ActivityDefinition(type="t")) == {"type": "t"}


def test_an_orchestration_definition_has_its_type_as_the_key_of_its_activities() -> None:
    full = OrchestrationDefinition(
        type="o.one",
        template_ref="d0b8",
        description="D",
        schema={"s": 1},
        activities=(Activity("a", "probe.a"), Activity("b", "probe.a", ("a",))),
    )
    assert json.dumps(definitions.orchestration_definition_to_json(full), separators=(",", ":")) == (
        '{"description":"D","schema":{"s":1},"activities":{"o.one":[{"id":"a","type":"probe.a"},'
        '{"id":"b","type":"probe.a","dependsOn":["a"]}]},"templateRef":"d0b8"}'
    )
    plain = OrchestrationDefinition(type="x", template_ref="r", activities=(Activity("a", "t"),))
    assert set(definitions.orchestration_definition_to_json(plain)) == {"activities", "templateRef"}


def test_a_template_without_an_id_gets_a_new_one() -> None:
    document = {"activities": {"x": [{"id": "a", "type": "t", "dependsOn": None}]}}
    first, second = (read_template(document).to_model() for _ in range(2))
    assert first.id != second.id
    assert first.activities == {"x": [Activity("a", "t")]}
    assert read_template(document | {"id": "mine"}).to_model().id == "mine"


@pytest.mark.parametrize("document", [{"activities": []}, {"activities": {"x": {}}}, {"activities": {"x": [1]}}])
def test_a_template_of_another_shape_is_refused(document: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        read_template(document)


def orchestration(state: OrchestrationState = OrchestrationState.RUNNING, error_detail: str = "") -> Orchestration:
    return Orchestration(
        id="o",
        version=0,
        correlation_id="c",
        type="x",
        state=state,
        state_at=AT,
        created_at=AT,
        error_detail=error_detail,
        activities=(Activity("b", "t", ("a",)), Activity("a", "t")),
        graph=(
            ActivityStatus(ord=0, id="b", type="t", state=ActivityState.DISPATCHED, max_attempts=5, has_agent=True),
            ActivityStatus(ord=1, id="a", type="t", state=ActivityState.DONE, max_attempts=5, has_agent=True),
        ),
        processing_data={"k": 1},
    )


def test_an_orchestration_is_shown_with_its_steps() -> None:
    assert orchestrations.to_json(orchestration(), AT) == {
        "id": "o",
        "correlationId": "c",
        "definitionId": "x",
        "state": 1,
        "stateTimestamp": "2026-11-23T07:07:23.019245Z",
        "createdTimestamp": "2026-11-23T07:07:23.019245Z",
        "orchestrationType": "x",
        "steps": [
            {"activities": [{"id": "a", "type": "t"}]},
            {"activities": [{"id": "b", "type": "t", "dependsOn": ["a"]}]},
        ],
        "processingData": {"k": 1},
        "outputData": {},
        "completed": {"a": {}},
        "status": "running",
        "statusReason": "b is with its agent",
        "allowedActions": ["pause", "cancel"],
        "activities": [
            {
                "id": "b",
                "type": "t",
                "dependsOn": ["a"],
                "state": "dispatched",
                "attempt": 1,
                "maxAttempts": 5,
                "dispatches": 0,
                "allowedActions": ["resolve"],
            },
            {
                "id": "a",
                "type": "t",
                "state": "done",
                "attempt": 1,
                "maxAttempts": 5,
                "dispatches": 0,
                "allowedActions": [],
            },
        ],
    }


def test_the_internal_form_carries_the_discriminator() -> None:
    assert orchestrations.to_internal_json(orchestration(), AT)["steps"] == [
        {"activities": [{"id": "a", "type": "t", "discriminator": "x", "dependsOn": None}]},
        {"activities": [{"id": "b", "type": "t", "discriminator": "x", "dependsOn": ["a"]}]},
    ]


@pytest.mark.parametrize(
    ("state", "number", "status"),
    [
        (OrchestrationState.RUNNING, 1, "running"),
        (OrchestrationState.COMPLETED, 2, "completed"),
        (OrchestrationState.ERRORED, 3, "errored"),
        (OrchestrationState.CANCELLING, 3, "cancelling"),
        (OrchestrationState.CANCELLED, 3, "cancelled"),
        (OrchestrationState.COMPENSATING, 3, "compensating"),
        (OrchestrationState.COMPENSATED, 3, "compensated"),
        (OrchestrationState.COMPENSATION_FAILED, 3, "compensation-failed"),
    ],
)
def test_states_have_the_numbers_of_the_contract(state: OrchestrationState, number: int, status: str) -> None:
    document = orchestrations.to_json(orchestration(state, "why"), AT)
    assert (document["state"], document["status"], document["errorDetail"]) == (number, status, "why")


@pytest.mark.parametrize("missing", ["id", "correlationId", "orchestrationType"])
def test_over_http_a_manifest_needs_its_three_names(missing: str) -> None:
    document = {"id": "o", "correlationId": "c", "orchestrationType": "x"}
    parse(json.dumps(document).encode(), orchestrations.ManifestDocument)[0]
    for bad in ({missing: ""}, {missing: None}):
        with pytest.raises(ValidationError):
            parse(json.dumps(document | bad).encode(), orchestrations.ManifestDocument)[0]
