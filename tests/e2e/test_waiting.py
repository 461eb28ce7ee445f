"""An activity that waits for somebody outside, who ends it with nothing but what the agent has given them."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.bench.load import Connection
from local.stack import Stack
from tests.support.deployments import PATIENCE_SECONDS, begin, ended

AGENT = """
from datetime import timedelta
from pathlib import Path

from cfm_core.agent import ActivityContext, ActivityResult, Wait, activity


@activity("slow.registrar")
class Registrar:
    def deploy(self, ctx: ActivityContext) -> ActivityResult:
        letter = Path(__file__).with_name("letter")
        letter.with_suffix(".partial").write_text(f"{ctx.completion.url} {ctx.completion.token}")
        letter.with_suffix(".partial").rename(letter)
        return Wait(timeout=timedelta(hours=1), reason="the registrar has to sign")
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


def test_the_token_alone_ends_a_waiting_activity(home: Path, stack: Stack) -> None:
    api = Connection(stack.url, stack.token())
    path, profile = begin(api, "slow.registrar")
    url, token = letter_of(home)
    assert api.json("GET", path, expect=200)["vpas"][0]["state"] == "pending"
    body = json.dumps({"token": token, "outputs": {"signedBy": "the registrar"}}).encode()
    with urllib.request.urlopen(urllib.request.Request(url, body)) as answer:
        assert answer.status == 200
    active = ended(api, path)
    assert active["vpas"][0]["state"] == "active"
    assert active["properties"]["cfm.vpa.state"] == {"signedBy": "the registrar"}
    assert profile["orchestrationId"] in url
    api.close()
