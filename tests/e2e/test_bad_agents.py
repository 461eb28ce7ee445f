"""Agents that raise, hang, or answer rubbish: tried again, then failed with their own words."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from cfm_core.contracts.orchestration import DEPLOY
from local.bench.fabric import BASE
from local.bench.load import Connection
from local.stack import Stack

AGENTS = """
import time
from datetime import timedelta

from cfm_core.agent import ActivityContext, ActivityResult, Complete, activity

POLICY = {"max_attempts": 2, "backoff": timedelta(milliseconds=20), "timeout": timedelta(seconds=1)}


@activity("bad.raises", **POLICY)
class Raises:
    def deploy(self, ctx: ActivityContext) -> ActivityResult:
        raise ValueError("the printer is on fire")


@activity("bad.hangs", **POLICY)
class Hangs:
    def deploy(self, ctx: ActivityContext) -> ActivityResult:
        time.sleep(3600)
        return Complete()


@activity("bad.answers", **POLICY)
class Answers:
    def deploy(self, ctx: ActivityContext) -> ActivityResult:
        return "forty-two"


@activity("bad.dies", **POLICY)
class Dies:
    def deploy(self, ctx: ActivityContext) -> ActivityResult:
        if ctx.attempt == 1 and not ctx.values.get("died"):
            import os, pathlib

            mark = pathlib.Path(__file__).with_name("died")
            if not mark.exists():
                mark.touch()
                os._exit(9)
        return Complete()
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    home = tmp_path_factory.mktemp("bad-agents")
    agents = home / "bad_agents.py"
    agents.write_text(AGENTS)
    with Stack(home / "data", auth=False, agents=[agents]) as stack:
        yield stack


@pytest.fixture
def api(stack: Stack) -> Iterator[Connection]:
    connection = Connection(stack.url)
    yield connection
    connection.close()


def run(api: Connection, activity_type: str) -> dict[str, Any]:
    """Deploy a participant with this one activity; gives the profile once it has ended."""
    api.json("POST", f"{BASE}/activity-definitions", {"type": activity_type}, expect=201)
    api.json(
        "POST",
        f"{BASE}/orchestration-definitions",
        {"activities": {DEPLOY: [{"id": "only", "type": activity_type}]}},
        expect=201,
    )
    cell = api.json("POST", f"{BASE}/cells", {"state": "active", "stateTimestamp": "2026-01-01T00:00:00Z"}, expect=201)
    dataspace = api.json("POST", f"{BASE}/dataspace-profiles", {}, expect=201)
    api.json(
        "POST",
        f"{BASE}/dataspace-profiles/{dataspace['id']}/deployments",
        {"profileId": dataspace["id"], "cellId": cell["id"]},
        expect=202,
    )
    tenant = api.json("POST", f"{BASE}/tenants", {}, expect=201)
    path = f"{BASE}/tenants/{tenant['id']}/participant-profiles"
    wanted = {
        "identifier": f"did:web:{uuid.uuid4()}.example",
        "cellId": cell["id"],
        "dataspaceProfileIds": [dataspace["id"]],
    }
    profile = api.json("POST", path, wanted, expect=202)
    deadline = time.monotonic() + 60
    while profile["vpas"][0]["state"] == "pending":
        assert time.monotonic() < deadline, "still pending after a minute"
        profile = api.json("GET", f"{path}/{profile['id']}", expect=200)
    found: dict[str, Any] = profile
    return found


@pytest.mark.parametrize(
    ("activity_type", "words"),
    [
        ("bad.raises", "ValueError: the printer is on fire"),
        ("bad.hangs", "timed out"),
        ("bad.answers", "forty-two"),
    ],
)
def test_a_bad_agent_fails_the_deployment_with_its_own_words(api: Connection, activity_type: str, words: str) -> None:
    profile = run(api, activity_type)
    assert {vpa["state"] for vpa in profile["vpas"]} == {"error"}
    assert profile["error"] is True
    assert words in profile["errorDetail"]
    assert "2 attempts" in profile["errorDetail"]


def test_an_agent_whose_process_dies_is_started_again_and_asked_again(api: Connection) -> None:
    profile = run(api, "bad.dies")
    assert {vpa["state"] for vpa in profile["vpas"]} == {"active"}
