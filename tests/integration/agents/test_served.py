"""Each agent alone, served by functions-framework as it is deployed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flask
import functions_framework
import pytest

import functions.agents
from cfm_core import deployment
from cfm_core.contracts import event_tokens
from cfm_core.contracts.orchestration import DEPLOY
from cfm_core.declaration import EventFunction, discover
from tests.integration.agents.conftest import IN_ORDER, PAYLOAD, World

AGENTS = [one for one in discover(functions.agents) if isinstance(one, EventFunction)]
ACTIVITIES = [one for one in AGENTS if one.activity is not None]
KEY = "the-key-of-the-trigger"


@pytest.fixture(autouse=True)
def process(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The environment of an agent's process: no database, no NATS, no keys."""
    for name in ("CFM_DATABASE_URL", "CFM_NATS_URL"):
        monkeypatch.delenv(name, raising=False)
    tokens = tmp_path / "tokens.json"
    tokens.write_text(event_tokens.dump([KEY], [function.name for function in AGENTS]))
    monkeypatch.setenv("CFM_EVENT_TOKENS_FILE", str(tokens))
    monkeypatch.setenv("CFM_TENANT_MANAGER_URL", "http://127.0.0.1:1")
    deployment.stop()
    yield
    deployment.stop()


def post(function: EventFunction, events: list[dict[str, Any]], opens: str = "") -> Any:
    token = event_tokens.derived(KEY, opens or function.name)
    app: flask.Flask = functions_framework.create_app(function.name, str(function.source))  # type: ignore[no-untyped-call]
    return app.test_client().post(
        "/",
        data=json.dumps(events),
        headers={"Content-Type": "application/cloudevents-batch+json", "Authorization": f"Bearer {token}"},
    )


def dispatch(function: EventFunction, number: int, values: dict[str, Any]) -> dict[str, Any]:
    assert function.activity is not None
    data = {
        "orchestrationId": f"o-{number}",
        "phase": 0,
        "ord": 0,
        "token": f"t-{number}",
        "activityId": "activity-1",
        "activityType": function.activity.activity_type,
        "discriminator": DEPLOY,
        "correlationId": "c",
        "attempt": 1,
        "values": values,
    }
    return {
        "specversion": "1.0",
        "id": f"e-{number}",
        "source": "test",
        "type": "cfm.activity.dispatch",
        "datacontenttype": "application/json",
        "data": data,
    }


def test_there_is_one_function_for_each_activity_type_and_those_of_the_lifecycle_agents() -> None:
    assert sorted(one.name for one in AGENTS) == [
        "edcv_activity",
        "follow_key_pair",
        "forget_signing_key",
        "identityhub_activity",
        "jwtlet_activity",
        "keycloak_activity",
        "look_after_signing_keys",
        "onboarding_activity",
        "registration_activity",
        "renew_credentials",
        "report_differences",
        "siglet_activity",
        "vault_activity",
    ]


@pytest.mark.parametrize("function", ACTIVITIES, ids=lambda function: function.name)
def test_an_agent_answers_each_dispatch(world: World, function: EventFunction) -> None:
    ready = {"participantContextId": "0" * 32}
    for cls in IN_ORDER:
        if cls.__activity__.activity_type == function.name.replace("_", "-"):
            ready = world.environment(cls).values
    nobody = {"cfm.vpa.data": PAYLOAD["cfm.vpa.data"]}
    answer = post(function, [dispatch(function, 1, ready), dispatch(function, 2, nobody), dispatch(function, 1, ready)])
    assert answer.status_code == 200
    first, second, third = answer.json["events"]
    kind = "schedule" if function.name == "onboarding_activity" else "complete"
    # Keycloak's agent needs to be told nothing.
    without = "complete" if function.name == "keycloak_activity" else "fatal"
    assert (first["data"]["kind"], second["data"]["kind"], third["data"]["kind"]) == (kind, without, kind)
    assert (first["data"]["token"], second["data"]["token"]) == ("t-1", "t-2")
    assert without == "complete" or "is missing" in second["data"]["reason"]


@pytest.mark.parametrize("function", AGENTS, ids=lambda function: function.name)
def test_an_agent_takes_events_of_the_trigger_only(function: EventFunction) -> None:
    (other, *_) = (one.name for one in AGENTS if one is not function)
    assert post(function, [], opens=other).status_code == 401
    assert post(function, []).status_code == 200


def test_an_agent_that_is_not_configured_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CFM_CONTROLPLANE_URL")
    (function,) = [one for one in AGENTS if one.name == "edcv_activity"]
    answer = post(function, [dispatch(function, 1, PAYLOAD)])
    assert answer.status_code == 503
    assert "CFM_CONTROLPLANE_URL is not set" in answer.json["detail"]
