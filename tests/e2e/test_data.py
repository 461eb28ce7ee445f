"""Mapped and checked data on a whole stack: through the trigger to an agent and back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local.bench.fabric import BASE
from local.bench.load import Connection
from local.stack import Stack
from tests.support.deployments import PATIENCE_SECONDS

AGENT = """
from cfm_core.agent import ActivityContext, ActivityResult, Complete, activity


@activity("namer")
class Namer:
    def process(self, ctx: ActivityContext) -> ActivityResult:
        ctx.set_output(ctx.activity_id, sorted(ctx.values))
        ctx.set_value("greeting", f"hello {ctx.values['name']}")
        return Complete()


@activity("filler")
class Filler:
    def process(self, ctx: ActivityContext) -> ActivityResult:
        if ctx.activity_id == "fill":
            for n in range(5000):
                ctx.set_value(f"key.{n}", {"n": n, "text": "x" * 40})
        else:
            ctx.set_output("sum", sum(ctx.values[f"key.{n}"]["n"] for n in range(5000)))
        return Complete()
"""
INPUT = {"properties": {"name": {"type": "string"}}, "required": ["name"], "additionalProperties": False}
OUTPUT = {"properties": {"greeting": {"maxLength": 20}}, "required": ["greeting"]}


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    (tmp_path / "namer.py").write_text(AGENT)
    with Stack(tmp_path / "data", agents=[tmp_path / "namer.py"]) as stack:
        yield stack


def ended(api: Connection, id_: str) -> dict[str, Any]:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        run: dict[str, Any] = api.json("GET", f"{BASE}/orchestrations/{id_}", expect=200)
        if run["state"] != 1:
            return run
        assert time.monotonic() < deadline, "still running after a minute"


def test_what_fits_reaches_the_agent_and_what_does_not_fails_the_run(stack: Stack) -> None:
    api = Connection(stack.url, stack.token())
    definition = {"type": "namer", "inputSchema": INPUT, "outputSchema": OUTPUT}
    api.json("POST", f"{BASE}/activity-definitions", definition, expect=201)
    activities = [
        {"id": "a", "type": "namer", "inputs": [{"source": "who", "target": "name"}]},
        {"id": "b", "type": "namer", "dependsOn": ["a"], "inputs": [{"source": "a.greeting", "target": "name"}]},
    ]
    api.json("POST", f"{BASE}/orchestration-definitions", {"activities": {"greet": activities}}, expect=201)
    for id_, payload in (("good", {"who": "you", "other": 1}), ("bad", {"who": 5}), ("long", {"who": "y" * 30})):
        body = {"id": id_, "correlationId": id_, "orchestrationType": "greet", "payload": payload}
        api.json("POST", f"{BASE}/orchestrations", body, expect=202)
    good, bad, long = (ended(api, id_) for id_ in ("good", "bad", "long"))
    assert (good["status"], good["outputData"]) == ("completed", {"a": ["name"], "b": ["name"]})
    assert good["processingData"]["greeting"] == "hello hello you"
    assert (bad["status"], bad["outputData"]) == ("errored", {})
    assert bad["errorDetail"] == 'activity a (namer): invalid input: /name: the value is not of type "string"'
    assert (long["status"], list(long["outputData"])) == ("errored", ["a"])
    assert long["errorDetail"].startswith("activity a (namer): invalid output: /greeting: ")
    api.close()


def test_a_result_of_five_thousand_values_reaches_the_next_agent(stack: Stack) -> None:
    api = Connection(stack.url, stack.token())
    api.json("POST", f"{BASE}/activity-definitions", {"type": "filler"}, expect=201)
    activities = [{"id": "fill", "type": "filler"}, {"id": "sum", "type": "filler", "dependsOn": ["fill"]}]
    api.json("POST", f"{BASE}/orchestration-definitions", {"activities": {"fill": activities}}, expect=201)
    body = {"id": "o", "correlationId": "o", "orchestrationType": "fill"}
    api.json("POST", f"{BASE}/orchestrations", body, expect=202)
    run = ended(api, "o")
    assert (run["status"], run["outputData"], len(run["processingData"])) == ("completed", {"sum": 12497500}, 5000)
    api.close()
