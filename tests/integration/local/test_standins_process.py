from __future__ import annotations

import contextlib
import signal
import subprocess
import sys

import pytest


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_stand_ins_end_however_often_they_are_told(number: signal.Signals) -> None:
    command = [sys.executable, "-m", "local.standins", "--token", "t"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as standins:
        try:
            assert standins.stdout is not None
            assert standins.stdout.readline().startswith("the stand-ins are at http://")
            # Until it has ended: the signals that come while it stops are the ones that matter.
            for _ in range(1_000_000):
                if standins.poll() is not None:
                    break
                with contextlib.suppress(ProcessLookupError):
                    standins.send_signal(number)
            assert standins.wait(10) == 0
        finally:
            standins.kill()
