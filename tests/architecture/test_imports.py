"""The import directions of the project, read from the code."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from cfm_core.dag import Graph

ROOT = Path(__file__).resolve().parents[2]


def modules(*folders: str) -> Iterator[tuple[str, Path]]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield ".".join(path.relative_to(ROOT).with_suffix("").parts), path


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            assert node.module is not None
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def below(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def offenders(folder: str, *forbidden: str, allowed: tuple[str, ...] = ()) -> list[str]:
    return [
        f"{module} imports {name}"
        for module, path in modules(folder)
        if not below(module, *allowed)
        for name in sorted(imports(path))
        if below(name, *forbidden)
    ]


def test_the_library_knows_nobody_outside() -> None:
    assert offenders("cfm_core", "functions", "local", "infra", "tests") == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    known = {name.removesuffix(".__init__"): path for name, path in modules("cfm_core", "functions", "local")}
    # Raises where there is one, and names its modules. A package's own file may gather what its modules offer.
    Graph(
        {
            name: [one for one in imports(path) if one in known and known[one].name != "__init__.py"]
            for name, path in known.items()
        }
    )


def test_functions_know_the_library_only() -> None:
    assert offenders("functions", "local", "infra", "tests") == []


def test_no_function_imports_another() -> None:
    assert offenders("functions", "functions") == []


def test_the_managers_meet_in_the_contracts_only() -> None:
    assert offenders("cfm_core/tenancy", "cfm_core.provisioning") == []
    assert offenders("cfm_core/provisioning", "cfm_core.tenancy") == []


def test_agents_use_their_surface_only() -> None:
    subjects = ("cfm_core.keys", "cfm_core.reconciliation")
    allowed = ("cfm_core.agent", "cfm_core.clients", "cfm_core.contracts", "cfm_core.errors", *subjects)
    assert [
        f"{module} imports {name}"
        for module, path in modules("functions/agents")
        for name in sorted(imports(path))
        if below(name, "cfm_core") and name != "cfm_core" and not below(name, *allowed)
    ] == []


@pytest.mark.parametrize(
    ("package", "homes"),
    [
        ("pg8000", ("cfm_core.store",)),
        ("nats", ("cfm_core.eventing",)),
        ("cloudevents", ("cfm_core.eventing.cloudevents",)),
        ("httpx2", ("cfm_core.clients.http",)),
        ("httpcore2", ("cfm_core.clients.http",)),
        ("hvac", ("cfm_core.clients.vault",)),
        ("jsonschema_rs", ("cfm_core.json_schema",)),
        ("jwt", ("cfm_core.web.tokens", "cfm_core.web.key_sets")),
        ("cronsim", ("cfm_core.provisioning.schedules.cron",)),
        ("structlog", ("cfm_core.assembly.telemetry",)),
        ("opentelemetry", ("cfm_core.assembly.telemetry",)),
        ("flask", ("cfm_core.web", "cfm_core.declaration", "cfm_core.function", "cfm_core.eventing.edge")),
    ],
)
def test_each_driver_has_one_home(package: str, homes: tuple[str, ...]) -> None:
    assert offenders("cfm_core", package, allowed=homes) == []


def test_models_know_no_driver_and_no_framework() -> None:
    assert [
        f"{module} imports {name}"
        for module, path in modules("cfm_core")
        if path.name == "model.py"
        for name in sorted(imports(path))
        if below(name, "pg8000", "flask", "nats", "pydantic", "cfm_core.store", "cfm_core.web", "cfm_core.eventing")
    ] == []


def test_the_command_answers_without_importing_what_help_does_not_need() -> None:
    heavy = ("flask", "pg8000", "aiohttp", "nats", "granian", "functions_framework", "pydantic")
    tree = ast.parse((ROOT / "local" / "cli.py").read_text(encoding="utf-8"))
    at_import = {
        name
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""])
    }
    assert [name for name in at_import if below(name, *heavy)] == []
