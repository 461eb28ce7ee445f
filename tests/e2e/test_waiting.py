"""An activity that waits for somebody outside, who ends it with nothing but what the agent has given them."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local.bench.fabric import BASE
from local.bench.load import Connection
from local.stack import Stack
from tests.support.deployments import PATIENCE_SECONDS, begin, ended

AGENT = """
import time
from datetime import timedelta
from pathlib import Path

from cfm_core.agent import ActivityContext, ActivityResult, Complete, Wait, activity


@activity("slow.registrar")
class Registrar:
    def deploy(self, ctx: ActivityContext) -> ActivityResult:
        letter = Path(__file__).with_name("letter")
        letter.with_suffix(".partial").write_text(f"{ctx.completion.url} {ctx.completion.token}")
        letter.with_suffix(".partial").rename(letter)
        return Wait(timeout=timedelta(hours=1), reason="the registrar has to sign")


@activity("slow.surveyor")
class Surveyor:
    def process(self, ctx: ActivityContext) -> ActivityResult:
        if ctx.activity_id == "report":
            ctx.set_output("seen", dict(ctx.values))
            return Complete()
        ctx.heartbeat({"hosts": 3})
        letter = Path(__file__).with_name("letter")
        letter.with_suffix(".partial").write_text(f"{ctx.completion.url} {ctx.completion.token}")
        letter.with_suffix(".partial").rename(letter)
        while not letter.with_name("go").exists():
            time.sleep(0.01)  # the survey
        ctx.set_value("survey", 7)
        return Wait(reason="the owner has to agree")
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "registrar.py").write_text(AGENT)
    return tmp_path


@pytest.fixture
def stack(home: Path) -> Iterator[Stack]:
    with Stack(home / "data", agents=[home / "registrar.py"]) as stack:
        yield stack


def letter_of(home: Path) -> list[str]:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (home / "letter").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)  # between two looks
    return (home / "letter").read_text().split()


def tell(url: str, body: dict[str, Any]) -> None:
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode())) as answer:
        assert answer.status == 200


def test_the_token_alone_ends_a_waiting_activity(home: Path, stack: Stack) -> None:
    api = Connection(stack.url, stack.token())
    path, profile = begin(api, "slow.registrar")
    url, token = letter_of(home)
    assert api.json("GET", path, expect=200)["vpas"][0]["state"] == "pending"
    tell(url, {"token": token, "outputs": {"signedBy": "the registrar"}})
    active = ended(api, path)
    assert active["vpas"][0]["state"] == "active"
    assert active["properties"]["cfm.vpa.state"] == {"signedBy": "the registrar"}
    assert profile["orchestrationId"] in url
    api.close()


def test_an_agent_shows_how_far_it_is_and_may_be_overtaken_by_those_whom_it_waits_for(home: Path, stack: Stack) -> None:
    api = Connection(stack.url, stack.token())
    timeouts = {"scheduleToStart": "PT20S", "heartbeat": "PT20S", "wait": "PT1H"}
    definition = {"type": "slow.surveyor", "timeouts": timeouts}
    api.json("POST", f"{BASE}/activity-definitions", definition, expect=201)
    activities = [
        {"id": "survey", "type": "slow.surveyor"},
        {"id": "report", "type": "slow.surveyor", "dependsOn": ["survey"]},
    ]
    api.json("POST", f"{BASE}/orchestration-definitions", {"activities": {"survey": activities}}, expect=201)
    body = {"id": "o", "correlationId": "o", "orchestrationType": "survey"}
    api.json("POST", f"{BASE}/orchestrations", body, expect=202)
    url, token = letter_of(home)
    assert api.json("GET", f"{BASE}/orchestrations/o", expect=200)["activities"][0]["progress"] == {"hosts": 3}
    tell(url, {"token": token, "values": {"agreed": True}})
    early = api.json("GET", f"{BASE}/orchestrations/o", expect=200)
    assert (early["activities"][0]["state"], early["activities"][1]["state"]) == ("dispatched", "blocked")
    (home / "go").touch()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (run := api.json("GET", f"{BASE}/orchestrations/o", expect=200))["state"] == 1:
        assert time.monotonic() < deadline
        time.sleep(0.01)  # between two looks
    assert run["outputData"] == {"seen": {"agreed": True, "survey": 7}}
    for log in (stack.data / "logs").iterdir():
        assert token not in log.read_text(errors="replace"), log
    api.close()
