"""An agent in a place of its author's own: served, served anew after a change, and without anything but the library."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cfm_core
from local.agent import scaffold
from local.servers.process import free_port, spawn, stop, wait_until
from tests.support.command import cfm
from tests.support.shelf import running

TOKEN = "any text"
PARENT = f"00-{'a' * 32}-{'b' * 16}-01"
ANSWERS = """
from cfm_core.agent import ActivityContext, ActivityResult, Complete, activity

from {helper} import ANSWER


@activity("test.answers")
class Answers:
    def deploy(self, ctx: ActivityContext) -> ActivityResult:
        ctx.set_output("answer", ANSWER)
        return Complete()
"""


def ask(port: int, path: str, activity_type: str = "test.answers", **attributes: str) -> tuple[int, Any]:
    """The status, and the data of the outcome, if there is one."""
    data = {
        "orchestrationId": "o",
        "phase": 0,
        "ord": 0,
        "token": "t",
        "activityId": "a",
        "activityType": activity_type,
        "discriminator": "cfm.orchestration.vpa.deploy",
        "correlationId": "c",
        "attempt": 1,
        "values": {"cfm.participant.id": "did:web:acme"},
    }
    event = {
        "specversion": "1.0",
        "id": "e",
        "source": "s",
        "type": "cfm.activity.dispatch",
        "data": data,
        **attributes,
    }
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        headers = {"Content-Type": "application/cloudevents-batch+json", "Authorization": f"Bearer {TOKEN}"}
        connection.request("POST", path, json.dumps([event]), headers)
        answer = connection.getresponse()
        body = answer.read()
        return answer.status, json.loads(body)["events"][0]["data"] if answer.status == 200 else body.decode()
    except (OSError, http.client.HTTPException) as error:
        return 0, str(error)
    finally:
        connection.close()


def answer_is(port: int, wanted: str) -> Callable[[], bool]:
    def look() -> bool:
        status, found = ask(port, "/answers")
        return status == 200 and found["outputs"] == {"answer": wanted}

    return look


@pytest.mark.slow
def test_an_agent_is_served_anew_when_it_or_a_module_beside_it_changes(tmp_path: Path) -> None:
    agent, helper, log, port = tmp_path / "answers.py", tmp_path / "helping.py", tmp_path / "log", free_port()
    agent.write_text(ANSWERS.format(helper="helping"))
    helper.write_text("ANSWER = 'one'")
    process = spawn(
        [sys.executable, "-m", "local", "agent", "run", agent, "--port", str(port), "--reload"],
        log=log,
        env={**os.environ, "CFM_EVENT_TOKEN": TOKEN},
    )

    def wait(ready: Callable[[], bool], what: str) -> None:
        wait_until(ready, process=process, log=log, what=what, seconds=120)

    try:
        wait(answer_is(port, "one"), "the agent")
        helper.write_text("ANSWER = 'another'")
        wait(answer_is(port, "another"), "the change of a module beside it")
        agent.write_text("from cfm_core.agent import ")
        wait(lambda: ask(port, "/answers")[0] == 503, "the word that it cannot be imported")
        assert "SyntaxError" in ask(port, "/answers")[1]
        agent.write_text(ANSWERS.format(helper="helping").replace("ANSWER)", "'mended')"))
        wait(answer_is(port, "mended"), "the mended agent")
    finally:
        stop(process)
    assert ask(port, "/answers")[0] == 0


def test_an_agent_that_is_served_is_invoked_over_http_by_who_has_its_token(tmp_path: Path) -> None:
    agent, log, port = tmp_path / "answers.py", tmp_path / "log", free_port()
    agent.write_text(ANSWERS.format(helper="helping"))
    (tmp_path / "helping.py").write_text("ANSWER = 'one'")
    process = spawn(
        [sys.executable, "-m", "local", "agent", "run", agent, "--port", str(port)],
        log=log,
        env={**os.environ, "CFM_EVENT_TOKEN": TOKEN},
    )
    try:
        wait_until(answer_is(port, "one"), process=process, log=log, what="the agent", seconds=60)
        url = f"http://127.0.0.1:{port}/answers"
        assert f"test.answers is served at {url}" in log.read_text()
        done = cfm("agent", "invoke", agent, "--url", url, env={"CFM_EVENT_TOKEN": TOKEN})
        assert (done.returncode, json.loads(done.stdout)) == (0, {"kind": "complete", "outputs": {"answer": "one"}})
        done = cfm("agent", "invoke", agent, "--url", url, env={"CFM_EVENT_TOKEN": "another"})
        assert (done.returncode, done.stdout) == (4, "")
        assert "CFM_EVENT_TOKEN has to be its token" in done.stderr
    finally:
        stop(process)


@pytest.mark.slow
def test_an_agent_elsewhere_needs_the_library_alone(tmp_path: Path) -> None:
    """In an environment that has the library and what it depends on, and nothing else of the project."""
    home, elsewhere, log, port = tmp_path / "venv", tmp_path / "elsewhere", tmp_path / "log", free_port()
    venv.create(home, symlinks=True)
    python = home / "bin" / "python"
    paths = sysconfig.get_paths(vars={"base": str(home), "platbase": str(home)}, scheme="venv")
    shutil.copytree(Path(cfm_core.__file__).parent, Path(paths["purelib"]) / "cfm_core")
    # What the project depends on; the line in there that leads to the project itself counts for its own environment only.
    (Path(paths["purelib"]) / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (agent, *_) = scaffold.write("acme.dns", elsewhere)
    for name in ("local", "functions", "tests"):
        absent = subprocess.run([python, "-I", "-c", f"import {name}"], cwd=elsewhere, capture_output=True, check=False)
        assert b"ModuleNotFoundError" in absent.stderr, name
    heavy = subprocess.run(
        [python, "-P", "-c", "import sys, acme_dns; print(*{'nats', 'pg8000', 'granian', 'lark'} & {*sys.modules})"],
        cwd=elsewhere,
        env={"PATH": os.defpath, "PYTHONPATH": str(elsewhere)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert heavy.stdout.strip() == ""

    with running() as service:
        process = spawn(
            [python, "-P", "-m", "functions_framework", "--target", "acme_dns", "--source", agent,
             "--host", "127.0.0.1", "--port", str(port)],
            log=log,
            env={"PATH": os.defpath, "CFM_EVENT_TOKEN": TOKEN, "ACME_DNS_URL": service.url},
            cwd=elsewhere,
        )  # fmt: skip
        try:
            wait_until(
                lambda: ask(port, "/", "acme.dns", traceparent=PARENT)[0] == 200,
                process=process,
                log=log,
                what="it",
                seconds=60,
            )
            outcome = ask(port, "/", "acme.dns", traceparent=PARENT)[1]
        finally:
            stop(process)
    # The shelf publishes nothing, so there is still something to look at.
    assert outcome["kind"] == "schedule"
    assert service.things == {"/records/acme.acme.example": {"owner": "did:web:acme"}}
    assert {one.get("traceparent") for one in service.headers_seen} == {PARENT}
