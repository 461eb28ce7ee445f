"""Which function answers a request: the route table of the declared HTTP functions."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from cfm_core.declaration import HttpFunction
from cfm_core.errors import FatalError

_VARIABLE = re.compile(r"\{\w+\}")


@dataclass(frozen=True, slots=True)
class Match:
    """What the table knows of a request.

    ``function`` is None where no function answers; ``allowed`` then holds the methods of those that answer the path, and is
    empty where the path itself is unknown.
    """

    function: HttpFunction | None
    variables: dict[str, str]
    allowed: tuple[str, ...] = ()


class Router:
    """Matches method and path. A path without variables wins over one with them, for the methods that it has.

    Raises:
        FatalError: two functions answer the same method and path.
    """

    def __init__(self, functions: Iterable[HttpFunction]) -> None:
        self._exact: dict[tuple[str, str], HttpFunction] = {}
        self._patterns: dict[int, list[HttpFunction]] = {}
        self._methods: dict[str, set[str]] = {}
        for function in functions:
            if "{" in function.path:
                self._patterns.setdefault(function.path.count("/"), []).append(function)
            elif (other := self._exact.setdefault((function.method, function.path), function)) is not function:
                raise FatalError(f"{other.name} and {function.name} both answer {function.method} {function.path}")
            self._methods.setdefault(function.path, set()).update(function.methods)
        for functions_of_length in self._patterns.values():
            seen: dict[tuple[str, str], HttpFunction] = {}
            for function in functions_of_length:
                key = (function.method, _VARIABLE.sub("{}", function.path))
                if (other := seen.setdefault(key, function)) is not function:
                    raise FatalError(f"{other.name} and {function.name} both answer {function.method} {function.path}")

    def match(self, method: str, path: str) -> Match:
        """Find who answers. HEAD is answered by whoever answers GET; a trailing slash is no matter."""
        method = "GET" if method == "HEAD" else method
        path = path.removesuffix("/") or "/"
        if (exact := self._exact.get((method, path))) is not None:
            return Match(exact, {})
        allowed: set[str] = set(self._methods.get(path, ()))
        for function in self._patterns.get(path.count("/"), ()):
            variables = function.match(path)
            if variables is None:
                continue
            if function.method == method:
                return Match(function, variables)
            allowed.update(function.methods)
        return Match(None, {}, tuple(sorted(allowed)))
