"""SQL as a text of its own: named queries in a ``queries.sql`` beside the code that uses them.

A query begins with ``-- name: some_name``; the comment lines below it say in a sentence what it does and gives. Parameters
are written ``:name``.
"""

from __future__ import annotations

import re
from functools import cached_property
from importlib import resources

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


class Queries:
    """The queries of one package, read at the first use.

    Args:
        package: the package that holds the file.
        file: the file's name.
    """

    def __init__(self, package: str, file: str = "queries.sql") -> None:
        self._package = package
        self._file = file

    @cached_property
    def _texts(self) -> dict[str, str]:
        text = resources.files(self._package).joinpath(self._file).read_text(encoding="utf-8")
        parts = _NAME.split(text)[1:]
        return {name: body.strip().rstrip(";") for name, body in zip(parts[::2], parts[1::2], strict=True)}

    def __getitem__(self, name: str) -> str:
        """Give the text of one query; KeyError where there is none of that name."""
        return self._texts[name]

    def names(self) -> list[str]:
        return list(self._texts)
