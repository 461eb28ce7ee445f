"""Agents that raise, hang, or answer rubbish: tried again, then failed with their own words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from local.bench.load import Connection
from local.stack import Stack
from tests.support.deployments import begin, ended

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
    path, _ = begin(api, activity_type)
    return ended(api, path)


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
