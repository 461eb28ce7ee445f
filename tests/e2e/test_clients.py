"""Clients that exist already, written as they behave: what they do has to go on working.

The installation of the platform posts everything again with each upgrade, and gives up at the first answer of 400 or more.
An onboarding application reads answers into classes of its own: it leaves out ``cellId``, sends whole entities back, knows
eight states, and ignores what it does not know.
"""

from __future__ import annotations

import enum
import json
import time
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import pytest

from local import seed
from local.stack import Stack
from tests.support.deployments import PATIENCE_SECONDS

T = TypeVar("T")


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def call(url: str, token: str, method: str, path: str, document: Any = None) -> Answer:
    """Send a request; an answer of 400 or more raises, as such clients have it."""
    body = None if document is None else json.dumps(document).encode()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/api/v1alpha1{path}", body, headers, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=30) as answer:
        return Answer(answer.status, answer.headers, answer.read())


class InstallJob:
    """Installs and upgrades: activity definitions, the template with an id of its own each time, a cell, a profile."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._token = token

    def post(self, path: str, document: Any) -> Answer:
        return call(self._url, self._token, "POST", path, document)

    def run(self) -> str:
        """Gives the id of the dataspace profile."""
        for definition in seed.ACTIVITY_DEFINITIONS:
            assert self.post("/activity-definitions", definition).status == 201
        template = seed.ORCHESTRATION_TEMPLATE | {"id": str(uuid.uuid4())}
        assert self.post("/orchestration-definitions", template).json["id"] == template["id"]
        cell: str = self.post("/cells", {"state": "active", "stateTimestamp": "0001-01-01T00:00:00Z"}).json["id"]
        profile: str = self.post("/dataspace-profiles", seed.DATASPACE_PROFILE).json["id"]
        document = {"profileId": profile, "cellId": cell}
        assert self.post(f"/dataspace-profiles/{profile}/deployments", document).status == 202
        return profile


class State(enum.Enum):
    """The states that the onboarding application knows; any other breaks it."""

    INITIAL = "initial"
    PENDING = "pending"
    ACTIVE = "active"
    DISPOSING = "disposing"
    DISPOSED = "disposed"
    LOCKED = "locked"
    OFFLINE = "offline"
    ERROR = "error"


def read(kind: type[T], document: Any) -> T:
    """The fields that ``kind`` has, as a JSON mapper that ignores the others."""
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in document.items() if name in names})


@dataclass
class TenantView:
    id: str
    version: int
    properties: dict[str, Any]


class OnboardingApp:
    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._token = token

    def call(self, method: str, path: str, document: Any = None) -> Answer:
        return call(self._url, self._token, method, path, document)

    def tenant(self, name: str) -> TenantView:
        created = read(TenantView, self.call("POST", "/tenants", {"properties": {"name": name}}).json)
        found = self.call("POST", "/tenants/query", {"predicate": f"properties.name = '{name}'"})
        assert int(found.headers["X-Total-Count"]) == 1
        diff = {"properties": {"checked": True}, "removed": []}
        changed = read(TenantView, self.call("PATCH", f"/tenants/{created.id}", diff).json)
        assert (changed.id, changed.properties) == (created.id, {"name": name, "checked": True})
        return changed

    def deploy(self, tenant: TenantView, document: Mapping[str, Any]) -> dict[str, Any]:
        answer = self.call("POST", f"/tenants/{tenant.id}/participant-profiles", document)
        assert answer.status == 202
        profile: dict[str, Any] = answer.json
        return profile

    def wait(self, profile: Mapping[str, Any], *, until: State) -> dict[str, Any]:
        """Read the profile until each of its four agents has that state."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        path = f"/tenants/{profile['tenantId']}/participant-profiles/{profile['id']}"
        while True:
            now: dict[str, Any] = self.call("GET", path).json
            states = [State(agent["state"]) for agent in now["vpas"]]
            if states == [until] * 4:
                return now
            assert State.ERROR not in states, now
            assert time.monotonic() < deadline, now


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    with Stack(tmp_path / "data") as stack:
        yield stack


def test_the_platform_can_be_upgraded_as_often_as_one_likes(stack: Stack) -> None:
    job = InstallJob(stack.url, stack.token())
    app = OnboardingApp(stack.url, stack.token())
    for upgrade in range(3):
        profile = job.run()
        # What was deployed before does not hinder an upgrade, and what comes after works.
        tenant = app.tenant(f"upgrade {upgrade}")
        deployed = app.deploy(tenant, {"identifier": f"did:web:{uuid.uuid4()}", "dataspaceProfileIds": [profile]})
        app.wait(deployed, until=State.ACTIVE)
    types = [one["type"] for one in call(stack.url, stack.token(), "GET", "/activity-definitions").json]
    assert sorted(types) == sorted(one["type"] for one in seed.ACTIVITY_DEFINITIONS)


def test_the_onboarding_application_goes_its_whole_way(stack: Stack) -> None:
    InstallJob(stack.url, stack.token()).run()
    app = OnboardingApp(stack.url, stack.token())
    dataspace = app.call("POST", "/dataspace-profiles", seed.DATASPACE_PROFILE | {"id": None, "version": 0}).json["id"]
    deployed = app.call("POST", f"/dataspace-profiles/{dataspace}/deployments")
    assert (deployed.status, deployed.body) == (202, b"")
    tenant = app.tenant("onboarding")
    whole = {
        "id": None,
        "version": 0,
        "identifier": f"did:web:{uuid.uuid4()}",
        "tenantId": tenant.id,
        "participantRoles": {dataspace: ["manufacturer"]},
        "dataspaceProfileIds": [dataspace],
        "vpas": [],
        "properties": {"name": "Foo"},
        "error": False,
        "errorDetail": None,
    }
    active = app.wait(app.deploy(tenant, whole), until=State.ACTIVE)
    assert (active["identifier"], active["error"], active["properties"]["name"]) == (whole["identifier"], False, "Foo")

    # The whole of it again, for another identity: nothing of the first sticks to the second.
    second = app.deploy(tenant, active | {"identifier": f"did:web:{uuid.uuid4()}", "properties": {"name": "Bar"}})
    assert second["id"] != active["id"]
    assert not {agent["id"] for agent in second["vpas"]} & {agent["id"] for agent in active["vpas"]}
    app.wait(second, until=State.ACTIVE)
    listed = app.call("GET", f"/tenants/{tenant.id}/participant-profiles").json
    assert {profile["id"] for profile in listed} == {active["id"], second["id"]}

    disposing = app.call("DELETE", f"/tenants/{tenant.id}/participant-profiles/{active['id']}")
    assert (disposing.status, disposing.body) == (202, b"")
    app.wait(active, until=State.DISPOSED)
