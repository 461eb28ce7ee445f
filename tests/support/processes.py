"""Processes that are not the test's own children."""

from __future__ import annotations

import time
from pathlib import Path

import psutil

from local.state import MARK


def has_ended(process: psutil.Process, seconds: float = 20) -> bool:
    """Whether a process ends within ``seconds``; one that has ended and that nobody has asked about yet counts."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not runs(process):
            return True
        time.sleep(0.01)  # between two looks; what is waited for is the end
    return False


def runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def processes_of(data: Path) -> list[psutil.Process]:
    """Every process of the stack in ``data``, but for its supervisor."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == str(data) and runs(process):
                found.append(process)
        except psutil.Error:
            continue
    return found
