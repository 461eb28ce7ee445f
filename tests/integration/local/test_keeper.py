"""Keeping processes running."""

from __future__ import annotations

import queue
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from local.keeper import Child, Keeper, base_environ
from local.servers.process import StartError
from tests.support.processes import has_ended

WAIT_SECONDS = 20

PROGRAM = """
import signal, sys, threading
from pathlib import Path

told = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: told.set())
here = Path(sys.argv[1])
if (here / "refuse").exists():
    raise SystemExit("refuses to start")
(here / "ready").touch()
told.wait()
"""


@dataclass
class Watched:
    """A keeper, and what it has told."""

    keeper: Keeper
    home: Path
    changes: queue.SimpleQueue[Keeper] = field(default_factory=queue.SimpleQueue)
    said: queue.SimpleQueue[str] = field(default_factory=queue.SimpleQueue)

    def pid_when_ready(self) -> int:
        """Wait for the next word of the keeper; gives the process that runs then."""
        self.changes.get(timeout=WAIT_SECONDS)
        assert self.keeper.process is not None
        return self.keeper.process.pid


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    (tmp_path / "kept_program.py").write_text(PROGRAM)
    environ = base_environ()
    environ["PYTHONPATH"] += f":{tmp_path}"
    ready = tmp_path / "ready"
    child = Child("kept_program", tmp_path, log=tmp_path / "kept.log", env=environ, ready=ready.exists)
    changes: queue.SimpleQueue[Keeper] = queue.SimpleQueue()
    said: queue.SimpleQueue[str] = queue.SimpleQueue()
    keeper = Keeper("kept", child, changed=changes.put, say=said.put)
    yield Watched(keeper, tmp_path, changes, said)
    keeper.stop()


def test_a_process_that_ends_is_started_again(watched: Watched) -> None:
    watched.keeper.start()
    first = watched.pid_when_ready()
    for restarts in (1, 2):
        assert watched.keeper.process is not None
        watched.keeper.process.kill()
        assert "ended with code -9; starting it again" in watched.said.get(timeout=WAIT_SECONDS)
        assert watched.pid_when_ready() != first
        assert watched.keeper.restarts == restarts


def test_a_process_that_cannot_come_back_is_tried_until_it_can(watched: Watched) -> None:
    watched.keeper.start()
    watched.pid_when_ready()
    (watched.home / "ready").unlink()
    (watched.home / "refuse").touch()
    assert watched.keeper.process is not None
    watched.keeper.process.kill()
    watched.said.get(timeout=WAIT_SECONDS)
    assert "did not come back" in watched.said.get(timeout=WAIT_SECONDS)
    (watched.home / "refuse").unlink()
    watched.pid_when_ready()


def test_a_process_that_does_not_start_the_first_time_is_a_failure_with_its_own_words(watched: Watched) -> None:
    (watched.home / "refuse").touch()
    watched.keeper.start()
    assert watched.changes.get(timeout=WAIT_SECONDS) is watched.keeper
    assert isinstance(watched.keeper.failure, StartError)
    assert "refuses to start" in str(watched.keeper.failure)


def test_stopping_ends_the_process_and_starts_no_other(watched: Watched) -> None:
    watched.keeper.start()
    watched.pid_when_ready()
    process = watched.keeper.process
    assert process is not None
    watched.keeper.stop()
    assert process.returncode == 0
    assert watched.said.empty()
    assert watched.changes.empty()


def test_stopping_waits_for_no_process_that_has_not_become_ready(tmp_path: Path) -> None:
    (tmp_path / "kept_program.py").write_text(PROGRAM)
    environ = base_environ()
    environ["PYTHONPATH"] += f":{tmp_path}"
    looks: queue.SimpleQueue[None] = queue.SimpleQueue()

    def never() -> bool:
        looks.put(None)
        return False

    child = Child("kept_program", tmp_path, log=tmp_path / "kept.log", env=environ, ready=never, seconds=600)
    keeper = Keeper("kept", child, changed=lambda _: None, say=lambda _: None)
    keeper.start()
    looks.get(timeout=WAIT_SECONDS)
    keeper.stop()
    assert child.process is None


def test_a_child_ends_with_the_process_that_keeps_it(tmp_path: Path) -> None:
    program = """
import signal, sys, threading
from pathlib import Path

from local.servers.process import spawn

child = spawn([sys.executable, "-c", "import threading; threading.Event().wait()"], log=Path(sys.argv[1]))
print(child.pid, flush=True)
threading.Event().wait()
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", program, tmp_path / "log"], stdout=subprocess.PIPE, text=True, env=base_environ()
    )
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.communicate()
    assert has_ended(child)


def test_a_child_of_a_stack_is_given_no_settings_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CFM_DATABASE_URL", "postgresql://elsewhere")
    monkeypatch.setenv("PGPASSWORD", "secret")
    assert {name for name in base_environ() if name.startswith(("CFM_", "PG"))} == set()
