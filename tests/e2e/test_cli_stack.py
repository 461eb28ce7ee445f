"""The commands that speak of a running stack."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import jwt
import psutil
import pytest

from cfm_core.store.database import connect
from cfm_core.web.auth import ALL_SCOPES
from functions import agents
from local import health, seed, state
from tests.support.command import cfm, cfm_running
from tests.support.processes import has_ended, processes_of

EVERYTHING = ["postgres", "nats", "standins", "agents", "events", "gateway", "gateway-2", "trigger"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    data = tmp_path_factory.mktemp("cli") / "a stack's data"
    done = cfm("up", "--detach", "--port", "0", "--data", data)
    assert done.returncode == 0, done.stderr
    yield data
    cfm("down", "--data", data)


def environment(data: Path) -> dict[str, str]:
    """What a shell has after ``eval "$(cfm env)"``."""
    exports = cfm("env", "--data", data).stdout
    names = ["CFM_URL", "CFM_TOKEN", "CFM_DATABASE_URL", "CFM_NATS_URL"]
    assert [line.split("=")[0] for line in exports.splitlines()] == [f"export {name}" for name in names]
    shown = subprocess.run(
        ["sh", "-c", f"{exports}\n" + "\n".join(f'printf "%s\\n" "${name}"' for name in names)],
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(zip(names, shown.stdout.splitlines(), strict=True))


def get(url: str, token: str) -> tuple[int, bytes]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=30)
    connection.request("GET", parts.path, headers={"Authorization": f"Bearer {token}"} if token else {})
    answer = connection.getresponse()
    found = answer.status, answer.read()
    connection.close()
    return found


def test_the_environment_opens_the_api_the_database_and_nats(data: Path) -> None:
    found = environment(data)
    assert get(f"{found['CFM_URL']}/api/v1alpha1/tenants", found["CFM_TOKEN"])[0] == 200
    assert get(f"{found['CFM_URL']}/api/v1alpha1/tenants", "")[0] == 401
    connection = connect(found["CFM_DATABASE_URL"])
    assert connection.run("SELECT count(*) FROM eventing.outbox") == [[0]]
    connection.close()
    assert health.nats_info(found["CFM_NATS_URL"])["jetstream"] is True


def test_the_token_of_the_environment_has_all_scopes_for_twelve_hours(data: Path) -> None:
    claims = jwt.decode(environment(data)["CFM_TOKEN"], options={"verify_signature": False})
    assert claims["scope"].split() == list(ALL_SCOPES)
    assert claims["exp"] - claims["iat"] == 12 * 3600


def test_a_token_has_the_scopes_and_the_subject_that_are_named(data: Path) -> None:
    token = cfm("token", "--data", data, "--scope", "tenant-manager-api:read x", "--subject", "ann").stdout.strip()
    claims = jwt.decode(token, options={"verify_signature": False})
    assert (claims["scope"], claims["sub"]) == ("tenant-manager-api:read x", "ann")
    url = environment(data)["CFM_URL"]
    assert get(f"{url}/api/v1alpha1/tenants", token)[0] == 200
    assert get(f"{url}/api/v1alpha1/activity-definitions", token)[0] == 403


def test_status_lists_every_process_with_its_health(data: Path) -> None:
    done = cfm("status", "--data", data)
    assert done.returncode == 0, done.stdout
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[0] == ["NAME", "PID", "URL", "HEALTH"]
    assert sorted(line[0] for line in lines[2:]) == sorted(EVERYTHING)
    assert {line[-1] for line in lines[1:]} == {"healthy"}


def test_status_as_json_tells_the_same_and_no_password(data: Path) -> None:
    done = cfm("status", "--data", data, "-o", "json")
    document = json.loads(done.stdout)
    assert document["healthy"] is True
    assert document["url"] == environment(data)["CFM_URL"]
    assert {one["name"] for one in document["processes"] if one["healthy"]} == set(EVERYTHING)
    password = urlsplit(environment(data)["CFM_DATABASE_URL"]).password
    assert password
    assert password not in done.stdout


def test_status_tells_that_a_process_is_unwell(data: Path) -> None:
    found = state.running(data)
    assert found is not None
    (standins,) = (one.pid for one in found.processes if one.name == "standins")
    assert standins is not None
    os.kill(standins, signal.SIGSTOP)
    try:
        done = cfm("status", "--data", data, "-o", "json")
    finally:
        os.kill(standins, signal.SIGCONT)
    assert done.returncode == 1
    assert [one["name"] for one in json.loads(done.stdout)["processes"] if not one["healthy"]] == ["standins"]


def test_logs_are_those_of_one_process_or_of_all(data: Path) -> None:
    one = cfm("logs", "trigger", "--data", data)
    assert "makes stream cfm-stream" in one.stdout
    every = cfm("logs", "--data", data).stdout.splitlines()
    assert {line.split(" | ")[0] for line in every} >= {"trigger", "gateway", "nats"}


def test_logs_of_a_process_that_is_not_there_name_those_that_are(data: Path) -> None:
    done = cfm("logs", "trager", "--data", data)
    assert (done.returncode, done.stdout) == (5, "")
    assert "trigger" in done.stderr


def test_logs_can_be_followed(data: Path) -> None:
    with cfm_running("logs", "gateway", "-f", "--data", data) as follower:
        assert follower.stdout is not None
        assert "Starting granian" in follower.stdout.readline() + follower.stdout.readline()
        with (state.logs(data) / "gateway.log").open("a") as log:
            log.write("a line that is new\n")
        while (line := follower.stdout.readline()) != "a line that is new\n":
            assert line, "the follower has ended"
        follower.send_signal(signal.SIGINT)
        assert follower.wait(20) == 0


def test_the_standard_orchestration_is_applied_as_often_as_one_likes(data: Path) -> None:
    file = Path(agents.__file__).with_name("standard.json")
    types = [one["type"] for one in seed.ACTIVITY_DEFINITIONS]
    for outcome in ("created", "replaced"):
        done = cfm("apply", file, "--data", data)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines() == [
            *(f"activity-definitions/{one} {outcome}" for one in types),
            f"orchestration-definitions/standard {outcome}",
        ]


def test_a_definition_that_is_refused_is_told_with_the_apis_words(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "wrong.json"
    file.write_text(json.dumps({"id": "wrong", "activities": {"x": [{"id": "1", "type": "nope"}]}}))
    done = cfm("apply", file, "--data", data)
    assert (done.returncode, done.stdout) == (1, "")
    assert "there is no activity type 'nope'" in done.stderr


def test_a_path_is_declared_as_indexed_and_dropped(data: Path) -> None:
    def listed() -> list[dict[str, str]]:
        return list(json.loads(cfm("query-index", "list", "--data", data, "-o", "json").stdout))

    # The stack is on this machine, whatever proxy there is.
    proxy = {"http_proxy": "http://127.0.0.1:9"}
    path = "properties.`cfm.size`"
    done = cfm("query-index", "declare", "tenants", path, "--kind", "number", "--wait", "--data", data, env=proxy)
    assert done.returncode == 0, done.stderr
    index = json.loads(done.stdout)
    assert (index["path"], index["state"]) == (path, "ready")
    assert listed() == [index]
    table = cfm("query-index", "list", "--data", data).stdout
    assert table.split() == [index["id"], "tenants", path, "number", "ready"]
    assert cfm("query-index", "drop", index["id"], "--data", data).returncode == 0
    while left := listed():
        assert left[0]["state"] == "dropping"


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("declare", "tenants", "properties.", "--kind", "text"), 1, "parse error: position 12: expected a key"),
        (("declare", "tenants", "id", "--kind", "text"), 1, "an index is of a path below properties"),
        (("drop", "no such index"), 5, "no such index"),
    ],
)
def test_an_index_that_cannot_be_is_refused_with_the_reason(
    data: Path, arguments: tuple[str, ...], code: int, told: str
) -> None:
    done = cfm("query-index", *arguments, "--data", data)
    assert (done.returncode, done.stdout) == (code, "")
    assert told in done.stderr


def test_a_second_stack_in_the_directory_is_refused(data: Path) -> None:
    for option in ([], ["--detach"]):
        done = cfm("up", "--port", "0", "--data", data, *option)
        assert (done.returncode, done.stdout) == (6, "")
        assert "cfm down --data" in done.stderr
    assert cfm("status", "--data", data).returncode == 0


def test_a_taken_port_is_refused_with_a_remedy(data: Path, tmp_path: Path) -> None:
    taken = str(urlsplit(environment(data)["CFM_URL"]).port)
    done = cfm("up", "--port", taken, "--data", tmp_path / "other")
    assert (done.returncode, done.stdout) == (6, "")
    assert f"port {taken} on 127.0.0.1 is taken" in done.stderr
    assert "--port 0" in done.stderr
    assert processes_of(tmp_path / "other") == []
    assert cfm("status", "--data", tmp_path / "other").returncode == 7


def test_agents_hold_no_credentials_of_the_platform(data: Path) -> None:
    found = state.running(data)
    assert found is not None
    (agents,) = (one.pid for one in found.processes if one.name == "agents")
    assert agents is not None
    for process in (psutil.Process(agents), *psutil.Process(agents).children()):
        environ = process.environ()
        assert {"CFM_EVENT_TOKEN", "CFM_JWTLET_URL"} <= environ.keys()
        assert {"CFM_DATABASE_URL", "CFM_NATS_URL"} & environ.keys() == set()
        assert not [name for name, value in environ.items() if "postgresql://" in value or "nats://" in value]


def test_a_second_stack_runs_beside_the_first(data: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    done = cfm("up", "--detach", "--no-auth", "--port", "0", "--data", other)
    try:
        assert done.returncode == 0, done.stderr
        first, second = environment(data), environment(other)
        assert len({first[name] for name in first} | {second[name] for name in second}) == 8
        assert second["CFM_TOKEN"] == ""
        assert get(f"{second['CFM_URL']}/api/v1alpha1/tenants", "")[0] == 200
        foreign = cfm("token", "--data", other).stdout.strip()
        assert get(f"{first['CFM_URL']}/api/v1alpha1/tenants", foreign)[0] == 401
    finally:
        assert cfm("down", "--data", other).returncode == 0
    assert processes_of(other) == []
    assert cfm("status", "--data", data).returncode == 0


def test_down_leaves_nothing_behind_and_can_be_repeated(data: Path) -> None:
    found = state.running(data)
    assert found is not None
    supervisor = psutil.Process(found.pid)
    url = environment(data)["CFM_URL"]
    with cfm_running("logs", "-f", "--data", data) as follower:
        done = cfm("down", "--data", data)
        follower.communicate(timeout=20)
        assert follower.returncode == 0
    assert (done.returncode, done.stdout) == (0, "")
    assert has_ended(supervisor)
    assert processes_of(data) == []
    assert not state.state_file(data).exists()
    with pytest.raises(ConnectionRefusedError):
        get(url, "")
    assert cfm("down", "--data", data).returncode == 0


@pytest.mark.parametrize("command", [["status"], ["env"], ["token"]])
def test_where_nothing_runs_a_command_says_so(tmp_path: Path, command: list[str]) -> None:
    done = cfm(*command, "--data", tmp_path)
    assert (done.returncode, done.stdout) == (7, "")
    assert "cfm up" in done.stderr


def test_the_directory_is_that_of_the_users_data_unless_one_is_named(tmp_path: Path) -> None:
    done = cfm("status", env={"XDG_DATA_HOME": str(tmp_path)})
    assert f"nothing runs in {tmp_path}/cfm/default" in done.stderr


def test_an_unknown_option_is_a_wrong_usage() -> None:
    assert cfm("up", "--prot", "1").returncode == 2


def test_the_tests_run_with_the_arguments_that_are_given() -> None:
    done = cfm("test", "tests/unit/test_dag.py", "-k", "cycle", "--collect-only")
    assert done.returncode == 0, done.stdout
    assert "test_dag.py" in done.stdout
    assert "mypy" not in done.stderr
    assert cfm("test", "tests/unit/test_dag.py", "-k", "no_such_test").returncode != 0
