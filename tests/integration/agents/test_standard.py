"""The standard orchestration's schemas: what its activities are given fits them, whatever becomes of a deploy."""

from __future__ import annotations

from typing import Any

import pytest

from cfm_core.json_schema import problem_of
from local import seed
from tests.integration.agents.conftest import DID, PAYLOAD

STATE = {"participantContextId": "0" * 32, "holderPid": "pid", "credentialRequest": "/pid"}
PAYLOADS: dict[str, dict[str, Any]] = {
    "a deploy that begins": PAYLOAD,
    "a deploy that is changed": PAYLOAD | {"cfm.vpa.state": STATE},
    "a deploy that goes on": PAYLOAD | STATE,
    "a deploy without credentials": PAYLOAD | {"cfm.vpa.credentials": []},
    "a VPA without properties": PAYLOAD | {"cfm.vpa.data": [{"vpaType": "cfm.issuer", "properties": None}]},
    "a user's disposal": {"cfm.participant.id": DID, "cfm.vpa.data": [], "cfm.vpa.state": STATE},
    "a disposal of what was never deployed": {"cfm.participant.id": DID, "cfm.vpa.data": [], "cfm.vpa.state": {}},
    "what undoes a deploy": PAYLOAD | {"error": "refused", "activity.x.attempt": 3, "cfm.vpa.state": STATE},
    "what undoes a deploy that was told no context": PAYLOAD | {"cfm.vpa.state": {}},
}
WRONG: dict[str, Any] = {
    "cfm.participant.id": "",
    "participantContextId": 7,
    "cfm.vpa.state": [],
    "cfm.vpa.data": {},
    "cfm.vpa.credentials": "all",
    "cfm.participant.credentialservice": None,
    "cfm.participant.protocolservice": 1,
    "cfm.participant.dataservice": {},
    "cfm.participant.holdername": ["Acme"],
}


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
@pytest.mark.parametrize("definition", seed.ACTIVITY_DEFINITIONS, ids=lambda one: one["type"])
def test_each_activity_takes_what_it_is_given(definition: dict[str, Any], payload: dict[str, Any]) -> None:
    assert problem_of(definition["inputSchema"], payload) is None


@pytest.mark.parametrize("definition", seed.ACTIVITY_DEFINITIONS, ids=lambda one: one["type"])
def test_each_activity_refuses_an_input_of_another_type(definition: dict[str, Any]) -> None:
    schema = definition["inputSchema"]
    for name in schema["properties"]:
        problem = problem_of(schema, PAYLOAD | STATE | {name: WRONG[name]})
        assert problem is not None
        assert problem.pointer == f"/{name}"


def test_what_identifies_the_participant_is_required_of_whoever_uses_it() -> None:
    lacking = {one["type"]: problem_of(one["inputSchema"], {}) for one in seed.ACTIVITY_DEFINITIONS}
    assert {type_ for type_, problem in lacking.items() if problem is None} == {"siglet-activity"}


@pytest.mark.parametrize("outputs", [STATE, {}], ids=["a deploy", "a disposal"])
def test_what_activities_give_out_fits(outputs: dict[str, Any]) -> None:
    for definition in seed.ACTIVITY_DEFINITIONS:
        assert problem_of(definition.get("outputSchema", {}), outputs) is None


def test_outputs_of_another_type_are_refused_and_each_has_one_source() -> None:
    sources: dict[str, str] = {}
    for definition in seed.ACTIVITY_DEFINITIONS:
        schema = definition.get("outputSchema", {})
        for name in schema.get("properties", {}):
            assert sources.setdefault(name, definition["type"]) == definition["type"]
            assert problem_of(schema, STATE | {name: 7}) is not None
    assert sources.keys() == STATE.keys()
