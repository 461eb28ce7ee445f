"""Bodies that are none, and values that no field of a declared document can have."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

from pydantic import BaseModel, ValidationError

from cfm_core.declaration import HttpFunction
from cfm_core.web.paging import QueryRequest
from tests.security.attack import Attack, request
from tests.security.ground import BASE, HTTP

NO_BODIES: dict[str, tuple[bytes, str]] = {
    "half": (b'{"properties": {', "Invalid JSON: "),
    "a form": (b"properties=x&state=y", "Invalid JSON: "),
    "an array": (b"[]", "Invalid JSON: an object is expected"),
    "two documents": (b"{} {}", "Invalid JSON: Extra data"),
    "not UTF-8": (b'{"a": "\xff"}', "is not UTF-8"),
    "NaN": (b'{"a": NaN}', "NaN is not a JSON number"),
    "infinite": (b'{"a": -Infinity}', "-Infinity is not a JSON number"),
    "too large a number": (b'{"a": 1e999}', "a number is too large"),
    "too many digits": (b'{"a": ' + b"9" * 5000 + b"}", "a number has too many digits"),
    "a NUL": (b'{"a": "\\u0000"}', "contains a NUL character"),
    "half a character": (b'{"a": "\\ud800"}', "is not valid Unicode"),
    "too deep": (b'{"a": ' * 40 + b"1" + b"}" * 40, "nested more than 34 levels deep"),
    "far too deep": (b"[" * 300_000, "nested too deeply"),
}
REPLACEMENTS: tuple[Any, ...] = ({"a": 0.5}, [[]], 0.5, "\u2603", True, -1, "x" * 3000)
"""What stands in for a field's value, as far as the field refuses it."""
_DEEPEST = 3


def body_of(function: HttpFunction) -> type[BaseModel] | None:
    """What a request to the function has to hold."""
    return QueryRequest if function.lists is not None and function.method == "POST" else function.body


READING = [
    (one, body)
    for one in HTTP
    # Queries are read by one and the same.
    if (body := body_of(one)) is not None and (body is not QueryRequest or one.name == "query_tenants")
]


@cache
def unfit(model: type[BaseModel], depth: int = 1) -> tuple[tuple[str, Any], ...]:
    """For each field, also of documents within, a document in which it alone is wrong, and the pointer to it."""
    found: list[tuple[str, Any]] = []
    for name, field in model.model_fields.items():
        alias = field.alias or name
        refused = [one for one in REPLACEMENTS if f"/{alias}" in _pointers(model, {alias: one})]
        found += [(f"/{alias}", {alias: one}) for one in refused[: 2 if depth == 1 else 1]]
        inner = field.annotation
        if depth < _DEEPEST and isinstance(inner, type) and issubclass(inner, BaseModel):
            found += [(f"/{alias}{pointer}", {alias: one}) for pointer, one in unfit(inner, depth + 1)]
    return tuple(found)


def _pointers(model: type[BaseModel], document: dict[str, Any]) -> set[str]:
    """Where ``model`` finds ``document`` wrong, besides what is missing."""
    try:
        model.model_validate(document)
    except ValidationError as error:
        return {"/" + "/".join(map(str, item["loc"])) for item in error.errors() if item["type"] != "missing"}
    except ValueError:
        return set()
    return set()


def attacks() -> Iterator[Attack]:
    for function, model in READING:
        path = function.path.removeprefix(BASE)
        for name, (raw, says) in NO_BODIES.items():
            yield request(f"{function.name}, {name}", function.method, path, 400, says, body=raw)
        for number, (pointer, document) in enumerate(unfit(model)):
            name = f"{function.name}, {pointer} as in {number}"
            yield request(name, function.method, path, 400, f"{pointer}", body=json.dumps(document).encode())
        large = b'{"a": "' + b"x" * 1024 * 1024 + b'"}'
        yield request(f"{function.name}, too large", function.method, path, 413, "the body has more than", body=large)
