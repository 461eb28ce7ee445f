"""One participant with an activity type of one's own, through the API of a running stack."""

from __future__ import annotations

import time
import uuid
from typing import Any

from cfm_core.contracts.orchestration import DEPLOY
from local.bench.fabric import BASE
from local.bench.load import Connection

PATIENCE_SECONDS = 60


def begin(api: Connection, activity_type: str) -> tuple[str, dict[str, Any]]:
    """Deploy a participant whose orchestration is the one activity ``only``; gives its path, and the answer."""
    api.json("POST", f"{BASE}/activity-definitions", {"type": activity_type}, expect=201)
    template = {"activities": {DEPLOY: [{"id": "only", "type": activity_type}]}}
    api.json("POST", f"{BASE}/orchestration-definitions", template, expect=201)
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


def ended(api: Connection, path: str) -> dict[str, Any]:
    """The profile at ``path`` once it is no longer pending."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        profile: dict[str, Any] = api.json("GET", path, expect=200)
        if profile["vpas"][0]["state"] != "pending":
            return profile
        assert time.monotonic() < deadline, "still pending after a minute"
