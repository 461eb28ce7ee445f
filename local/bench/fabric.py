"""What is measured: deployments of a diamond of no-op activities, and tenants."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
from statistics import median

from cfm_core.contracts.orchestration import DEPLOY
from cfm_core.store.database import Database
from local.bench.load import Connection, run_for, run_times

BASE = "/api/v1alpha1"
_SOONEST_SECONDS = 0.01
"""No deployment is active sooner; to look for it would only take time away from it."""
_LOOK_SECONDS = 0.0005
_STATE = "SELECT state FROM tenant_manager.participant_profiles WHERE id = :id::uuid"
_TURNS = 16
DIAMOND = [
    {"id": "a", "type": "bench-noop"},
    {"id": "b", "type": "bench-noop", "dependsOn": ["a"]},
    {"id": "c", "type": "bench-noop", "dependsOn": ["a"]},
    {"id": "d", "type": "bench-noop", "dependsOn": ["b", "c"]},
]


class Fabric:
    """A prepared fabric: definitions, a cell, a dataspace profile, a tenant."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._token = token
        with_defaults = self.connect()
        with_defaults.json("POST", f"{BASE}/activity-definitions", {"type": "bench-noop"}, expect=201)
        with_defaults.json("POST", f"{BASE}/orchestration-definitions", {"activities": {DEPLOY: DIAMOND}}, expect=201)
        cell = with_defaults.json(
            "POST", f"{BASE}/cells", {"state": "active", "stateTimestamp": "2026-01-01T00:00:00Z"}, expect=201
        )
        profile = with_defaults.json("POST", f"{BASE}/dataspace-profiles", {"dataspaceSpec": {}}, expect=201)
        self._profile_id = profile["id"]
        with_defaults.json(
            "POST",
            f"{BASE}/dataspace-profiles/{self._profile_id}/deployments",
            {"profileId": self._profile_id, "cellId": cell["id"]},
            expect=202,
        )
        tenant = with_defaults.json("POST", f"{BASE}/tenants", {"properties": {"group": "bench"}}, expect=201)
        self.tenant_id = tenant["id"]
        self._cell_id = cell["id"]
        with_defaults.close()

    def connect(self) -> Connection:
        return Connection(self._url, self._token)

    @property
    def profiles_path(self) -> str:
        return f"{BASE}/tenants/{self.tenant_id}/participant-profiles"

    def deployment(self, identifier: str) -> bytes:
        """The body that asks for a participant."""
        return json.dumps(
            {
                "identifier": identifier,
                "cellId": self._cell_id,
                "dataspaceProfileIds": [self._profile_id],
                "vpaProperties": {"cfm.connector": {"key": "value"}},
            }
        ).encode()

    def deploy(self, connection: Connection) -> str:
        """Ask for one participant; gives the profile's id."""
        status, _, body = connection.request(
            "POST", self.profiles_path, self.deployment(f"did:web:{uuid.uuid4()}.example")
        )
        assert status == 202, (status, body)
        return str(json.loads(body)["id"])

    def read_tenant(self, connection: Connection) -> None:
        """Read the tenant."""
        status, _, _ = connection.request("GET", f"{BASE}/tenants/{self.tenant_id}")
        assert status == 200, status

    def active(self, connection: Connection) -> int:
        """How many participant profiles are active."""
        status, head, _ = connection.request(
            "POST", f"{BASE}/participant-profiles/query", b'{"predicate":"vpas.state = \'active\'","limit":1}'
        )
        assert status == 200, status
        return int(head.split(b"x-total-count:")[1].split(b"\r\n")[0])


def deployment_latency(fabric: Fabric, database_url: str, times: int) -> dict[str, float]:
    """One deployment after the other, from POST until its participant is active, as the API shows right afterwards.

    When that is, is seen in the database: asking the API again and again would take the core that the deployment needs. A
    figure may be ``_LOOK_SECONDS`` too long.
    """
    connection = fabric.connect()
    database = Database(database_url, size=1)
    durations = []
    for _ in range(times):
        begun = time.perf_counter()
        profile_id = fabric.deploy(connection)
        time.sleep(max(0.0, begun + _SOONEST_SECONDS - time.perf_counter()))
        while (state := database.value(_STATE, id=profile_id)) != "active":
            assert state == "pending", f"{profile_id} is {state}"
            assert time.perf_counter() - begun < 30, f"still {state} after 30 s"
            time.sleep(_LOOK_SECONDS)
        durations.append((time.perf_counter() - begun) * 1000)
        profile = connection.json("GET", f"{fabric.profiles_path}/{profile_id}", expect=200)
        assert {vpa["state"] for vpa in profile["vpas"]} == {"active"}, profile
    connection.close()
    database.close()
    ordered = sorted(durations)
    return {
        "medianMs": round(median(durations), 2),
        "p95Ms": round(ordered[int(len(ordered) * 0.95)], 2),
        "count": times,
    }


def deployment_rate(fabric: Fabric, deployments: int, clients: int) -> dict[str, float]:
    """Many deployments at once, from the first POST until all are active."""
    connections = [fabric.connect() for _ in range(clients)]
    before = fabric.active(connections[0])
    begun = time.perf_counter()
    run_times(deployments, connections, fabric.deploy)
    posted = time.perf_counter()
    while (done := fabric.active(connections[0]) - before) < deployments:
        assert time.perf_counter() - posted < 60, f"only {done} of {deployments} are active after a minute"
        time.sleep(0.02)  # the poll itself is load
    seconds = time.perf_counter() - begun
    for connection in connections:
        connection.close()
    return {
        "deploymentsPerSecond": round(deployments / seconds, 1),
        "activitiesPerSecond": round(len(DIAMOND) * deployments / seconds, 1),
        "postedPerSecond": round(deployments / (posted - begun), 1),
        "count": deployments,
        "active": done,
        "seconds": round(seconds, 3),
    }


def tenants(fabric: Fabric, seconds: float, clients: int) -> dict[str, dict[str, float]]:
    """How many tenants can be read, and created, in a second."""
    connections = [fabric.connect() for _ in range(clients)]
    body = json.dumps({"properties": {"name": "Acme", "group": "suppliers", "region": "eu"}}).encode()

    def create(connection: Connection) -> None:
        status, _, _ = connection.request("POST", f"{BASE}/tenants", body)
        assert status == 201, status

    try:
        return {
            "get": run_for(seconds, connections, fabric.read_tenant).to_json(),
            "post": run_for(seconds, connections, create).to_json(),
        }
    finally:
        for connection in connections:
            connection.close()


def read_in_turns(fabrics: Sequence[Fabric], seconds: float, clients: int) -> list[list[float]]:
    """How many tenants can be read of each fabric in a second: one list for each of some turns.

    Args:
        seconds: how long each fabric is read from, all turns together.
    """
    connections = [[fabric.connect() for _ in range(clients)] for fabric in fabrics]
    try:
        turns = []
        for _ in range(_TURNS):
            rates = [
                run_for(seconds / _TURNS, theirs, fabric.read_tenant)
                for fabric, theirs in zip(fabrics, connections, strict=True)
            ]
            turns.append([rate.count / rate.seconds for rate in rates])
        return turns
    finally:
        for theirs in connections:
            for connection in theirs:
                connection.close()
