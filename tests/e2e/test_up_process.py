"""``cfm up`` as a process: how it comes, what it survives, how it goes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cfm_core.store.database import connect
from local import health, seeding, state
from local.servers.nats import EmbeddedNats
from local.servers.postgres import EmbeddedPostgres
from local.stack import Stack
from tests.support.command import cfm, cfm_running
from tests.support.processes import has_ended, processes_of

PATIENCE_SECONDS = 30


def lines_until(process: subprocess.Popen[str], end: str) -> list[str]:
    """What a command prints, up to and with the line ``end``."""
    assert process.stdout is not None
    found = []
    for line in process.stdout:
        found.append(line.rstrip("\n"))
        if found[-1] == end:
            return found
    assert process.stderr is not None
    pytest.fail(f"ended before {end!r}: {process.stderr.read()}")


def names_and_pids(data: Path) -> dict[str, int]:
    found = state.running(data)
    assert found is not None
    return {process.name: process.pid for process in found.processes if process.pid is not None}


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_up_says_what_runs_where_and_a_signal_ends_all_of_it(tmp_path: Path, how: signal.Signals) -> None:
    data = tmp_path / "data"
    with cfm_running("up", "--port", "0", "--data", data) as up:
        told = lines_until(up, "Ctrl-C stops it.")
        found = state.running(data)
        assert found is not None
        assert f"API   {found.url}/api/v1alpha1" in told
        assert {line.split()[0] for line in told[1:10]} == {"supervisor", *names_and_pids(data)}
        assert any(f'eval "$(cfm env --data {data})"' in line for line in told)
        begun = processes_of(data)
        assert len(begun) >= 8
        up.send_signal(how)
        assert up.wait(PATIENCE_SECONDS) == 0
        assert up.stderr is not None
        assert up.stderr.read() == ""
    assert [process for process in begun if not has_ended(process, 0.1)] == []
    assert not state.state_file(data).exists()


def test_a_signal_during_the_start_ends_what_has_begun(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with cfm_running("up", "--port", "0", "--data", data) as up:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not processes_of(data):
            assert time.monotonic() < deadline
        up.send_signal(signal.SIGINT)
        assert up.wait(PATIENCE_SECONDS) == 0
    assert processes_of(data) == []
    assert not state.state_file(data).exists()


def test_a_killed_supervisor_leaves_no_process_and_the_next_one_finds_the_data(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with cfm_running("up", "--port", "0", "--data", data) as up:
        lines_until(up, "Ctrl-C stops it.")
        found = state.running(data)
        assert found is not None
        connection = connect(found.database_url)
        connection.run("CREATE TABLE kept AS SELECT 42 AS answer")
        connection.close()
        begun = processes_of(data)
        up.kill()
        up.wait()
    assert cfm("status", "--data", data).returncode == 7
    done = cfm("up", "--detach", "--port", "0", "--data", data)
    try:
        assert done.returncode == 0, done.stderr
        assert [process for process in begun if not has_ended(process, 0.1)] == []
        found = state.running(data)
        assert found is not None
        connection = connect(found.database_url)
        assert connection.run("SELECT answer FROM kept") == [[42]]
        connection.close()
    finally:
        cfm("down", "--data", data)


def test_a_stack_without_tokens_is_warned_about(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with cfm_running("up", "--port", "0", "--data", data, "--no-auth", "--host", "localhost") as up:
        lines_until(up, "Ctrl-C stops it.")
        assert up.stderr is not None
        assert up.stderr.readline() == "cfm: warning: without tokens, whoever reaches this API may do everything\n"
        found = state.running(data)
        assert found is not None
        assert health.get(f"{found.url}/api/v1alpha1/tenants")[0] == 200


@pytest.mark.parametrize("option", [[], ["--detach"]])
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "0"])
def test_a_stack_without_tokens_is_for_this_machine_only(tmp_path: Path, host: str, option: list[str]) -> None:
    data = tmp_path / "data"
    done = cfm("up", "--port", "0", "--data", data, "--no-auth", "--host", host, *option)
    assert (done.returncode, done.stdout) == (4, "")
    assert "--no-auth is for loopback, and others reach " in done.stderr
    assert not data.exists()


@pytest.mark.parametrize("option", [[], ["--detach"]])
def test_a_directory_that_cannot_be_used_is_refused_with_a_remedy(tmp_path: Path, option: list[str]) -> None:
    (tmp_path / "file").touch()
    done = cfm("up", "--port", "0", "--data", tmp_path / "file" / "data", *option)
    assert (done.returncode, done.stdout) == (4, "")
    assert "name a directory that you may write to with --data DIR" in done.stderr


@pytest.mark.parametrize("option", [[], ["--detach"]])
def test_an_agent_that_does_not_load_ends_the_start_with_its_own_words(tmp_path: Path, option: list[str]) -> None:
    agent = tmp_path / "broken_agent.py"
    agent.write_text("raise RuntimeError('no such printer')\n")
    data = tmp_path / "data"
    done = cfm("up", "--port", "0", "--data", data, "--agent", agent, *option)
    assert (done.returncode, done.stdout) == (1, "")
    assert "RuntimeError: no such printer" in done.stderr
    assert processes_of(data) == []
    assert not state.state_file(data).exists()


def test_an_agent_that_is_not_there_is_refused(tmp_path: Path) -> None:
    done = cfm("up", "--port", "0", "--data", tmp_path / "data", "--agent", tmp_path / "nowhere.py")
    assert done.returncode == 1
    assert "there is no file" in done.stderr


def test_a_host_that_is_not_of_this_machine_is_refused(tmp_path: Path) -> None:
    done = cfm("up", "--port", "0", "--data", tmp_path / "data", "--host", "192.0.2.1")
    assert done.returncode == 1
    assert "192.0.2.1" in done.stderr


def test_a_host_that_nobody_knows_is_named(tmp_path: Path) -> None:
    done = cfm("up", "--port", "0", "--data", tmp_path / "data", "--host", "nobody.invalid")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("cfm: nobody knows the host 'nobody.invalid'")


def test_a_missing_nats_of_ones_own_is_named(tmp_path: Path) -> None:
    done = cfm("up", "--port", "0", "--data", tmp_path / "data", "--nats-url", "nats://127.0.0.1:1")
    assert done.returncode == 1
    assert "--nats-url" in done.stderr
    assert processes_of(tmp_path / "data") == []


def test_servers_of_ones_own_are_used_and_left_alone(
    tmp_path: Path, postgres: EmbeddedPostgres, nats: EmbeddedNats
) -> None:
    admin = connect(postgres.url("postgres"))
    admin.run("CREATE DATABASE of_ones_own")
    try:
        with Stack(tmp_path / "data", auth=False, database_url=postgres.url("of_ones_own"), nats_url=nats.url) as stack:
            assert {"postgres", "nats"} & {process.name for process in stack.processes} == set()
            assert health.get(f"{stack.url}/api/v1alpha1/tenants")[0] == 200
        assert postgres.process is not None
        assert postgres.process.poll() is None
        assert nats.process is not None
        assert nats.process.poll() is None
    finally:
        admin.run("DROP DATABASE of_ones_own WITH (FORCE)")
        admin.close()


AGENT = """
from cfm_core.agent import ActivityContext, ActivityResult, Complete, activity


@activity("{type}")
class {name}:
    def deploy(self, ctx: ActivityContext) -> ActivityResult:
        return Complete()
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("kept")
    (folder / "first").mkdir()
    (folder / "second").mkdir()
    (folder / "first" / "printer.py").write_text(AGENT.format(type="acme.printer", name="Printer"))
    (folder / "second" / "printer.py").write_text(AGENT.format(type="onboarding-activity", name="OwnOnboarding"))
    agents = [folder / "first" / "printer.py", folder / "second" / "printer.py"]
    with Stack(folder / "data", auth=False, agents=agents) as stack:
        yield stack


@pytest.mark.parametrize(
    "name", ["gateway", "events", "agents", "agent-printer", "standins", "trigger", "nats", "postgres"]
)
def test_a_killed_process_is_started_again_at_its_address(stack: Stack, name: str) -> None:
    (check,) = (process.check for process in stack.processes if process.name == name)
    before = stack.process(name)
    before.kill()
    deadline = time.monotonic() + PATIENCE_SECONDS
    # The stack's own word counts as well: it comes a moment after the process is ready.
    while (
        stack.process(name) is before or not health.healthy(check) or noted(stack, name) != (stack.process(name).pid, 1)
    ):
        assert time.monotonic() < deadline, (state.logs(stack.data) / "supervisor.log").read_text()
        time.sleep(0.02)  # between two looks


def noted(stack: Stack, name: str) -> tuple[int | None, int]:
    """The process of that name as the stack describes it: its id, and how often it was started again."""
    found = state.running(stack.data)
    assert found is not None
    (process,) = (process for process in found.processes if process.name == name)
    return process.pid, process.restarts


def test_every_agent_file_has_a_process_and_replaces_the_projects_agent(stack: Stack) -> None:
    targets = json.loads((stack.data / "targets.json").read_text())["targets"]
    own = {
        target["activity"]["activityType"]: target["name"]
        for target in targets
        if target["name"] in {"printer", "own_onboarding"}
    }
    assert own == {"acme.printer": "printer", "onboarding-activity": "own_onboarding"}
    assert [target["subject"] for target in targets].count("event.cfm.activity.onboarding-activity") == 1
    assert stack.process("agent-printer").pid != stack.process("agent-printer-2").pid


def test_a_stack_leaves_its_port_and_can_come_again(tmp_path: Path) -> None:
    stack = Stack(tmp_path / "data")
    with stack:
        url, token = stack.url, stack.token()
    with stack:
        assert (stack.url, health.get(f"{url}/livez")[0]) == (url, 200)
        assert token
    assert processes_of(stack.data) == []


def test_a_detached_stack_outlives_whoever_started_it(tmp_path: Path) -> None:
    stack = Stack(tmp_path / "data", auth=False)
    stack.start(detached=True)
    try:
        found = state.running(stack.data)
        assert found is not None
        assert found.pid != os.getpid()
        assert (found.url, found.standins_url) == (stack.url, stack.standins_url)
        assert health.get(f"{stack.url}/api/v1alpha1/tenants")[0] == 200
        supervisor = psutil.Process(found.pid)
    finally:
        stack.stop()
    assert has_ended(supervisor)
    assert processes_of(stack.data) == []


@pytest.mark.slow
def test_every_function_can_have_a_process_of_its_own(tmp_path: Path) -> None:
    with Stack(tmp_path / "data", auth=False, isolated=True) as stack:
        names = {process.name for process in stack.processes}
        assert {"create_tenant", "start_orchestrations", "onboarding_activity", "gateway", "trigger"} <= names
        assert {"events", "agents"} & names == set()
        assert health.get(f"{stack.url}/api/v1alpha1/tenants") == (200, b"[]")
        assert health.get(f"{stack.url}/nowhere")[0] == 404
        agent = psutil.Process(stack.process("onboarding_activity").pid).environ()
        assert "CFM_DATABASE_URL" not in agent
        stack.process("list_tenants").kill()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (status := health.get(f"{stack.url}/api/v1alpha1/tenants")[0]) != 200:
            assert status == 503
            assert time.monotonic() < deadline
    assert processes_of(stack.data) == []


def test_the_demonstration_fabric_is_applied_once(tmp_path: Path) -> None:
    stack = Stack(tmp_path / "data", auth=False)
    with stack:
        for _ in range(2):
            seeding.apply(stack.url, "")
        counts = {
            path: len(json.loads(health.get(f"{stack.url}/api/v1alpha1/{path}")[1]))
            for path in ("cells", "dataspace-profiles", "activity-definitions", "orchestration-definitions")
        }
        (profile,) = json.loads(health.get(f"{stack.url}/api/v1alpha1/dataspace-profiles")[1])
    assert (counts["cells"], counts["dataspace-profiles"], counts["activity-definitions"]) == (1, 1, 6)
    assert counts["orchestration-definitions"] > 0
    assert len(profile["deployments"]) == 1
