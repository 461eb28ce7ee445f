"""Child processes: started so that none outlives its parent, awaited by what they do and not by sleeping."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)

_PORTS = range(15_000, 32_000)
"""Where free ports are looked for: below those that the system gives to outgoing connections, so that a server which is
started again finds its port unused."""
_HELD = 64
_held: deque[int] = deque()
"""File descriptors of what keeps the ports that were found last from other processes that look for some, until this one ends."""


class StartError(Exception):
    """A process did not come up; the text says what to do about it."""


def free_port(
    host: str = "127.0.0.1", kind: socket.SocketKind = socket.SOCK_STREAM, among: Sequence[int] = _PORTS
) -> int:
    """A port that nobody listens on now, and that no other process was given here shortly before."""
    for port in random.sample(among, min(len(among), 200)):
        if port_is_free(host, port, kind) and _hold(port):
            return port
    raise StartError(f"found no free port on {host} between {min(among)} and {max(among)}")


def port_is_free(host: str, port: int, kind: socket.SocketKind = socket.SOCK_STREAM) -> bool:
    """Whether ``port`` can be listened on."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind) as probe:
        if kind is socket.SOCK_STREAM:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _hold(port: int) -> bool:
    """Whether ``port`` is now kept for this process: several stacks may look for their ports at the same time.

    By a name that the system forgets with the process, and that has the scope of ports: one network namespace. Where there
    are no such names, nothing is kept.
    """
    if sys.platform != "linux":
        return True
    name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        name.bind(f"\0cfm-port-{port}")
    except OSError:
        name.close()
        return False
    if len(_held) == _HELD:
        os.close(_held.popleft())
    _held.append(name.detach())
    return True


def die_with_parent(how: signal.Signals) -> None:
    """Have this process sent ``how`` when its parent ends; where the system cannot do that, nothing happens.

    The system takes the thread that started a process for its parent: that thread has to live as long as its child.
    """
    if sys.platform == "linux":
        _libc.prctl(_PR_SET_PDEATHSIG, how)


def spawn(
    argv: Sequence[str | os.PathLike[str]],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    uid: int | None = None,
    gid: int | None = None,
    cwd: Path | None = None,
    orphaned: signal.Signals = signal.SIGTERM,
) -> subprocess.Popen[bytes]:
    """Start a child in a session of its own, its output appended to ``log``.

    A terminal's Ctrl-C does not reach it; when the thread that called this ends, it is sent ``orphaned``.
    """
    parent = os.getpid()

    def before_exec() -> None:
        die_with_parent(orphaned)
        if os.getppid() != parent:
            os._exit(1)

    with log.open("ab") as output:
        return subprocess.Popen(
            [os.fspath(part) for part in argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=None if env is None else dict(env),
            user=uid,
            group=gid,
            extra_groups=[] if uid is not None else None,
            cwd=cwd,
            start_new_session=True,
            preexec_fn=before_exec,
        )


def wait_until(
    ready: Callable[[], bool], *, process: subprocess.Popen[bytes], log: Path, what: str, seconds: float = 20
) -> None:
    """Return as soon as ``ready()``.

    Raises:
        StartError: the process ended, or ``seconds`` have passed; the text holds the end of its log.
    """
    deadline = time.monotonic() + seconds
    pause = 0.005
    while not ready():
        ended = process.poll()
        if ended is not None or time.monotonic() > deadline:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-12:])
            how = f"ended with code {ended}" if ended is not None else f"is not ready after {seconds:.0f} s"
            raise StartError(f"{what} {how}; the end of {log}:\n{tail}")
        time.sleep(pause)  # between two looks; what is waited for is the condition
        pause = min(pause * 1.5, 0.1)


def answers(host: str, port: int) -> bool:
    """Whether something accepts connections there."""
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False


def stop(process: subprocess.Popen[bytes], *, how: signal.Signals = signal.SIGTERM, seconds: float = 10) -> None:
    """Ask a child to stop and wait for its end; kill it, with its own children, when it does not."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(how)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            kill_session(process.pid)
            process.wait()


def kill_session(leader: int) -> None:
    """Kill a child that ``spawn`` started and whatever of its own children is left."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)
