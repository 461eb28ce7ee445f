"""Secrets are kept and handed on, and not shown."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from cfm_core.clock import system_clock
from cfm_core.contracts.activity import OutcomeKind
from cfm_core.contracts.dead_letter import DeadLetterNotice
from cfm_core.errors import ValidationError
from cfm_core.provisioning.dead_letters import v1alpha1 as dead_letters
from cfm_core.provisioning.definitions.model import Activity, ActivityDefinition, Input, OrchestrationTemplate
from cfm_core.provisioning.operations.model import Order
from cfm_core.provisioning.orchestrations import v1alpha1 as orchestrations
from cfm_core.provisioning.orchestrations.v1alpha1 import attempt_to_json
from cfm_core.provisioning.schedules.v1alpha1 import NewSchedule
from cfm_core.query import Page
from tests.contract.provisioning.world import Driver, World, dispatches, manifest, responses

ORDER = Order(actor="ann", reason="", request_id="r")
SHOWN = {
    "pin": "***",
    "login": "***",
    "db.password": "***",
    "ref.secret": "vault:v1/x",
    "name": "n",
    "list": [{"token": "***"}],
}
DATA = {
    "pin": "1234",
    "login": "5",
    "db.password": "p",
    "ref.secret": "vault:v1/x",
    "name": "n",
    "list": [{"token": "t"}],
}


@pytest.fixture(autouse=True)
def defined(world: World) -> None:
    """An activity type marks ``pin``, and another gets ``login`` under such a name."""
    marks = {"properties": {"pin": {"type": "string", "writeOnly": True}}}
    world.definitions.put_activity_definition(ActivityDefinition(type="t", output_schema=marks))
    mapped = {"properties": {"phrase": {"type": "string", "format": "password"}}}
    world.definitions.put_activity_definition(ActivityDefinition(type="m", input_schema=mapped))
    activities = [Activity("a", "t"), Activity("b", "m", ("a",), inputs=(Input("phrase", "login"),))]
    world.definitions.add_template(OrchestrationTemplate(id="template", activities={"one": activities}))


def shown(world: World, id_: str) -> Any:
    return orchestrations.to_json(world.orchestrations.get(id_), system_clock())


def test_data_and_outputs_are_shown_without_secrets_and_handed_on_with_them(world: World, driver: Driver) -> None:
    sent = dispatches(driver.start(manifest("o", "one", **DATA)).outbox)
    assert sent["a"].values == DATA
    again = driver.complete("o", "a", values={"apiKey": "k"}, outputs=DATA)
    assert dispatches(again.outbox)["b"].values == {"phrase": "5"}
    assert shown(world, "o")["processingData"] == SHOWN | {"apiKey": "***"}
    assert shown(world, "o")["outputData"] == SHOWN
    assert world.orchestrations.get("o").output_data == DATA
    (response,) = responses(driver.complete("o", "b").outbox)
    assert response.properties == DATA
    assert orchestrations.to_internal_json(world.orchestrations.get("o"), system_clock())["outputData"] == SHOWN


def test_reasons_are_shown_without_secrets(world: World, driver: Driver) -> None:
    driver.start(manifest("o", "one"))
    driver.record(driver.outcome("o", "a", OutcomeKind.FATAL, reason="refused password=hunter2"))
    found = shown(world, "o")
    texts = [found["errorDetail"], found["statusReason"], found["activities"][0]["reason"]]
    texts += [attempt_to_json(one)["reason"] for one in world.orchestrations.history("o")]
    assert all("password=***" in text and "hunter2" not in text for text in texts)


def test_a_delayed_start_is_shown_without_secrets(world: World) -> None:
    world.orchestrations.start(manifest("o", "one", **DATA), system_clock() + timedelta(days=1))
    assert shown(world, "o")["processingData"] == SHOWN


def test_a_dead_letter_is_shown_without_secrets(world: World) -> None:
    event = {"specversion": "1.0", "id": "e", "source": "s", "type": "t", "data": {"payload": DATA}}
    notice = DeadLetterNotice(
        key="k", subject="event.x", target="f", reason="400 password=hunter2", deliveries=1, event=event
    )
    world.letters.keep([notice])
    (entry,) = json.loads(world.letters.select("true", Page()).json)
    letter = world.letters.get(str(entry["id"]))
    found = json.loads(dead_letters.to_entity(letter).text)
    assert (found["event"]["data"]["payload"], found["reason"], entry["reason"]) == (
        SHOWN,
        "400 password=***",
        "400 password=***",
    )
    assert (
        json.loads(dead_letters.to_entity(world.letters.replay(str(entry["id"]), ORDER)).text)["event"]
        == found["event"]
    )
    assert world.rows()[-1].events == [event]


def test_a_schedule_is_shown_without_secrets_and_starts_with_them(world: World, driver: Driver) -> None:
    new = NewSchedule(id="s", cron="* * * * *", orchestration_type="one", payload=DATA)
    _, made = world.schedules.create(new, ORDER)
    listed = json.loads(world.schedules.select("true", Page()).json)
    put = world.schedules.put("s", new, ORDER)[1]
    for one in (json.loads(made.text), *listed, json.loads(world.schedules.get("s").text), json.loads(put.text)):
        assert one["payload"] == SHOWN
    world.set_next("s", system_clock() - timedelta(seconds=1))
    sent = dispatches(driver.take(world.due_starts.sweep()).outbox)
    assert sent["a"].values == DATA


def test_a_mask_that_is_sent_back_is_refused(world: World) -> None:
    new = NewSchedule(id="s", cron="* * * * *", orchestration_type="one", payload=DATA)
    world.schedules.create(new, ORDER)
    for payload, pointer in ((SHOWN, "/payload/pin"), ({"list": [{"token": "***"}]}, "/payload/list/0/token")):
        with pytest.raises(ValidationError) as refused:
            world.schedules.put("s", new.model_copy(update={"payload": payload}), ORDER)
        assert [one.pointer for one in refused.value.errors] == [pointer]


def test_what_operators_give_as_reasons_is_shown_without_secrets(world: World, driver: Driver) -> None:
    driver.start(manifest("o", "one"))
    world.operations.pause("o", Order(actor="ann", reason="their token=abc has leaked", request_id="r"))
    (noted,) = json.loads(world.audit.select("true", Page()).json)
    assert noted["reason"] == "their token=*** has leaked"
