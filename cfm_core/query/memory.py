"""Turns a predicate into a test of documents that are held in memory."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from cfm_core.query.fields import Column, Fields, Kind
from cfm_core.query.instants import instant_of, moment_of
from cfm_core.query.patterns import matcher
from cfm_core.query.tree import (
    And,
    Contains,
    Everything,
    Like,
    NoneOf,
    Not,
    NotLike,
    OneOf,
    Or,
    Order,
    Ordered,
    Predicate,
    Present,
    Scalar,
    Term,
)

Test = Callable[[Mapping[str, Any]], bool]
_Check = Callable[[Any], bool]

_COMPARISONS: Mapping[Order, Callable[[Any, Any], bool]] = {
    Order.LESS: operator.lt,
    Order.AT_MOST: operator.le,
    Order.MORE: operator.gt,
    Order.AT_LEAST: operator.ge,
}


def to_test(predicate: Predicate, fields: Fields) -> Test:
    """A function that tells whether ``predicate`` holds for a document, with its fields named as ``fields`` declares them.

    It answers as the condition of ``to_sql`` does.

    Raises:
        ValidationError: the predicate names a field that ``fields`` lacks.
    """
    match predicate:
        case Everything():
            return lambda _: True
        case And():
            tests = [to_test(term, fields) for term in predicate.terms]
            return lambda document: all(test(document) for test in tests)
        case Or():
            tests = [to_test(term, fields) for term in predicate.terms]
            return lambda document: any(test(document) for test in tests)
        case Not():
            test = to_test(predicate.term, fields)
            return lambda document: not test(document)
        case _:
            return _term(predicate, fields)


def _term(term: Term, fields: Fields) -> Test:
    name, field = fields.find(term.path)
    holds = _check(term, _moment if isinstance(field, Column) and field.kind is Kind.TIMESTAMP else _same)
    unwrap = not isinstance(term, Contains | Present)

    def test(document: Mapping[str, Any]) -> bool:
        values: Iterable[Any] = [document.get(name)]
        for key in term.path.keys:
            values = [step[key] for step in _elements(values) if isinstance(step, dict) and key in step]
        return any(map(holds, _elements(values) if unwrap else values))

    return test


def _elements(values: Iterable[Any]) -> list[Any]:
    """``values``, with those that are arrays replaced by their elements."""
    return [element for value in values for element in (value if isinstance(value, list) else (value,))]


def _check(term: Term, literal: Callable[[Scalar], Any]) -> _Check:
    """What ``term`` asks of one candidate. ``literal`` reads a value of the predicate, None where it equals nothing."""
    match term:
        case OneOf():
            wanted = {_comparable(literal(value)) for value in term.values} - {None}
            return lambda value: _comparable(value) in wanted
        case NoneOf():
            unwanted = {_comparable(literal(value)) for value in term.values} - {None}
            return lambda value: value is not None and _comparable(value) not in unwanted
        case Ordered():
            return _ordered(term.order, literal(term.value))
        case Like():
            matches = matcher(term.pattern)
            return lambda value: isinstance(value, str) and matches(value)
        case NotLike():
            matches = matcher(term.pattern)
            return lambda value: value is not None and not (isinstance(value, str) and matches(value))
        case Contains():
            part, sought = term.value, _comparable(term.value)
            return lambda value: (
                any(_comparable(element) == sought for element in value)
                if isinstance(value, list)
                else isinstance(value, str) and isinstance(part, str) and part in value
            )
        case Present():
            return lambda value: value is not None


def _ordered(order: Order, bound: Any) -> _Check:
    compare = _COMPARISONS[order]
    limit = instant_of(bound) if isinstance(bound, str) else None
    if limit is not None:
        return lambda value: isinstance(value, str) and (at := instant_of(value)) is not None and compare(at, limit)
    tagged = _comparable(bound)
    if tagged is None:
        return lambda _: False

    def holds(value: Any) -> bool:
        candidate = _comparable(value)
        return candidate is not None and candidate[0] is tagged[0] and compare(candidate[1], tagged[1])

    return holds


def _comparable(value: Any) -> tuple[type, Any] | None:
    """A scalar with what it can be compared to; None for anything else. A float is the decimal number that is stored."""
    match value:
        case bool():
            return bool, value
        case int():
            return Decimal, value
        case float():
            return Decimal, Decimal(repr(value))
        case str():
            return str, value
        case datetime():
            return datetime, value
        case _:
            return None


def _same(value: Scalar) -> Scalar:
    return value


def _moment(value: Scalar) -> datetime | None:
    return moment_of(value) if isinstance(value, str) else None
