"""``cfm test``: style, types, packages and tests of the checkout, as a clean machine runs them too."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import click

_ROOT = Path(__file__).resolve().parents[1]
_MOST_WORKERS = 4
"""Each has a PostgreSQL and a NATS of its own, and many a test starts a stack besides."""


def run(arguments: Sequence[str]) -> int:
    """Run everything, or only pytest where there are arguments for it; 0 if all went well."""
    if not (_ROOT / "tests").is_dir():
        click.echo("cfm: the tests are not installed with the package; run this in a checkout", err=True)
        return 1
    if arguments:
        return _call("pytest", *arguments)
    codes = [
        _call("ruff", "check"),
        _call("ruff", "format", "--check"),
        _call("mypy"),
        _call("local.dependencies"),
        _call("pytest", "-m", "not alone", *_shared_out()),
        _call("pytest", "-m", "alone"),
    ]
    return next((code for code in codes if code), 0)


def _shared_out() -> list[str]:
    """Arguments that give a file at a time to each of several workers, those files first that take long."""
    # All workers would change the roles and policies of a vault that is there already.
    workers = 1 if "CFM_VAULT_ADDR" in os.environ else min(os.cpu_count() or 1, _MOST_WORKERS)
    return ["-n", str(workers), "--dist", "loadfile", "--no-loadscope-reorder"]


def _call(module: str, *arguments: str) -> int:
    click.echo(f"cfm: {' '.join([module, *arguments])}", err=True)
    # How this command was called is nothing to those that the tests call.
    environ = {name: value for name, value in os.environ.items() if name != "CFM_COMMAND"}
    return subprocess.run([sys.executable, "-m", module, *arguments], cwd=_ROOT, env=environ, check=False).returncode
