"""Secrets in files that somebody else keeps, such as mounted ones: read again when they have changed."""

from __future__ import annotations

import logging
from pathlib import Path

from cfm_core.errors import FatalError

log = logging.getLogger(__name__)


class SecretFile:
    """The text of a file without white space around it, as the file is now.

    Looking costs a system call. While a file that was read once cannot be read, its last text holds: whoever replaces a file
    may take it away for a moment.

    Raises:
        FatalError: it cannot be read the first time, or is empty.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._state = self._look()
        self._text = self._read()

    def __call__(self) -> str:
        try:
            state = self._look()
            if state != self._state:
                # In this order: what changes in between is seen the next time.
                self._text, self._state = self._read(), state
        except FatalError as error:
            log.warning("%s; what it said before still holds", error)
        return self._text

    def __repr__(self) -> str:
        return f"<SecretFile {self._path}>"

    def _look(self) -> tuple[int, int, int]:
        try:
            found = self._path.stat()
        except OSError as error:
            raise FatalError(f"the secret in {self._path} cannot be read: {error.strerror}") from error
        return found.st_mtime_ns, found.st_ino, found.st_size

    def _read(self) -> str:
        try:
            text = self._path.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise FatalError(f"the secret in {self._path} cannot be read: {error.strerror}") from error
        except UnicodeError:
            # Without the cause, which quotes the file.
            raise FatalError(f"the secret in {self._path} is no text in UTF-8") from None
        if not text:
            raise FatalError(f"the secret in {self._path} is empty")
        return text
