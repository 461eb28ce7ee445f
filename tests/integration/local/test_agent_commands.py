"""``cfm agent``: new, schema, invoke and check, as a shell runs them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import local
from cfm_core.contracts.orchestration import PARTICIPANT_ID, VPA_DATA, VPA_STATE
from cfm_core.errors import ConflictError, ValidationError
from cfm_core.json_schema import problem_of
from cfm_core.provisioning.definitions.rules import check_activity_definition
from cfm_core.provisioning.definitions.v1alpha1 import ActivityDefinitionDocument
from local.agent import scaffold, schemas
from local.agent.files import project_activities
from local.agent.scaffold import Names
from tests.support.command import cfm
from tests.support.shelf import Shelf, running

ROOT = Path(local.__file__).parents[1]
STORES = """
import os

from cfm_core.agent import ActivityContext, ActivityResult, Complete, Fatal, activity
from cfm_core.clients.assembly import HTTP_CLIENT
from cfm_core.clients.http import HttpClient


@activity("test.stores", requires=[HTTP_CLIENT], secrets=["key"])
class Stores:
    def __init__(self, http: HttpClient) -> None:
        self._http = http

    def deploy(self, ctx: ActivityContext) -> ActivityResult:
        if ctx.values.get("refuse"):
            return Fatal(f"refused, with {ctx.secrets['key']}")
        self._http.send("PUT", f"{os.environ['SHELF_URL']}/things/one", json={"owner": ctx.values["owner"]})
        ctx.set_value("place", ctx.orchestration_id)
        ctx.set_output("thing", "one")
        return Complete()

    def dispose(self, ctx: ActivityContext) -> ActivityResult:
        self._http.send("DELETE", f"{os.environ['SHELF_URL']}/things/one")
        return Complete()
"""


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    with running() as shelf:
        yield shelf


@pytest.fixture
def stores(tmp_path: Path) -> Path:
    """The file of an agent that stores something, and fails to dispose of what is not there."""
    file = tmp_path / "stores.py"
    file.write_text(STORES)
    return file


@pytest.fixture
def environ(tmp_path: Path, shelf: Shelf) -> dict[str, str]:
    secrets = tmp_path / "secrets.json"
    secrets.touch(0o600)
    secrets.write_text('{"key": "a-secret-of-ours"}')
    return {"SHELF_URL": shelf.url, "CFM_SECRETS_FILE": str(secrets), "CFM_EVENT_TOKEN": ""}


def values(folder: Path, document: Any) -> Path:
    file = folder / "values.json"
    file.write_text(json.dumps(document))
    return file


# new


@pytest.mark.slow
def test_what_is_written_for_a_new_agent_is_tested_and_typed(tmp_path: Path) -> None:
    made = cfm("agent", "new", "Beta.mail-box", "--into", tmp_path / "there")
    files = [tmp_path / "there" / name for name in
             ("beta_mail_box.py", "beta_mail_box_service.py", "test_beta_mail_box.py", "values.json")]  # fmt: skip
    assert (made.returncode, made.stdout.split()) == (0, [str(file) for file in files])
    assert '@activity("Beta.mail-box"' in files[0].read_text()
    assert "class BetaMailBox:" in files[0].read_text()
    assert not any("acme_dns" in file.read_text() or "AcmeDns" in file.read_text() for file in files)
    for command in (
        ["pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "."],
        ["mypy", "--strict", "--cache-dir", tmp_path / "mypy", "."],
        ["ruff", "check", "--isolated", "--no-cache", "--line-length", "120", "--select", "E,F,W,I,UP,B,RUF,PT", "."],
        ["ruff", "format", "--isolated", "--no-cache", "--line-length", "120", "--check", "."],
    ):
        done = subprocess.run(
            [sys.executable, "-P", "-m", *command], cwd=files[0].parent, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "test_acme_dns.py").write_text("mine")
    with pytest.raises(ConflictError, match=r"test_acme_dns\.py is there already"):
        scaffold.write("acme.dns", tmp_path)
    assert [one.name for one in tmp_path.iterdir()] == ["test_acme_dns.py"]
    assert cfm("agent", "new", "acme.dns", "--into", tmp_path).returncode == 6


@pytest.mark.parametrize("name", ["", "a..b", "über", "json", "class", "9lives", "cfm-orchestration"])
def test_a_name_that_cannot_be_an_activity_type_or_a_module_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        Names.of(name)


def test_the_guide_shows_the_example_as_it_is_written() -> None:
    guide = (ROOT / "functions/agents/AUTHORS.md").read_text()
    example = (ROOT / "local/agent/example/acme_dns.py").read_text()
    assert f"```python\n{example}```\n" in guide


# schema


def test_a_definition_serves_deploy_and_dispose(tmp_path: Path) -> None:
    (agent, *_) = scaffold.write("acme.dns", tmp_path)
    definition = json.loads(cfm("agent", "schema", agent).stdout)
    assert (definition["type"], definition["description"][:21]) == ("acme.dns", "Gives the participant")
    check_activity_definition(ActivityDefinitionDocument.model_validate(definition).to_model())
    inputs, outputs = definition["inputSchema"], definition["outputSchema"]
    users_disposal = {PARTICIPANT_ID: "did:web:acme", VPA_DATA: [], VPA_STATE: {"acme.dns.name": "acme"}}
    assert problem_of(inputs, users_disposal) is None
    assert problem_of(inputs, {}) is not None
    assert problem_of(outputs, users_disposal) is None
    assert problem_of(outputs, {"acme.dns.name": 5}) is not None
    assert json.loads(cfm("agent", "schema", agent, "--outputs").stdout)["required"] == ["acme.dns.name"]


@pytest.mark.parametrize("activity_type", project_activities())
def test_a_definition_of_each_agent_would_be_accepted(activity_type: str) -> None:
    definition = schemas.definition_of(project_activities()[activity_type])
    assert definition["type"] == activity_type
    assert definition["description"]
    check_activity_definition(ActivityDefinitionDocument.model_validate(definition).to_model())


# invoke


def test_one_attempt_is_made_and_its_outcome_printed(stores: Path, shelf: Shelf, environ: dict[str, str]) -> None:
    given = values(stores.parent, {"owner": "ann"})
    done = cfm("agent", "invoke", stores, "--values", given, "--orchestration-id", "o-1", env=environ)
    assert (done.returncode, json.loads(done.stdout)) == (
        0,
        {"kind": "complete", "values": {"place": "o-1"}, "outputs": {"thing": "one"}},
    )
    assert shelf.things == {"one": {"owner": "ann"}}
    done = cfm("agent", "invoke", stores, "--dispose", env=environ)
    assert (done.returncode, json.loads(done.stdout)) == (0, {"kind": "complete"})
    assert shelf.things == {}


def test_an_attempt_that_fails_is_an_exit_code_and_tells_no_secret(stores: Path, environ: dict[str, str]) -> None:
    done = cfm("agent", "invoke", stores, "--values", values(stores.parent, {"refuse": True}), env=environ)
    assert (done.returncode, json.loads(done.stdout)) == (
        1,
        {"kind": "fatal", "reason": "refused, with [secret key]"},
    )
    assert "a-secret-of-ours" not in done.stdout + done.stderr


def test_a_function_that_nobody_serves_is_unreachable(stores: Path, environ: dict[str, str]) -> None:
    done = cfm("agent", "invoke", stores, "--url", "http://127.0.0.1:1/stores", env=environ)
    assert (done.returncode, done.stdout) == (7, "")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["invoke", "{}/none.py"], 2, "does not exist"),
        (["invoke", "{}/empty.py"], 1, "declares no function; an agent is a class decorated with @activity(...)"),
        (["invoke", "{}/broken.py"], 1, "broken.py cannot be imported: SyntaxError"),
        (["invoke", "{}/two.py"], 2, "say which with --type: two.a, two.b"),
        (["invoke", "{}/two.py", "--type", "c"], 5, "declares no activity type 'c'; there is two.a, two.b"),
        (["invoke", "{}/two.py", "--type", "two.a", "--values", "{}/list.json"], 2, "does not hold a JSON object"),
        (["check", "{}/two.py", "--service", "NOWHERE"], 2, "give NAME=URL"),
        (["check", "{}/two.py", "--ignore", "("], 2, "no regular expression"),
        (["run", "{}/two.py"], 2, "set CFM_EVENT_TOKEN"),
    ],
)
def test_what_cannot_be_done_is_said(tmp_path: Path, arguments: list[str], code: int, words: str) -> None:
    (tmp_path / "empty.py").touch()
    (tmp_path / "broken.py").write_text("def")
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "two.py").write_text(
        "from cfm_core.agent import Complete, activity\n"
        + "".join(f"@activity('two.{n.lower()}')\nclass Two{n}:\n    def deploy(self, ctx): ...\n" for n in "AB")
    )
    done = cfm("agent", *(one.replace("{}", str(tmp_path)) for one in arguments), env={"CFM_EVENT_TOKEN": ""})
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr.replace("\n", " ")


# check


def test_the_check_tells_case_by_case_what_went_wrong(stores: Path, environ: dict[str, str]) -> None:
    given = values(stores.parent, {"owner": "ann"})
    done = cfm("agent", "check", stores, "--values", given, "--service", "SHELF_URL", env=environ)
    lines = done.stdout.splitlines()
    assert done.returncode == 1
    assert "FAILED  dispose before any deploy" in lines
    assert any("things/one answered 404" in line for line in lines)
    assert "ok      crash after call 1 of 1, PUT /things/one" in lines
    assert lines[-1].endswith("5 failed")


def test_a_check_that_finds_nothing_is_a_success(tmp_path: Path) -> None:
    file = tmp_path / "quiet.py"
    file.write_text(QUIET)
    done = cfm("agent", "check", file, "-o", "json")
    found = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert {"case": "deploy", "problems": []} in found["test.quiet"]


QUIET = """
from cfm_core.agent import ActivityContext, ActivityResult, Complete, activity


@activity("test.quiet")
class Quiet:
    def deploy(self, ctx: ActivityContext) -> ActivityResult:
        return Complete()

    def dispose(self, ctx: ActivityContext) -> ActivityResult:
        return Complete()
"""
