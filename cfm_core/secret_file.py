"""A secret in a file, which whoever runs the process may replace at any time."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from cfm_core.errors import CfmError, FatalError, RecoverableError

T = TypeVar("T")

log = logging.getLogger(__name__)


class SecretFile(Generic[T]):
    """What a file holds, read again as soon as it is another one. Safe to share between threads.

    Args:
        parse: makes a value of the file's text. Its errors may name a place, and must not quote.
    """

    def __init__(self, path: str, parse: Callable[[str], T]) -> None:
        self._path = Path(path)
        self._parse = parse
        self._known: tuple[tuple[int, ...], T] | None = None

    def read(self) -> T:
        """What the file holds now.

        Raises:
            RecoverableError: it is not there, cannot be read or does not hold such a value; it may before long.
        """
        try:
            found = self._path.stat()
            # A mounted secret is replaced by another file, one of one's own perhaps by another text.
            state = (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)
            if self._known is None or self._known[0] != state:
                self._known = (state, self._parse(self._path.read_text(encoding="utf-8")))
        except OSError as error:
            raise RecoverableError(f"{self._path} cannot be read: {error.strerror}") from error
        except (CfmError, ValueError) as error:
            told = str(error) if isinstance(error, FatalError) else "it is no proper text"
            raise RecoverableError(f"{self._path} is not usable: {told}") from None
        return self._known[1]


class LastingSecret:
    """The text of a file without white space around it, as the file is now. Calling it costs one look at the file.

    While a file that was read once cannot be read, its last text holds: whoever replaces a file may take it away for a moment.

    Raises:
        FatalError: it cannot be read the first time, or is empty.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = SecretFile(str(path), _text)
        try:
            self._last = self._file.read()
        except RecoverableError as error:
            raise FatalError(f"the secret in {error}") from error

    def __call__(self) -> str:
        try:
            self._last = self._file.read()
        except RecoverableError as error:
            log.warning("the secret in %s; what it said before still holds", error)
        return self._last

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._path}>"


def _text(content: str) -> str:
    if not (text := content.strip()):
        raise FatalError("it is empty")
    return text
