"""The standard orchestration on a whole stack: whatever becomes of a deploy, its disposal leaves nothing behind."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from cfm_core.contracts.orchestration import compensation_id
from local import seed, seeding
from local.stack import Stack
from local.standins.rehearsals import CALLS
from tests.support.deployments import PATIENCE_SECONDS

BASE = "/api/v1alpha1"


class Fabric:
    """A stack with the demonstration fabric, and its stand-ins."""

    def __init__(self, stack: Stack) -> None:
        seeding.apply(stack.url, "")
        self._api = httpx2.Client(base_url=stack.url + BASE, timeout=30, trust_env=False)
        self._standins = httpx2.Client(
            base_url=stack.standins_url,
            headers={"Authorization": f"Bearer {stack.standins_token}"},
            timeout=10,
            trust_env=False,
        )
        self._tenant = self.call("POST", "/tenants", {}, 201)["id"]

    def close(self) -> None:
        self._api.close()
        self._standins.close()

    def call(self, method: str, path: str, document: Any, expect: int) -> Any:
        answer = self._api.request(method, path, json=document)
        assert answer.status_code == expect, answer.text
        return answer.json() if answer.content else None

    def deploy(self, did: str) -> dict[str, Any]:
        """Ask for a participant; gives its profile."""
        document = {"identifier": did, "vpaProperties": seed.VPA_PROPERTIES}
        profile: dict[str, Any] = self.call("POST", f"/tenants/{self._tenant}/participant-profiles", document, 202)
        return profile

    def again(self, profile: dict[str, Any]) -> None:
        self.call("POST", f"{self.path(profile)}/deploy", None, 202)

    def dispose(self, profile: dict[str, Any]) -> None:
        self.call("DELETE", self.path(profile), None, 202)

    def path(self, profile: dict[str, Any]) -> str:
        return f"/tenants/{self._tenant}/participant-profiles/{profile['id']}"

    def once(self, profile: dict[str, Any], *states: str) -> dict[str, Any]:
        """The profile when its VPAs are in one of ``states``."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            found: dict[str, Any] = self.call("GET", self.path(profile), None, 200)
            if {vpa["state"] for vpa in found["vpas"]} <= set(states):
                return found
            assert time.monotonic() < deadline, found

    def run(self, orchestration_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.call("GET", f"/orchestrations/{orchestration_id}", None, 200)
        return found

    @contextlib.contextmanager
    def fault(self, service: str, **fault: Any) -> Iterator[None]:
        self._standins.post("/_control/faults", json={"service": service, **fault}).raise_for_status()
        try:
            yield
        finally:
            self._standins.delete("/_control/faults").raise_for_status()

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = self._standins.get("/_control/state").raise_for_status().json()
        return found


@pytest.fixture(scope="module")
def fabric(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fabric]:
    data = tmp_path_factory.mktemp("standard") / "data"
    with Stack(data, auth=False) as stack, contextlib.closing(Fabric(stack)) as fabric:
        yield fabric


def context_of(profile: dict[str, Any]) -> str:
    return str(profile["properties"]["cfm.vpa.state"]["participantContextId"])


def test_a_participant_comes_goes_and_comes_again(fabric: Fabric) -> None:
    did = "did:web:acme.example"
    profile = fabric.deploy(did)
    contexts = []
    for _ in range(2):
        deployed = fabric.once(profile, "active")
        contexts.append(context_of(deployed))
        assert all(seed.traces(fabric.state(), contexts[-1], did).values())
        fabric.dispose(profile)
        fabric.once(profile, "disposed")
        assert seed.left_behind(fabric.state(), contexts[-1], did) == []
        fabric.again(profile)
    fabric.once(profile, "active")
    assert len(set(contexts)) == 2
    fabric.dispose(profile)
    fabric.once(profile, "disposed")


def prove_undone(fabric: Fabric, profile: dict[str, Any], reason: str) -> None:
    """The deploy has failed for this reason, and has been undone, and nothing is left."""
    undone = fabric.once(profile, "disposed")
    run = fabric.run(profile["orchestrationId"])
    assert run["status"] == "compensated", run
    assert reason in run["statusReason"] + str(undone.get("errorDetail", "")), run
    assert fabric.run(compensation_id(profile["orchestrationId"]))["status"] == "completed"
    context = run["processingData"]["participantContextId"]
    assert seed.left_behind(fabric.state(), context, profile["identifier"]) == []


@pytest.mark.parametrize("name", [*CALLS, "issuance"])
def test_a_deploy_that_fails_is_undone_and_leaves_nothing_behind(fabric: Fabric, name: str) -> None:
    profile = fabric.deploy(f"did:web:fail-{name}.example")
    prove_undone(fabric, profile, "rehearsed" if name == "issuance" else "answered 403")


@pytest.mark.parametrize(("method", "path"), [("POST", "/mappings"), ("POST", "/token")])
def test_a_deploy_that_fails_at_jwtlet_is_undone_and_leaves_nothing_behind(
    fabric: Fabric, method: str, path: str
) -> None:
    with fabric.fault("jwtlet", method=method, path=path, status=422, times=1):
        profile = fabric.deploy(f"did:web:jwtlet-{path.strip('/')}.example")
        fabric.once(profile, "disposed")
    prove_undone(fabric, profile, "answered 422")


def test_after_a_deploy_that_was_undone_the_same_participant_can_be_deployed(fabric: Fabric) -> None:
    did = "did:web:second-try.example"
    with fabric.fault("issuerservice", method="POST", path="/holders$", status=403):
        profile = fabric.deploy(did)
        fabric.once(profile, "disposed")
    fabric.again(profile)
    context = context_of(fabric.once(profile, "active"))
    fabric.dispose(profile)
    fabric.once(profile, "disposed")
    assert seed.left_behind(fabric.state(), context, did) == []


def test_a_participant_of_flaky_services_comes_and_goes_all_the_same(fabric: Fabric) -> None:
    profile = fabric.deploy("did:web:flaky.example")
    context = context_of(fabric.once(profile, "active"))
    fabric.dispose(profile)
    fabric.once(profile, "disposed")
    assert seed.left_behind(fabric.state(), context, "did:web:flaky.example") == []


def test_what_is_left_behind_is_found_wherever_it_is(fabric: Fabric) -> None:
    did = "did:web:kept.example"
    profile = fabric.deploy(did)
    context = context_of(fabric.once(profile, "active"))
    kinds = {one.split(":")[0] for one in seed.left_behind(fabric.state(), context, did)}
    assert kinds == {
        "jwtlet mappings",
        "controlplane participants",
        "controlplane configs",
        "controlplane dataplanes",
        "identityhub participants",
        "identityhub keypairs",
        "identityhub credentialRequests",
        "identityhub credentials",
        "issuerservice holders",
        "issuerservice credentials",
        "siglet transferTypes",
    }
    fabric.dispose(profile)
    fabric.once(profile, "disposed")
