"""What is told about a stack: its processes with their health, and their logs."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from local import health, state
from local.state import ProcessState, StackState

_LOOK_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Row:
    """One process; ``url`` is where it listens, without credentials."""

    name: str
    pid: int | None
    url: str
    healthy: bool
    restarts: int


def report(stack: StackState, *, look: bool = True) -> list[Row]:
    """The processes of a stack.

    Args:
        look: ask each how it is; else all are taken to be well.
    """
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda process: _row(process, look), stack.processes))


def _row(process: ProcessState, look: bool) -> Row:
    parts = urlsplit(process.check)
    url = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    healthy = not look or (_exists(process.pid) and health.healthy(process.check))
    return Row(process.name, process.pid, url, healthy, process.restarts)


def _exists(pid: int | None) -> bool:
    if pid is None:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def as_table(stack: StackState, rows: Sequence[Row]) -> str:
    """The processes as lines for people."""
    cells = [("NAME", "PID", "URL", "HEALTH")]
    cells.append(("supervisor", str(stack.pid), "", "healthy" if stack.ready else "starting"))
    for row in rows:
        health_text = "healthy" if row.healthy else "unhealthy"
        if row.restarts:
            health_text += f", restarted {row.restarts} times" if row.restarts > 1 else ", restarted once"
        cells.append((row.name, str(row.pid or "-"), row.url, health_text))
    widths = [max(len(line[column]) for line in cells) for column in range(3)]
    return "\n".join(
        f"{name:{widths[0]}}  {pid:>{widths[1]}}  {url:{widths[2]}}  {how}" for name, pid, url, how in cells
    )


def as_json(stack: StackState, rows: Sequence[Row]) -> str:
    """The processes as one JSON object."""
    document = {
        "url": stack.url,
        "pid": stack.pid,
        "ready": stack.ready,
        "healthy": stack.ready and all(row.healthy for row in rows),
        "processes": [asdict(row) for row in rows],
    }
    return json.dumps(document, indent=1)


def log_files(data: Path) -> dict[str, Path]:
    """The logs of a stack by the names of their processes; they stay when it has ended."""
    return {path.stem: path for path in sorted(state.logs(data).glob("*.log"))}


def log_lines(data: Path, name: str | None, go_on: Callable[[], bool] | None) -> Iterator[str]:
    """The lines of one log, or of all, each with its process's name in front.

    Args:
        go_on: asked again and again whether there can be more lines; None: stop at the end.
    """
    with contextlib.ExitStack() as opened:
        logs: dict[str, BinaryIO] = {}
        started: dict[str, bytes] = {}
        while True:
            more = go_on is not None and go_on()
            for stem, path in log_files(data).items():
                if name in {None, stem} and stem not in logs:
                    logs[stem] = opened.enter_context(path.open("rb"))
            for stem, log in logs.items():
                while line := log.readline():
                    line = started.pop(stem, b"") + line
                    if not line.endswith(b"\n") and more:
                        started[stem] = line  # its writer is in the middle of it
                        break
                    text = line.decode("utf-8", "replace").rstrip("\n")
                    yield text if name is not None else f"{stem} | {text}"
            if not more:
                return
            time.sleep(_LOOK_SECONDS)  # between two looks for what was added
