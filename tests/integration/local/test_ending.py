"""Processes end however often they are told to: a signal that interrupts another's handler must not hold them."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.servers.process import answers, free_port

SIGNALS = [signal.SIGTERM, signal.SIGINT]

AGENT = """
from cfm_core.agent import ActivityContext, ActivityResult, Complete, activity


@activity("acme.printer")
class Printer:
    def deploy(self, ctx: ActivityContext) -> ActivityResult:
        return Complete()
"""


@contextlib.contextmanager
def _running(module: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([sys.executable, "-m", module, *arguments], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _end(process: subprocess.Popen[str], number: signal.Signals) -> None:
    # Until it has ended: the signals that come while it stops are the ones that matter.
    for _ in range(1_000_000):
        if process.poll() is not None:
            break
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
    assert process.wait(10) == 0


@pytest.mark.parametrize("number", SIGNALS)
def test_the_stand_ins_end(number: signal.Signals) -> None:
    with _running("local.standins", "--token", "t") as standins:
        assert standins.stdout is not None
        assert standins.stdout.readline().startswith("the stand-ins are at http://")
        _end(standins, number)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_functions_process_ends(tmp_path: Path, number: signal.Signals) -> None:
    source = tmp_path / "printer.py"
    source.write_text(AGENT)
    port = free_port()
    with _running("local.server", "file", "--source", str(source), "--port", str(port)) as server:
        while not answers("127.0.0.1", port):
            assert server.poll() is None
        _end(server, number)
