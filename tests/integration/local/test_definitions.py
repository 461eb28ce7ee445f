"""``cfm definition lint``: what the Provision Manager would say, without one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cfm_core.contracts.orchestration import DEPLOY
from local import seed
from local.definitions import definition

A = {"type": "a", "outputSchema": {"properties": {"k": {"type": "string"}}}}
B = {"type": "b", "inputSchema": {"required": ["k"], "properties": {"k": {"type": "string"}}}}


def lint(folder: Path, *documents: Any) -> tuple[int, list[str]]:
    """The exit code and the lines for files called 0, 1, ... with these documents."""
    for number, document in enumerate(documents):
        (folder / str(number)).write_text(document if isinstance(document, str) else json.dumps(document))
    files = [str(folder / str(number)) for number in range(len(documents))]
    result = CliRunner().invoke(definition, ["lint", *files])
    return result.exit_code, result.output.replace(f"{folder}/", "").splitlines()


def template(*activities: dict[str, Any], type_: str = DEPLOY) -> dict[str, Any]:
    return {"activities": {type_: list(activities)}}


def test_definitions_that_fit_together_pass_in_silence(tmp_path: Path) -> None:
    fits = template({"id": "1", "type": "a"}, {"id": "2", "type": "b", "dependsOn": ["1"]})
    assert lint(tmp_path, fits, [A, B]) == (0, [])
    assert lint(tmp_path, seed.ACTIVITY_DEFINITIONS, seed.ORCHESTRATION_TEMPLATE) == (0, [])


def test_each_problem_is_told_with_its_place(tmp_path: Path) -> None:
    code, lines = lint(
        tmp_path,
        [A, {"type": "c d", "inputSchema": {"required": 1}, "descripton": ""}, 5],
        B,
        [template({"id": "1", "type": "a"}, {"id": "2", "type": "b", "inputs": ["1.k"]})],
        template({"id": "1", "type": "nope"}),
    )
    assert code == 1
    assert [line.split(": ")[:2] for line in lines] == [
        ["0#/1/type", "error"],
        ["0#/1/inputSchema/required", "error"],
        ["0#/2", "error"],
        [f"2#/0/activities/{DEPLOY}/1/inputs/0", "error"],
        [f"2#/0/activities/{DEPLOY}/1/inputs", "error"],
        [f"3#/activities/{DEPLOY}/0/type", "error"],
    ]


def test_what_is_doubtful_is_told_and_passes(tmp_path: Path) -> None:
    code, lines = lint(tmp_path, [A, B | {"Descripton": ""}], template({"id": "1", "type": "b"}, type_="x"))
    assert code == 0
    assert lines == [
        "0#/1: warning: there is no field /Descripton; did you mean description?",
        "1#/activities/x/0: warning: nothing that '1' depends on delivers 'k'",
    ]


@pytest.mark.parametrize("content", ["", "{", "[" * 100_000])
def test_a_file_that_is_no_json_is_told(tmp_path: Path, content: str) -> None:
    code, (line,) = lint(tmp_path, content)
    assert (code, line[:9]) == (1, "0: error:")


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    result = CliRunner().invoke(definition, ["lint", str(tmp_path / "nope")])
    assert (result.exit_code, "nope: error:" in result.output) == (1, True)
