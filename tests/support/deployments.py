"""One participant with an activity type of one's own, through the API of a running stack."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from cfm_core.contracts.orchestration import DEPLOY
from local.bench.fabric import BASE
from local.bench.load import Connection

PATIENCE_SECONDS = 60


def begin(api: Connection, activity_type: str) -> tuple[str, dict[str, Any]]:
    """Deploy a participant whose orchestration is the one activity ``only``; gives its path, and the answer."""
    return begin_defined(api, [activity_type], {DEPLOY: [{"id": "only", "type": activity_type}]})


def begin_defined(
    api: Connection, types: Sequence[str], activities: Mapping[str, Sequence[Mapping[str, Any]]]
) -> tuple[str, dict[str, Any]]:
    """Deploy a participant with orchestrations of one's own; gives its path, and the answer."""
    for type_ in types:
        api.json("POST", f"{BASE}/activity-definitions", {"type": type_}, expect=201)
    api.json("POST", f"{BASE}/orchestration-definitions", {"activities": activities}, expect=201)
    cell = api.json("POST", f"{BASE}/cells", {"state": "active", "stateTimestamp": "2026-01-01T00:00:00Z"}, expect=201)
    dataspace = api.json("POST", f"{BASE}/dataspace-profiles", {}, expect=201)
    deployment = {"profileId": dataspace["id"], "cellId": cell["id"]}
    api.json("POST", f"{BASE}/dataspace-profiles/{dataspace['id']}/deployments", deployment, expect=202)
    tenant = api.json("POST", f"{BASE}/tenants", {}, expect=201)
    path = f"{BASE}/tenants/{tenant['id']}/participant-profiles"
    wanted = {
        "identifier": f"did:web:{uuid.uuid4()}.example",
        "cellId": cell["id"],
        "dataspaceProfileIds": [dataspace["id"]],
    }
    profile: dict[str, Any] = api.json("POST", path, wanted, expect=202)
    return f"{path}/{profile['id']}", profile


def ended(api: Connection, path: str, *states: str) -> dict[str, Any]:
    """The profile at ``path`` once it is no longer pending, or once it is in one of ``states``."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        profile: dict[str, Any] = api.json("GET", path, expect=200)
        state = profile["vpas"][0]["state"]
        if state in states or (not states and state != "pending"):
            return profile
        assert time.monotonic() < deadline, f"still {state} after a minute"
