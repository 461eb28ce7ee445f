"""The threat model: what it says is shown by tests that there are."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "infra" / "threat-model.md"
COLUMNS = ["id", "STRIDE", "threat", "what stops it", "shown by"]
NODE = re.compile(r"`([^`]+)`")


@dataclass(frozen=True)
class Threat:
    """One row of the page; ``tests`` are ids as pytest has them."""

    id: str
    stride: str
    what: str
    stopped_by: str
    tests: tuple[str, ...]


def sections() -> dict[str, list[str]]:
    """The lines below each heading of a boundary, by its letter."""
    found: dict[str, list[str]] = {}
    letter = ""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            heading = re.match(r"### ([A-Z]): ", line)
            letter = heading[1] if heading else ""
        elif letter:
            found.setdefault(letter, []).append(line)
    return found


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def threats() -> list[Threat]:
    found = []
    for lines in sections().values():
        rows = [cells(line) for line in lines if line.startswith("|")]
        assert rows[0] == COLUMNS
        for id_, stride, what, stopped_by, shown_by in rows[2:]:
            found.append(Threat(id_, stride, what, stopped_by, tuple(NODE.findall(shown_by))))
    return found


THREATS = threats()


@cache
def names_in(file: str) -> frozenset[str]:
    """The names of the tests in a file; none where there is no such file."""
    path = ROOT / file
    if not path.is_file():
        return frozenset()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name[:5] == "test_")


def test_every_boundary_of_the_picture_has_its_threats() -> None:
    page = PAGE.read_text(encoding="utf-8")
    picture = page.split("```")[1]
    # A boundary is a capital letter that stands alone.
    assert set(re.findall(r"(?<![A-Za-z])[A-Z](?![A-Za-z])", picture)) == set(sections())
    for letter, lines in sections().items():
        assert [one.id for one in THREATS if one.id.startswith(letter)] == [
            f"{letter}{number}" for number in range(1, sum(line.startswith("|") for line in lines) - 1)
        ]


@pytest.mark.parametrize("threat", THREATS, ids=lambda threat: threat.id)
def test_a_threat_is_stopped_and_a_test_that_there_is_shows_it(threat: Threat) -> None:
    assert threat.stride in set("STRIDE")
    assert threat.what
    assert threat.stopped_by
    assert threat.tests, "a threat that no test shows belongs to what is not stopped"
    assert [one for one in threat.tests if (node := one.split("::"))[-1] not in names_in(node[0])] == []


def test_each_kind_of_threat_was_thought_of() -> None:
    assert {one.stride for one in THREATS} == set("STRIDE")


def test_what_is_not_stopped_is_told() -> None:
    assert "## What is not stopped\n\n- **" in PAGE.read_text(encoding="utf-8")
