"""Keeps a process running: one that ends by itself is started again, until it is told to stop."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from cfm_core.errors import CfmError
from local.servers.process import StartError, kill_session, spawn, stop, wait_until

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0
_STEADY_SECONDS = 10.0
"""Whoever has run so long is started again at once; whoever keeps ending earlier, after ever longer pauses."""


class Server(Protocol):
    """What can be kept running. ``start`` returns when it is ready, and may be called again after ``stop``."""

    @property
    def process(self) -> subprocess.Popen[bytes] | None: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...


class Child:
    """A Python program of the project, kept at the address that its arguments say.

    Args:
        module: what ``python -m`` runs.
        ready: says whether it does its work.
        seconds: how long it may take until it is ready.
    """

    def __init__(
        self,
        module: str,
        *arguments: str | Path,
        log: Path,
        env: Mapping[str, str],
        ready: Callable[[], bool],
        seconds: float = 20,
        cwd: Path | None = None,
    ) -> None:
        self._argv: Sequence[str | Path] = (sys.executable, "-m", module, *arguments)
        self._log = log
        self._env = env
        self._ready = ready
        self._seconds = seconds
        self._cwd = cwd
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> subprocess.Popen[bytes] | None:
        return self._process

    def start(self) -> None:
        """Start the program and wait until it is ready.

        Raises:
            StartError: it ended, or was not ready in time.
        """
        self._process = process = spawn(self._argv, log=self._log, env=self._env, cwd=self._cwd)
        wait_until(self._ready, process=process, log=self._log, what=self._log.stem, seconds=self._seconds)

    def stop(self) -> None:
        """Stop the program and wait for its end."""
        if self._process is not None:
            stop(self._process)
            self._process = None


class Keeper:
    """Runs one server from ``start`` to ``stop``, in a thread that lives as long as the server does.

    Args:
        changed: called from that thread when the server has become ready, or could not be started the first time.
        say: takes a line when something unexpected has happened.
    """

    def __init__(
        self, name: str, server: Server, *, changed: Callable[[Keeper], None], say: Callable[[str], None]
    ) -> None:
        self.name = name
        self.restarts = 0
        self.failure: Exception | None = None
        """Why the server could not be started the first time; it is not tried again then."""
        self._server = server
        self._changed = changed
        self._say = say
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"keeper-{name}", daemon=True)

    @property
    def process(self) -> subprocess.Popen[bytes] | None:
        """The process that became ready last; it may have ended since."""
        return self._process

    def start(self) -> None:
        """Begin to start the server."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the server for good and wait for its end."""
        self._stopping.set()
        self._server.stop()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        while not self._stopping.is_set():
            begun = time.monotonic()
            try:
                self._server.start()
                self._process = process = self._server.process
                assert process is not None
            except (StartError, CfmError, OSError) as error:
                self._server.stop()
                if self._process is None:
                    self.failure = error
                    self._changed(self)
                    return
                self._report(f"{self.name} did not come back: {str(error).splitlines()[0]}")
            else:
                self._changed(self)
                if self._stopping.is_set():
                    break
                code = process.wait()
                # Whatever it had started must not stay behind, on its port for example.
                kill_session(process.pid)
                self._report(f"{self.name} (process {process.pid}) ended with code {code}; starting it again")
            if self._stopping.is_set():
                break
            self.restarts += 1
            if time.monotonic() - begun > _STEADY_SECONDS:
                pause = _FIRST_PAUSE
            self._stopping.wait(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
        self._server.stop()

    def _report(self, text: str) -> None:
        if not self._stopping.is_set():
            self._say(text)


def base_environ() -> dict[str, str]:
    """What every child of a stack is given of this process's environment: nothing of the fabric, no credentials."""
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "VIRTUAL_ENV")
    root = str(Path(__file__).resolve().parents[1])
    return {name: os.environ[name] for name in kept if name in os.environ} | {
        "PYTHONPATH": os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])]),
        "PYTHONSAFEPATH": "1",  # what lies in the folder where somebody started cfm is no module of it
        "PYTHONUNBUFFERED": "1",
        "MALLOC_ARENA_MAX": "2",  # glibc's arena per thread costs more memory than it saves time here
    }
