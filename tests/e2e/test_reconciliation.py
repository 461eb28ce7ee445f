"""Services and records on a whole stack: an agent without database and NATS renews what nears its end, and tells what differs."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from cfm_core.clients.control_plane import ControlPlane
from cfm_core.clients.edc import EdcApi
from cfm_core.clients.http import HttpClient
from cfm_core.clients.issuer_service import IssuerService
from cfm_core.clients.jwtlet import ResourceMapping, ResourceMappings, TokenExchange
from cfm_core.clients.settings import DataspaceSettings
from cfm_core.contracts import event_tokens
from local import seed, seeding
from local.stack import Stack
from local.standins import AGENTS, agent_environment
from tests.integration.eventing.harness import until
from tests.support.deployments import PATIENCE_SECONDS

BASE = "/api/v1alpha1"
DID = "did:web:acme.example"
TICK = {"specversion": "1.0", "id": "tick", "source": "test", "type": "cfm.tick", "data": None}


class Fabric:
    """A stack with the demonstration fabric and one active participant, and its services as agents see them."""

    def __init__(self, stack: Stack, token_file: Path) -> None:
        self.data = stack.data
        seeding.apply(stack.url, stack.token())
        bearer = {"Authorization": f"Bearer {stack.token()}"}
        self._api = httpx2.Client(base_url=stack.url + BASE, headers=bearer, timeout=30, trust_env=False)
        control = {"Authorization": f"Bearer {stack.standins_token}"}
        self.standins = httpx2.Client(base_url=stack.standins_url, headers=control, timeout=10, trust_env=False)
        self._http = HttpClient()
        settings = DataspaceSettings.from_environ(
            agent_environment(stack.standins_url, stack.standins_token, token_file)
        )
        tokens = TokenExchange(self._http, settings.jwtlet_url, settings.service_token)
        self.mappings = ResourceMappings(self._http, settings.jwtlet_management_url, settings.service_token)
        self.control_plane = ControlPlane(EdcApi(self._http, tokens, settings.controlplane_url))
        self.issuer = IssuerService(EdcApi(self._http, tokens, settings.issuerservice_url), settings.issuer_id)
        self._agents = {one.name: one.check for one in stack.processes}["agents"].removesuffix("/-/functions")
        self.agents_environ = psutil.Process(stack.process("agents").pid).environ()

    def close(self) -> None:
        for client in (self._api, self.standins, self._http):
            client.close()

    def post(self, path: str, document: Any) -> Any:
        return self._api.post(path, json=document).raise_for_status().json()

    def deploy(self) -> str:
        """Have the participant deployed; gives its context."""
        tenant = self.post("/tenants", {})["id"]
        path = f"/tenants/{tenant}/participant-profiles"
        wanted = {"identifier": DID, "vpaProperties": seed.VPA_PROPERTIES}
        profile = self.post(path, wanted)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while {vpa["state"] for vpa in profile["vpas"]} != {"active"}:
            assert time.monotonic() < deadline, profile
            profile = self._api.get(f"{path}/{profile['id']}").raise_for_status().json()
        context: str = profile["properties"]["cfm.vpa.state"]["participantContextId"]
        return context

    def ahead(self, time: timedelta) -> None:
        """Let the issuer write its credentials as if it were so much later."""
        document = {"aheadSeconds": time.total_seconds()}
        self.standins.post("/_control/calendar", json=document).raise_for_status()

    def wake(self, name: str) -> None:
        """Wake a function of the agent, as the trigger does."""
        tokens = event_tokens.load(Path(self.agents_environ["CFM_EVENT_TOKENS_FILE"]).read_text())
        headers = {
            "Authorization": f"Bearer {tokens[name][0]}",
            "Content-Type": "application/cloudevents-batch+json",
        }
        answer = httpx2.post(f"{self._agents}/{name}", json=[TICK], headers=headers, timeout=30, trust_env=False)
        assert (answer.status_code, answer.json()) == (200, {}), answer.text

    def at_the_hub(self) -> dict[str, Any]:
        found: dict[str, Any] = self.standins.get("/_control/state").raise_for_status().json()["identityhub"]
        return found

    def cfm_reconcile(self, *arguments: str) -> tuple[int, Any]:
        """The exit code and the document of the command."""
        done = subprocess.run(
            [sys.executable, "-m", "local", "reconcile", "--data", str(self.data), *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)


@pytest.fixture
def fabric(tmp_path: Path) -> Iterator[Fabric]:
    with Stack(tmp_path / "stack") as stack:
        fabric = Fabric(stack, tmp_path / "token")
        yield fabric
        fabric.close()


def test_a_credential_near_its_end_is_renewed_once_and_what_differs_is_told(fabric: Fabric) -> None:
    fabric.ahead(timedelta(days=-5))
    context = fabric.deploy()
    fabric.ahead(timedelta(0))
    before = fabric.at_the_hub()

    code, report = fabric.cfm_reconcile("--report")
    assert (code, report["missing"], report["superfluous"]) == (0, [], [])
    assert report["participants"] == 1
    assert fabric.at_the_hub() == before

    assert fabric.agents_environ.keys() & {"CFM_DATABASE_URL", "CFM_NATS_URL"} == set()
    for _ in range(2):
        fabric.wake("renew_credentials")
    until(lambda: {one["status"] for one in fabric.at_the_hub()["credentialRequests"]} == {"ISSUED"})
    fabric.wake("renew_credentials")
    hub = fabric.at_the_hub()
    assert len(hub["credentialRequests"]) == 2
    ends = sorted(
        datetime.fromisoformat(one["verifiableCredential"]["credential"]["expirationDate"])
        for one in hub["credentials"]
    )
    assert [round((end - datetime.now(UTC)) / timedelta(days=1)) for end in ends] == [2, 7]

    (holder,) = fabric.issuer.find_holders(context, did=DID)
    fabric.issuer.delete_holder(context, holder.id)
    fabric.mappings.put(ResourceMapping(AGENTS, "stray", ("management-api:admin",), ("edcv",)))
    fabric.control_plane.create_participant("stray", "did:web:nobody.example")
    code, report = fabric.cfm_reconcile()
    assert code == 1
    assert [(one["service"], one["what"], one["did"]) for one in report["missing"]] == [
        ("issuerservice", "holder", DID)
    ]
    assert [(one["service"], one["what"], one["participantContext"]) for one in report["superfluous"]] == [
        ("jwtlet", "mapping", "stray"),
        ("controlplane", "participant context", "stray"),
    ]
    fabric.wake("report_differences")
    told = [
        json.loads(line) for line in (fabric.data / "logs" / "agents.log").read_text().splitlines() if line[:1] == "{"
    ]
    assert {(one["finding"], one["service"], one["what"]) for one in told if "finding" in one} == {
        ("missing", "issuerservice", "holder"),
        ("superfluous", "jwtlet", "mapping"),
        ("superfluous", "controlplane", "participant context"),
    }
    assert len(fabric.at_the_hub()["credentialRequests"]) == 2
