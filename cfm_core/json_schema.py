"""JSON Schema: the only module that knows the library. It is imported when a schema is first looked at.

A schema comes from a caller and is applied by the engine, so it must not be able to hold that up: nothing is fetched for it,
patterns take linear time, references lead to places within it and not in circles, and its size counts with all of them
followed. What is said about a document quotes no value of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from cfm_core.errors import FieldError

MOST_PARTS = 10_000
"""Objects in a schema, with what it refers to counted each time."""
_LARGEST_PATTERN = 1 << 20
"""Bytes that a compiled pattern may take."""
_ELSEWHERE = frozenset({"$id", "id", "$anchor", "$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor"})
_DATA = frozenset({"const", "enum", "default", "examples"})
_OF_NAMES = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"})
"""Keywords under which any name may stand, also one that is a keyword elsewhere."""


def pointer_to(*path: object) -> str:
    """The JSON pointer (RFC 6901) of a path of keys and places."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)


def problem_of_schema(schema: Mapping[str, Any]) -> FieldError | None:
    """What keeps ``schema`` from being a JSON Schema that can be applied; None if nothing.

    Its draft is what ``$schema`` names, else 2020-12.
    """
    from jsonschema_rs import ValidationError

    try:
        _Size(schema).of(schema, "")
        _compiled(json.dumps(schema))
    except _UnfitError as error:
        return error.problem
    except ValidationError as error:
        return FieldError(pointer_to(*error.instance_path), error.message)
    except (ValueError, RecursionError):
        return FieldError("", "is nested too deeply")
    return None


def problem_of(schema: Mapping[str, Any], document: Any) -> FieldError | None:
    """The first place where ``document`` is not as ``schema``, one without a problem of its own, wants it; None if it is."""
    from jsonschema_rs import ValidationError

    try:
        _compiled(json.dumps(schema)).validate(document)
    except ValidationError as error:
        return FieldError(pointer_to(*error.instance_path), error.message)
    except ValueError:
        return FieldError("", "is nested too deeply")
    return None


@lru_cache(maxsize=512)
def _compiled(schema: str) -> Any:
    import jsonschema_rs

    return jsonschema_rs.validator_for(
        json.loads(schema),
        offline=True,
        mask="the value",
        pattern_options=jsonschema_rs.RegexOptions(size_limit=_LARGEST_PATTERN),
    )


class _UnfitError(Exception):
    def __init__(self, pointer: str, detail: str) -> None:
        super().__init__(detail)
        self.problem = FieldError(pointer, detail)


class _Size:
    """Counts the objects of a schema, with those that it refers to."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._known: dict[int, int] = {}
        self._open: set[int] = set()

    def of(self, part: Any, pointer: str, *, named: bool = False) -> int:
        """The size of ``part``; if ``named``, its keys are names and no keywords.

        Raises:
            _UnfitError: it is too large, refers to itself, or to something elsewhere.
        """
        if not isinstance(part, dict | list):
            return 0
        if id(part) in self._open:
            raise _UnfitError(pointer, "refers to itself")
        if (known := self._known.get(id(part))) is not None:
            return known
        self._open.add(id(part))
        size = 1
        for key, value in part.items() if isinstance(part, dict) else enumerate(part):
            here = pointer + pointer_to(key)
            if named or not isinstance(part, dict):
                size += self.of(value, here)
            elif key == "$ref" and isinstance(value, str):
                size += self.of(self._target(value, here), here)
            elif key in _ELSEWHERE and not (part is self._root and key in {"$id", "id"}):
                raise _UnfitError(here, "is not supported: references are JSON pointers within the schema")
            elif key not in _DATA:
                size += self.of(value, here, named=key in _OF_NAMES)
            if size > MOST_PARTS:
                raise _UnfitError(pointer, f"has more than {MOST_PARTS} parts, with what it refers to")
        self._open.remove(id(part))
        self._known[id(part)] = size
        return size

    def _target(self, reference: str, pointer: str) -> Any:
        found: Any = self._root
        if not reference.startswith("#"):
            raise _UnfitError(pointer, "refers to something outside the schema")
        for step in filter(None, reference[1:].split("/")):
            name = step.replace("~1", "/").replace("~0", "~")
            try:
                found = found[int(name)] if isinstance(found, list) else found[name]
            except (KeyError, IndexError, ValueError, TypeError):
                raise _UnfitError(pointer, f"there is no {reference}") from None
        return found
