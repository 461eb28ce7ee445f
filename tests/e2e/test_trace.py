"""One trace from the request to the services, and to the response, on the whole system."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import httpx2
import pytest

from cfm_core.contracts import subjects
from cfm_core.contracts.orchestration import DISPOSE
from cfm_core.trace import NAMES
from local import seed, seeding
from local.stack import Stack
from tests.integration.eventing.stream import publish
from tests.support.deployments import PATIENCE_SECONDS
from tests.support.tap import Heard, Tap

BASE = "/api/v1alpha1"
SERVICES = ("jwtlet", "controlplane", "identityhub", "issuerservice", "siglet")


def new_context() -> dict[str, str]:
    """A trace context that nobody else has."""
    return {
        "traceparent": f"00-{uuid.uuid4().hex}-{uuid.uuid4().hex[:15]}1-01",
        "tracestate": "vendor=1",
        "baggage": "origin=test",
    }


class World:
    """A stack of which every hop goes through NATS, with a tap on that."""

    def __init__(self, stack: Stack, tap: Tap) -> None:
        seeding.apply(stack.url, "")
        self._api = httpx2.Client(base_url=stack.url + BASE, timeout=30, trust_env=False)
        control = {"Authorization": f"Bearer {stack.standins_token}"}
        self._control = httpx2.Client(base_url=stack.standins_url, headers=control, timeout=10, trust_env=False)
        self._tap = tap
        self.nats_url = stack.nats_url
        self.tenant = self.call("POST", "/tenants", {})["id"]

    def close(self) -> None:
        self._api.close()
        self._control.close()

    def call(self, method: str, path: str, document: Any = None, **headers: str) -> Any:
        answer = self._api.request(method, path, json=document, headers=headers).raise_for_status()
        assert answer.headers.get("traceparent") == headers.get("traceparent")
        return answer.json() if answer.content else None

    def at_services(self) -> dict[str, list[dict[str, str]]]:
        """The trace contexts with which each service has been asked."""
        seen: dict[str, list[dict[str, str]]] = self._control.get("/_control/traces").raise_for_status().json()
        return seen

    def heard(self, subject: str, about: str) -> list[Heard]:
        """What was published on a subject, or below it, about an id."""
        return [one for one in self._tap.messages if one.subject.startswith(subject) and about.encode() in one.body]

    def until(self, look: Callable[[], Any]) -> Any:
        """What ``look`` gives, as soon as it gives something."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (found := look()):
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.02)  # between two looks; what is waited for is the condition
        return found

    def response_to(self, manifest_id: str) -> Heard:
        def look() -> list[Heard]:
            heard = self.heard(subjects.RESPONSES, manifest_id)
            return [one for one in heard if json.loads(one.body)["manifestId"] == manifest_id]

        found: list[Heard] = self.until(look)
        return found[0]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    data = tmp_path_factory.mktemp("trace") / "data"
    with Stack(data, auth=False, handovers=("jetstream",)) as stack:
        tap = Tap(stack.nats_url)
        tap.start()
        try:
            with closing(World(stack, tap)) as world:
                yield world
        finally:
            tap.stop()


def in_headers(message: Heard) -> dict[str, str]:
    """The trace context of a message of the contract's subjects."""
    return {name: message.headers[name] for name in NAMES if name in message.headers}


def in_events(messages: list[Heard], about: str) -> list[dict[str, str]]:
    """The trace contexts of the events about an id in messages between our own processes."""
    events = [event for one in messages for event in json.loads(one.body) if about in json.dumps(event["data"])]
    return [{name: event[name] for name in NAMES if name in event} for event in events]


def test_one_trace_leads_from_the_request_to_the_services_and_to_the_response(world: World) -> None:
    context = new_context()
    wanted = {"identifier": f"did:web:{uuid.uuid4()}.example", "vpaProperties": seed.VPA_PROPERTIES}
    profile = world.call("POST", f"/tenants/{world.tenant}/participant-profiles", wanted, **context)
    run = profile["orchestrationId"]
    response = world.response_to(run)
    assert json.loads(response.body)["success"], response.body
    assert in_headers(response) == context
    # One that is published twice is heard twice.
    sent = [in_headers(one) for one in world.heard(subjects.MANIFESTS, run) if one.subject == subjects.MANIFESTS]
    assert sent
    assert sent == [context] * len(sent)
    for subject in (subjects.activity(""), subjects.RESULTS):
        found = in_events(world.heard(subject, run), run)
        assert found
        assert found == [context] * len(found)
    services = world.at_services()
    assert {name for name, seen in services.items() if context in seen} >= {*SERVICES}
    assert [one for seen in services.values() for one in seen if one not in ({}, context)] == []

    other = new_context()
    path = f"/tenants/{world.tenant}/participant-profiles/{profile['id']}"
    world.until(lambda: world.call("GET", path)["vpas"][0]["state"] == "active")
    world.call("DELETE", path, **other)
    response = world.until(
        lambda: [
            one
            for one in world.heard(subjects.RESPONSES, profile["id"])
            if json.loads(one.body)["orchestrationType"] == DISPOSE
        ]
    )[0]
    assert in_headers(response) == other
    assert {name for name, seen in world.at_services().items() if other in seen} >= {*SERVICES}


@pytest.mark.parametrize("traced", [True, False])
def test_a_manifest_of_another_tenant_manager_is_continued(world: World, traced: bool) -> None:
    context = new_context() if traced else {}
    id_ = str(uuid.uuid4())
    payload = {"cfm.participant.id": f"did:web:{id_}.example", "cfm.vpa.data": [], "cfm.vpa.state": {}}
    manifest = {"id": id_, "correlationId": id_, "orchestrationType": DISPOSE, "payload": payload}
    publish(world.nats_url, subjects.MANIFESTS, json.dumps(manifest).encode(), context or None)
    response = world.response_to(id_)
    assert in_headers(response) == context
    found = in_events(world.heard(subjects.activity(""), id_), id_)
    assert found
    assert found == [context] * len(found)


def test_a_malformed_context_is_dropped(world: World) -> None:
    id_ = str(uuid.uuid4())
    manifest = {"id": id_, "correlationId": id_, "orchestrationType": "nobody.defines.it"}
    odd = {"traceparent": "00-a-b-01", "baggage": "a=1"}
    publish(world.nats_url, subjects.MANIFESTS, json.dumps(manifest).encode(), odd)
    assert in_headers(world.response_to(id_)) == {}
