"""Turns a predicate into the condition of a WHERE clause.

Equality becomes a jsonpath that the GIN index of the column answers, for values and for arrays of them alike: neither the
index's entries nor lax paths know levels of arrays.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from cfm_core.query.declared import DeclaredPath, hints
from cfm_core.query.fields import Column, Fields, Json, JsonArray, Kind
from cfm_core.query.instants import instant_of, moment_of
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
    Path,
    Predicate,
    Present,
    Scalar,
    Term,
)

_NEVER = "false"
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TYPES: Mapping[Kind, str] = {
    Kind.TEXT: "text",
    Kind.UUID: "uuid",
    Kind.INTEGER: "bigint",
    Kind.BOOLEAN: "boolean",
    Kind.TIMESTAMP: "timestamptz",
}

_ORDERS_OF_FRACTIONS: Mapping[Order, Order] = {
    Order.LESS: Order.AT_MOST,
    Order.AT_MOST: Order.AT_MOST,
    Order.MORE: Order.MORE,
    Order.AT_LEAST: Order.MORE,
}
"""How a whole number stands to the one below a fraction, if it stands to the fraction in an order."""


def to_sql(predicate: Predicate, fields: Fields, declared: Collection[DeclaredPath] = ()) -> tuple[str, dict[str, Any]]:
    """The condition and its parameters, named ``q0``, ``q1`` and so on.

    The text is put together from the fields' expressions and fixed words; whatever the predicate holds is a parameter.
    Where the predicate does not hold, the condition is false or null.

    Args:
        declared: the paths that have an index of their own; they change what is fast, never what is found.

    Raises:
        ValidationError: the predicate names a field that ``fields`` lacks.
    """
    params = _Parameters()
    return _condition(predicate, fields, declared, params), params.values


class _Parameters:
    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def add(self, value: Any, type_: str) -> str:
        """The SQL of a new parameter."""
        name = f"q{len(self.values)}"
        self.values[name] = value
        return f":{name}::{type_}"


def _condition(predicate: Predicate, fields: Fields, declared: Collection[DeclaredPath], params: _Parameters) -> str:
    match predicate:
        case Everything():
            return "true"
        case And():
            parts = [_exact(term, fields, declared, params) for term in predicate.terms]
            parts += _hints(predicate.terms, fields, declared, params)
            return f"({' AND '.join(parts)})"
        case Or():
            return f"({' OR '.join(_condition(term, fields, declared, params) for term in predicate.terms)})"
        case Not():
            # Whatever an index says of the term, it says nothing of the negation.
            return f"({_condition(predicate.term, fields, (), params)} IS NOT TRUE)"
        case _:
            parts = [_exact(predicate, fields, declared, params), *_hints([predicate], fields, declared, params)]
            return parts[0] if len(parts) == 1 else f"({' AND '.join(parts)})"


def _exact(predicate: Predicate, fields: Fields, declared: Collection[DeclaredPath], params: _Parameters) -> str:
    """The condition of a conjunction's part; of a single term without what indexes are told of it."""
    if isinstance(predicate, Everything | And | Or | Not):
        return _condition(predicate, fields, declared, params)
    _, field = fields.find(predicate.path)
    if isinstance(field, Column):
        return _of_column(predicate, field, params)
    return _of_json(predicate, field, params)


def _hints(
    terms: Sequence[Predicate], fields: Fields, declared: Collection[DeclaredPath], params: _Parameters
) -> list[str]:
    def column_of(path: Path) -> tuple[str, str]:
        name, field = fields.find(path)
        return name, field.sql

    def parameter(value: Any, type_: str) -> str:
        return params.add(_array(value) if isinstance(value, list) else value, type_)

    return hints(terms, declared, column_of, parameter)


def _of_column(term: Term, column: Column, params: _Parameters) -> str:
    type_ = _TYPES[column.kind]
    is_text = column.kind in {Kind.TEXT, Kind.UUID}
    match term:
        case OneOf():
            values = [read for value in term.values if (read := _as_column(value, column.kind)) is not None]
            if len(values) < 2:
                return f"{column.sql} = {params.add(values[0], type_)}" if values else _NEVER
            return f"{column.sql} = ANY ({params.add(_array(values), f'{type_}[]')})"
        case NoneOf():
            values = [read for value in term.values if (read := _as_column(value, column.kind)) is not None]
            # Without an element <> ALL holds for null too.
            return (
                f"{column.sql} <> ALL ({params.add(_array(values), f'{type_}[]')})"
                if values
                else f"{column.sql} IS NOT NULL"
            )
        case Ordered():
            return _order_of_column(term, column, params)
        case Like():
            return f"{column.sql}::text LIKE {params.add(term.pattern.sql, 'text')}" if is_text else _NEVER
        case NotLike():
            if is_text:
                return f"{column.sql}::text NOT LIKE {params.add(term.pattern.sql, 'text')}"
            return f"{column.sql} IS NOT NULL"
        case Contains():
            if is_text and isinstance(term.value, str):
                return f"strpos({column.sql}::text, {params.add(term.value, 'text')}) > 0"
            return _NEVER
        case Present():
            return f"{column.sql} IS NOT NULL"


def _order_of_column(term: Ordered, column: Column, params: _Parameters) -> str:
    value = term.value
    match column.kind:
        case Kind.INTEGER if not isinstance(value, str):
            # An index answers for a whole number only; and no other lies between the two that a fraction lies between.
            whole = math.floor(value)
            if not _is_bigint(whole):
                return f"{column.sql} {term.order} {params.add(str(value), 'numeric')}"
            order = term.order if whole == value else _ORDERS_OF_FRACTIONS[term.order]
            return f"{column.sql} {order} {params.add(whole, 'bigint')}"
        case Kind.TIMESTAMP if isinstance(value, str) and (moment := moment_of(value)):
            return f"{column.sql} {term.order} {params.add(moment.isoformat(), 'timestamptz')}"
        case Kind.UUID if isinstance(value, str) and _UUID.fullmatch(value):
            return f"{column.sql} {term.order} {params.add(value, 'uuid')}"
        case Kind.TEXT | Kind.UUID if isinstance(value, str):
            if instant := instant_of(value):
                return f"query.instant_of({column.sql}::text) {term.order} {params.add(instant.isoformat(), 'timestamptz')}"
            return f'{column.sql}::text COLLATE "C" {term.order} {params.add(value, "text")}'
        case _:
            return _NEVER


def _as_column(value: Scalar, kind: Kind) -> Any:
    """``value`` as a column of ``kind`` would hold it; None where such a column can never be equal to it."""
    match kind:
        case Kind.BOOLEAN:
            return value if isinstance(value, bool) else None
        case Kind.INTEGER:
            if isinstance(value, bool | str) or value != int(value) or not _is_bigint(int(value)):
                return None
            return int(value)
        case Kind.TIMESTAMP:
            moment = moment_of(value) if isinstance(value, str) else None
            return moment and moment.isoformat()
        case Kind.UUID:
            return value if isinstance(value, str) and _UUID.fullmatch(value) else None
        case Kind.TEXT:
            return value if isinstance(value, str) else None


def _is_bigint(value: int) -> bool:
    return -(2**63) <= value < 2**63


def _of_json(term: Term, field: Json | JsonArray, params: _Parameters) -> str:
    path = "$" + "".join(f".{_json(key)}" for key in term.path.keys)

    def holds(check: str) -> str:
        """The path's own comparison, null where types differ. The operator would have the index read from end to end."""
        return f"jsonb_path_match({field.sql}, {params.add(check, 'jsonpath')}, silent => true)"

    def some(values: str, condition: str) -> str:
        return (
            f"EXISTS (SELECT FROM jsonb_path_query({field.sql}, {params.add(values, 'jsonpath')}) v WHERE {condition})"
        )

    match term:
        case OneOf():
            either = " || ".join(f"{path} == {_json(value)}" for value in term.values)
            return f"{field.sql} @@ {params.add(either, 'jsonpath')}" if either else _NEVER
        case NoneOf():
            unwanted = params.add(_array([_json(value) for value in term.values]), "jsonb[]")
            return some(f"{path}[*]", f"v <> 'null' AND v <> ALL ({unwanted})")
        case Ordered():
            instant = instant_of(term.value) if isinstance(term.value, str) else None
            if instant is None:
                return holds(f"{path} {term.order} {_json(term.value)}")
            limit = params.add(instant.isoformat(), "timestamptz")
            exact = some(f"{path}[*]", f"query.instant_of(v #>> '{{}}') {term.order} {limit}")
            # Reading texts as timestamps is dear; most are far away already as texts, whatever their offset is.
            if (near := _near(instant, term.order)) is None:
                return exact
            return f"({holds(f'{path} {near}')} AND {exact})"
        case Like():
            pattern = params.add(term.pattern.sql, "text")
            return some(f"{path}[*]", f"jsonb_typeof(v) = 'string' AND v #>> '{{}}' LIKE {pattern}")
        case NotLike():
            pattern = params.add(term.pattern.sql, "text")
            unlike = f"(jsonb_typeof(v) <> 'string' OR v #>> '{{}}' NOT LIKE {pattern})"
            return some(f"{path}[*]", f"v <> 'null' AND {unlike}")
        case Contains():
            if not term.path.keys:
                return _of_json(OneOf(term.path, (term.value,)), field, params)
            holding = f"jsonb_typeof(v) = 'array' AND v @> {params.add(_json(term.value), 'jsonb')}"
            if isinstance(term.value, str):
                part = params.add(term.value, "text")
                holding += f" OR jsonb_typeof(v) = 'string' AND strpos(v #>> '{{}}', {part}) > 0"
            return some(path, holding)
        case Present():
            return holds(f'{path}.type() != "null"')


def _near(instant: datetime, order: Order) -> str | None:
    """What texts are compared with that tell an instant in ``order`` to this one; None at the ends of time.

    An offset moves a text by less than a day, so that its date is not further off than that.
    """
    is_less = order in {Order.LESS, Order.AT_MOST}
    try:
        date = (instant + timedelta(days=2 if is_less else -1)).date()
    except OverflowError:
        return None
    return f"{'<' if is_less else '>='} {_json(date.isoformat())}"


def _json(value: Scalar) -> str:
    """``value`` in JSON, which is a literal, or a key, of a jsonpath as well."""
    return json.dumps(value, ensure_ascii=False)


def _array(values: Sequence[Any]) -> str:
    """An array as text, each element in quotes, without which some words mean something else."""
    return "{" + ",".join('"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"' for value in values) + "}"
