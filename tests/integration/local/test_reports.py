"""What is told about a stack."""

from __future__ import annotations

import os
from pathlib import Path

from local import reports, state
from local.reports import Row
from local.servers.process import free_port
from local.state import ProcessState, StackState


def stack(*processes: ProcessState) -> StackState:
    return StackState(pid=os.getpid(), ready=True, url="http://127.0.0.1:1", processes=list(processes))


def test_a_process_that_has_ended_or_does_not_answer_is_unhealthy_and_shown_without_its_password() -> None:
    port = free_port()
    ended = ProcessState(name="trigger", pid=None, check=f"http://127.0.0.1:{port}/readyz")
    silent = ProcessState(name="nats", pid=os.getpid(), check=f"nats://cfm:secret@127.0.0.1:{port}", restarts=2)
    assert reports.report(stack(ended, silent)) == [
        Row("trigger", None, f"http://127.0.0.1:{port}", False, 0),
        Row("nats", os.getpid(), f"nats://127.0.0.1:{port}", False, 2),
    ]


def test_a_table_has_a_line_for_each_process() -> None:
    rows = [Row("gateway", 7, "http://h:1", True, 0), Row("nats", None, "nats://h:2", False, 2)]
    lines = reports.as_table(stack(), rows).splitlines()
    assert [line.split(maxsplit=3) for line in (lines[0], lines[2], lines[3])] == [
        ["NAME", "PID", "URL", "HEALTH"],
        ["gateway", "7", "http://h:1", "healthy"],
        ["nats", "-", "nats://h:2", "unhealthy, restarted 2 times"],
    ]


def test_lines_of_several_logs_say_whose_they_are(tmp_path: Path) -> None:
    state.logs(tmp_path).mkdir()
    (state.logs(tmp_path) / "a.log").write_bytes(b"one\ntw\xff")
    (state.logs(tmp_path) / "b.log").write_bytes(b"three\n")
    assert list(reports.log_lines(tmp_path, None, None)) == ["a | one", "a | tw\ufffd", "b | three"]
    assert list(reports.log_lines(tmp_path, "b", None)) == ["three"]


def test_following_gives_whole_lines_and_logs_that_appear_later(tmp_path: Path) -> None:
    logs = state.logs(tmp_path)
    logs.mkdir()
    (logs / "a.log").write_bytes(b"half")
    looks = iter([True, True, False])

    def go_on() -> bool:
        more = next(looks)
        if not more:
            with (logs / "a.log").open("ab") as log:
                log.write(b" and half\n")
            (logs / "b.log").write_bytes(b"new\n")
        return more

    assert list(reports.log_lines(tmp_path, None, go_on)) == ["a | half and half", "b | new"]
