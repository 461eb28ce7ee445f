"""The life of one participant on a whole stack, with the shipped agents: it is changed, and what fails does not end it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from local import seed
from local.stack import Stack
from tests.support.deployments import PATIENCE_SECONDS

BASE = "/api/v1alpha1"
DID = "did:web:acme.example"


class Participant:
    """One participant of the demonstration fabric."""

    def __init__(self, stack: Stack) -> None:
        self._api = httpx2.Client(base_url=stack.url + BASE, timeout=30, trust_env=False)
        self._standins = httpx2.Client(
            base_url=stack.standins_url,
            headers={"Authorization": f"Bearer {stack.standins_token}"},
            timeout=10,
            trust_env=False,
        )
        for definition in seed.ACTIVITY_DEFINITIONS:
            self.call("POST", "/activity-definitions", definition, 201)
        self.call("POST", "/orchestration-definitions", seed.ORCHESTRATION_TEMPLATE, 201)
        cell = self.call("POST", "/cells", seed.CELL, 201)["id"]
        self.dataspace: str = self.call("POST", "/dataspace-profiles", seed.DATASPACE_PROFILE, 201)["id"]
        self.call("POST", f"/dataspace-profiles/{self.dataspace}/deployments", {"cellId": cell}, 202)
        self.tenant = f"/tenants/{self.call('POST', '/tenants', {}, 201)['id']}"
        wanted = {"identifier": DID, "vpaProperties": seed.VPA_PROPERTIES}
        deployed = self.call("POST", f"{self.tenant}/participant-profiles", wanted, 202)
        self.path = f"{self.tenant}/participant-profiles/{deployed['id']}"

    def close(self) -> None:
        self._api.close()
        self._standins.close()

    def call(self, method: str, path: str, document: Any, expect: int) -> Any:
        answer = self._api.request(method, path, json=document)
        assert answer.status_code == expect, answer.text
        return answer.json() if answer.content else None

    def once(self, *states: str) -> dict[str, Any]:
        """The profile when its VPAs are in one of ``states``."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            profile: dict[str, Any] = self.call("GET", self.path, None, 200)
            if profile["vpas"][0]["state"] in states:
                return profile
            assert time.monotonic() < deadline, profile

    def fault(self, service: str, **fault: Any) -> None:
        self._standins.post("/_control/faults", json={"service": service, **fault}).raise_for_status()

    def mend(self) -> None:
        self._standins.delete("/_control/faults").raise_for_status()

    def traces(self, context: str) -> dict[str, list[str]]:
        return seed.traces(self._standins.get("/_control/state").raise_for_status().json(), context, DID)


@pytest.fixture
def participant(tmp_path: Path) -> Iterator[Participant]:
    with Stack(tmp_path / "data", auth=False) as stack, contextlib.closing(Participant(stack)) as participant:
        yield participant


def test_a_participant_is_changed_deployed_again_disposed_and_purged(participant: Participant) -> None:
    context = participant.once("active")["properties"]["cfm.vpa.state"]["participantContextId"]
    assert "a ManufacturerCredential" not in participant.traces(context)["identityhub"]

    participant.call("PATCH", participant.path, {"participantRoles": {participant.dataspace: ["manufacturer"]}}, 202)
    changed = participant.once("active", "error")
    assert (changed["vpas"][0]["state"], changed["error"]) == ("active", False)
    assert changed["properties"]["cfm.vpa.state"]["participantContextId"] == context
    assert "a ManufacturerCredential" in participant.traces(context)["identityhub"]
    before = participant.traces(context)

    participant.fault("controlplane", status=403)
    participant.call("PATCH", participant.path, {"vpaProperties": {"cfm.issuer": {"membership": {"level": 2}}}}, 202)
    failed = participant.once("error", "active", "disposed")
    assert (failed["vpas"][0]["state"], failed["error"]) == ("error", True)
    assert participant.traces(context)["controlplane"] == before["controlplane"]
    participant.mend()
    participant.call("POST", f"{participant.path}/deploy", None, 202)
    assert participant.once("active", "error")["error"] is False

    participant.call("DELETE", participant.path, None, 202)
    participant.once("disposed")
    assert not any(participant.traces(context).values())
    participant.call("POST", f"{participant.path}/deploy", None, 202)
    again = participant.once("active", "error")["properties"]["cfm.vpa.state"]["participantContextId"]
    assert again != context
    assert all(participant.traces(again).values())

    participant.call("DELETE", participant.path, None, 202)
    participant.once("disposed")
    participant.call("DELETE", f"{participant.path}?purge=true", None, 200)
    participant.call("DELETE", participant.tenant, None, 200)
