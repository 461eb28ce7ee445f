"""A deployment that skips, repeats, nests, and undoes its activities, on the whole system."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cfm_core.contracts.orchestration import DEPLOY
from local.bench.load import Connection
from local.stack import Stack
from tests.support.deployments import begin_defined, ended

AGENT = """
from pathlib import Path

from cfm_core.agent import ActivityContext, ActivityResult, Complete, Fatal, activity

BOOK = Path(__file__).with_name("book")


@activity("book.keeper")
class Keeper:
    def process(self, ctx: ActivityContext) -> ActivityResult:
        return self.deploy(ctx)

    def deploy(self, ctx: ActivityContext) -> ActivityResult:
        with BOOK.open("a") as book:
            book.write(f"{ctx.activity_id} {ctx.values.get('element', '')}\\n")
        if ctx.activity_id == "breaks":
            return Fatal("it always does")
        ctx.set_output("did", ctx.values.get("element", ctx.activity_id))
        return Complete()

    def dispose(self, ctx: ActivityContext) -> ActivityResult:
        with BOOK.open("a") as book:
            book.write(f"not {ctx.activity_id} {ctx.values.get('element', '')}\\n")
        return Complete()
"""
TYPE = "book.keeper"
ACTIVITIES: list[dict[str, Any]] = [
    {"id": "never", "type": TYPE, "condition": "`cfm.participant.id` = 'somebody else'"},
    {"id": "each", "type": TYPE, "dependsOn": ["never"], "forEach": {"source": "cfm.vpa.data"}, "compensation": TYPE},
    {"id": "nested", "type": "orchestration:acme.nested", "dependsOn": ["each"]},
]
NESTED = {"acme.nested": [{"id": "inner", "type": TYPE}]}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "keeper.py").write_text(AGENT)
    return tmp_path


@pytest.fixture
def stack(home: Path) -> Iterator[Stack]:
    with Stack(home / "data", agents=[home / "keeper.py"]) as stack:
        yield stack


def test_a_deployment_skips_repeats_and_nests(home: Path, stack: Stack) -> None:
    api = Connection(stack.url, stack.token())
    path, _ = begin_defined(api, [TYPE], {DEPLOY: ACTIVITIES} | NESTED)
    profile = ended(api, path)
    assert {vpa["state"] for vpa in profile["vpas"]} == {"active"}
    assert profile["properties"]["cfm.vpa.state"]["did"] == "inner"
    lines = [line.split()[0] for line in (home / "book").read_text().splitlines()]
    assert sorted(lines) == ["each"] * len(profile["vpas"]) + ["inner"]
    api.close()


def test_what_was_done_is_undone_when_the_last_one_fails(home: Path, stack: Stack) -> None:
    api = Connection(stack.url, stack.token())
    failing = [*ACTIVITIES, {"id": "breaks", "type": TYPE, "dependsOn": ["nested"]}]
    path, _ = begin_defined(api, [TYPE], {DEPLOY: failing} | NESTED)
    profile = ended(api, path, "disposed")
    assert {vpa["state"] for vpa in profile["vpas"]} == {"disposed"}
    lines = (home / "book").read_text().splitlines()
    did = [line.removeprefix("each ") for line in lines if line.startswith("each ")]
    undid = [line.removeprefix("not each ") for line in lines if line.startswith("not each ")]
    assert sorted(map(json.dumps, did)) == sorted(map(json.dumps, undid))
    assert len(did) == len(profile["vpas"])
    api.close()
