"""The ``cfm`` command as a shell runs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import local

ROOT = Path(local.__file__).parents[1]
TIMEOUT_SECONDS = 120


def cfm(*arguments: str | Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        _argv(arguments),
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )


@contextmanager
def cfm_running(*arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    """Run a command that goes on; it is killed at the end of the block if it has not ended by then."""
    with subprocess.Popen(
        _argv(arguments),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=_hear_signals,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def _hear_signals() -> None:
    """Also where the tests themselves have been told not to, as a shell tells what it runs in the background."""
    for one in (signal.SIGHUP, signal.SIGINT):
        signal.signal(one, signal.SIG_DFL)


def _argv(arguments: tuple[str | Path, ...]) -> list[str | Path]:
    return [sys.executable, "-m", "local", *arguments]
