"""Turns a predicate into a test of documents that are held in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cfm_core.query.fields import Column, Fields, Json
from cfm_core.query.tree import Equals, Everything, Predicate, Scalar
from cfm_core.query.values import as_kind

Test = Callable[[Mapping[str, Any]], bool]


def to_test(predicate: Predicate, fields: Fields) -> Test:
    """A function that tells whether ``predicate`` holds for a document, with its fields named as ``fields`` declares them.

    It answers as the condition of ``to_sql`` does.

    Raises:
        ValidationError: the predicate names a field that ``fields`` lacks.
    """
    match predicate:
        case Everything():
            return lambda _: True
        case Equals():
            return _equality(predicate, fields)
        case _:
            tests = [to_test(term, fields) for term in predicate.terms]
            return lambda document: all(test(document) for test in tests)


def _equality(term: Equals, fields: Fields) -> Test:
    name, field = fields.find(term)
    path, value = term.path[1:], term.value
    if isinstance(field, Column):
        comparable = as_kind(value, field.kind)
        return lambda document: comparable is not None and document.get(name) == comparable
    if isinstance(field, Json):
        return lambda document: _leads_to(document.get(name), path, value)
    return lambda document: any(_leads_to(element, path, value) for element in document.get(name) or ())


def _leads_to(document: Any, path: Sequence[str], value: Scalar) -> bool:
    for key in path:
        if not isinstance(document, dict) or key not in document:
            return False
        document = document[key]
    if path and isinstance(document, list):
        return any(_same(element, value) for element in document)
    return _same(document, value)


def _same(stored: Any, value: Scalar) -> bool:
    """Equal, and of one type: for Python True is 1."""
    return isinstance(stored, bool) == isinstance(value, bool) and bool(stored == value)
