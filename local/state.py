"""What a running stack leaves in its directory for others to read: ``stack.json``, and a lock that says whether it runs.

The lock names the stack's supervisor and ends with it, however it ends. The file alone proves nothing: it stays behind
when the supervisor is killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from local.servers.process import StartError

_LOCK = "lock"
_LOOKERS_SECONDS = 0.3

RECORDS_TOKEN = "records-token"  # noqa: S105 - a name, and no secret
"""The file with the token by which agents read our records."""

MARK = "CFM_STACK"
"""Environment variable by which a stack's processes are known again: the directory of the stack."""


class DirectoryError(StartError):
    """The directory cannot be used; the text says what to do about it."""


class RunningError(StartError):
    """A stack runs in that directory already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessState:
    """One process of a stack. ``check`` is the URL by which its health is looked at."""

    name: str
    pid: int | None
    check: str
    restarts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StackState:
    """A stack as its directory describes it; holds secrets."""

    pid: int
    ready: bool = False
    url: str = ""
    auth: bool = True
    database_url: str = ""
    nats_url: str = ""
    standins_url: str = ""
    standins_token: str = ""
    processes: list[ProcessState] = field(default_factory=list)


def state_file(data: Path) -> Path:
    return data / "stack.json"


def logs(data: Path) -> Path:
    """The folder of a stack's logs, one file a process."""
    return data / "logs"


def write(data: Path, state: StackState) -> None:
    """Replace the description, for its owner to read only."""
    partial = data / "stack.json.partial"
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        json.dump(asdict(state), file, indent=1)
    partial.rename(state_file(data))


def read(data: Path) -> StackState | None:
    """The description that lies in ``data``, whether or not the stack still runs; None where there is none."""
    try:
        document = json.loads(state_file(data).read_text(encoding="utf-8"))
        processes = [ProcessState(**process) for process in document.pop("processes")]
        return StackState(**document, processes=processes)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, TypeError, KeyError):
        return None  # of another version, or not ours


def kept_secret(data: Path, name: str) -> str:
    """A secret of a stack that outlasts its restarts; made where there is none, for its owner to read only."""
    file = data / name
    if not file.exists():
        put_secret(data, name, secrets.token_urlsafe(32))
    return file.read_text(encoding="utf-8")


def put_secret(data: Path, name: str, secret: str) -> Path:
    """Write a secret of a stack into a file of its own, for its owner to read only; gives the file."""
    partial = data / f"{name}.partial"
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as opened:
        opened.write(secret)
    return partial.rename(data / name)


def running(data: Path) -> StackState | None:
    """The stack that runs in ``data``; None where none does. One that has only begun to start is not ``ready``."""
    try:
        descriptor = os.open(data / _LOCK, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.read(descriptor, 32).strip()
    else:
        return None
    finally:
        os.close(descriptor)
    state = read(data)
    if state is not None and owner == str(state.pid).encode():
        return state
    return StackState(pid=int(owner)) if owner.isdigit() else None


def stop(data: Path, seconds: float = 40) -> bool:
    """Stop the stack that runs in ``data`` and wait for its end; False where none runs.

    Raises:
        TimeoutError: it has not ended in time.
        PermissionError: it is somebody else's.
    """
    found = running(data)
    if found is None:
        if state_file(data).exists():
            with lock(data):
                end_leftovers(data)
        return False
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        supervisor = psutil.Process(found.pid)
        try:
            supervisor.terminate()
        except psutil.AccessDenied:
            raise PermissionError(f"the stack in {data} is another user's") from None
        deadline = time.monotonic() + seconds
        # One that has ended and that nobody has asked about yet is gone too.
        while supervisor.is_running() and supervisor.status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the stack in {data} has not ended after {seconds:.0f} s")
            time.sleep(0.02)  # between two looks
    return True


@contextlib.contextmanager
def lock(data: Path) -> Iterator[None]:
    """Make the directory if need be, and own it.

    Raises:
        RunningError: a stack owns it.
        DirectoryError: it cannot be made or written to.
    """
    try:
        data.mkdir(mode=0o711, parents=True, exist_ok=True)
        logs(data).mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(data / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise DirectoryError(
            f"cannot use {data}: {error.strerror}; name a directory that you may write to with --data DIR"
        ) from None
    try:
        deadline = time.monotonic() + _LOOKERS_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise RunningError(
                        f"a stack runs in {data} already; stop it with 'cfm down --data {data}',"
                        " or name another directory with --data DIR"
                    ) from None
                time.sleep(0.02)  # between two tries; whoever only looks holds the lock for an instant
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        yield
    finally:
        os.close(descriptor)


def end_leftovers(data: Path, seconds: float = 15) -> None:
    """Wait for the processes of a stack whose supervisor was killed, and kill those that do not end.

    The caller owns the directory.
    """
    state = read(data)
    if state is None:
        return
    import psutil

    left = []
    for process in state.processes:
        if process.pid is not None:
            with contextlib.suppress(psutil.Error):
                found = psutil.Process(process.pid)
                # A number may have gone to somebody else since.
                if found.environ().get(MARK) == str(data):
                    left.append(found)
    _, stubborn = psutil.wait_procs(left, timeout=seconds)
    for one in stubborn:
        with contextlib.suppress(psutil.Error):
            for child in (*one.children(recursive=True), one):
                child.kill()
    psutil.wait_procs(stubborn, timeout=seconds)
    state_file(data).unlink(missing_ok=True)
