"""``cfm test``: style, types, packages and tests of the checkout, as a clean machine runs them too."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import click

_ROOT = Path(__file__).resolve().parents[1]


def run(arguments: Sequence[str]) -> int:
    """Run everything, or only pytest where there are arguments for it; 0 if all went well."""
    if not (_ROOT / "tests").is_dir():
        click.echo("cfm: the tests are not installed with the package; run this in a checkout", err=True)
        return 1
    if arguments:
        return _call("pytest", *arguments)
    checks = (("ruff", "check"), ("ruff", "format", "--check"), ("mypy",), ("local.dependencies",), ("pytest",))
    codes = [_call(*check) for check in checks]
    return next((code for code in codes if code), 0)


def _call(module: str, *arguments: str) -> int:
    click.echo(f"cfm: {' '.join([module, *arguments])}", err=True)
    # How this command was called is nothing to those that the tests call.
    environ = {name: value for name, value in os.environ.items() if name != "CFM_COMMAND"}
    return subprocess.run([sys.executable, "-m", module, *arguments], cwd=_ROOT, env=environ, check=False).returncode
