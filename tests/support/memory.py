"""Directories in memory, for servers whose files are many and need not outlive a run."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MEMORY = Path("/dev/shm")
ROOM_BYTES = 3 << 30
_PREFIX = "cfm-tests-"
_OPEN = 0o711


@contextmanager
def directory(memory: Path = MEMORY, room: int = ROOM_BYTES) -> Iterator[Path | None]:
    """A new directory that others may walk through, deleted at the end of the block; None where there is no room for it.

    What runs have left that were killed is deleted, too.
    """
    if not os.access(memory, os.W_OK) or shutil.disk_usage(memory).free < room:
        yield None
        return
    for left in memory.glob(f"{_PREFIX}*"):
        _delete_unless_held(left)
    path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=memory))
    held = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        # While it was private, and not held yet, others left it alone.
        path.chmod(_OPEN)
        yield path
    finally:
        shutil.rmtree(path)
        os.close(held)


def _delete_unless_held(path: Path) -> None:
    """Delete what a killed run has left; what is another user's, or was made this very moment, is left alone."""
    try:
        found = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        status = os.fstat(found)
        if status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) == _OPEN:
            fcntl.flock(found, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
    except BlockingIOError:
        pass
    finally:
        os.close(found)
