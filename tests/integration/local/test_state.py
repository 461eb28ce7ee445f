"""The directory of a stack: who owns it, what is read from it, what is left in it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from local import state
from local.keeper import base_environ
from local.state import MARK, DirectoryError, ProcessState, RunningError, StackState

OWNER = """
import sys
from pathlib import Path

from local import state

with state.lock(Path(sys.argv[1])):
    print("mine", flush=True)
    sys.stdin.read()
"""


def own(data: Path) -> subprocess.Popen[str]:
    """Have another process own ``data`` until its standard input is closed."""
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, data],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=base_environ(),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "mine\n"
    return process


def test_a_directory_has_one_owner(tmp_path: Path) -> None:
    owner = own(tmp_path)
    with pytest.raises(RunningError, match="cfm down --data"), state.lock(tmp_path):
        pass
    owner.communicate()
    with state.lock(tmp_path):
        pass


def test_an_owner_that_is_killed_owns_nothing(tmp_path: Path) -> None:
    owner = own(tmp_path)
    owner.kill()
    owner.communicate()
    with state.lock(tmp_path):
        pass


def test_what_is_written_is_read_while_its_writer_runs(tmp_path: Path) -> None:
    owner = own(tmp_path)
    described = StackState(pid=owner.pid, url="http://x", processes=[ProcessState(name="n", pid=1, check="http://y")])
    state.write(tmp_path, described)
    assert state.running(tmp_path) == described
    assert state.state_file(tmp_path).stat().st_mode & 0o777 == 0o600
    owner.communicate()
    assert state.running(tmp_path) is None


def test_a_stack_that_has_only_begun_is_not_taken_for_the_one_before(tmp_path: Path) -> None:
    state.write(tmp_path, StackState(pid=1, ready=True, url="http://before"))
    owner = own(tmp_path)
    assert state.running(tmp_path) == StackState(pid=owner.pid, ready=False)
    owner.communicate()


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"pid": 1, "processes": [], "colour": "blue"}'])
def test_a_description_of_another_form_counts_as_none(tmp_path: Path, content: str) -> None:
    state.state_file(tmp_path).write_text(content)
    assert state.read(tmp_path) is None


def test_nothing_runs_where_there_is_no_directory(tmp_path: Path) -> None:
    assert state.running(tmp_path / "nowhere") is None
    assert state.stop(tmp_path / "nowhere") is False
    assert not (tmp_path / "nowhere").exists()


def test_a_directory_that_cannot_be_made_is_refused_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DirectoryError, match="--data DIR"), state.lock(tmp_path / "file" / "data"):
        pass


def test_leftovers_of_a_killed_supervisor_are_ended_and_strangers_are_not(tmp_path: Path) -> None:
    stubborn = "import signal, threading; signal.signal(15, signal.SIG_IGN); threading.Event().wait()"
    sleeper = [sys.executable, "-c", stubborn]
    leftover = subprocess.Popen(sleeper, env={**os.environ, MARK: str(tmp_path)})
    stranger = subprocess.Popen(sleeper, env={**os.environ, MARK: "/elsewhere"})
    try:
        processes = [
            ProcessState(name="leftover", pid=leftover.pid, check="http://x"),
            ProcessState(name="stranger", pid=stranger.pid, check="http://x"),
        ]
        state.write(tmp_path, StackState(pid=1, processes=processes))
        with state.lock(tmp_path):
            state.end_leftovers(tmp_path, seconds=0.1)
        assert leftover.poll() is not None
        assert stranger.poll() is None
        assert not state.state_file(tmp_path).exists()
    finally:
        for process in (leftover, stranger):
            process.kill()
            process.wait()
