"""Turns a predicate into the condition of a WHERE clause."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from cfm_core.query.fields import Column, Field, Fields, JsonArray, Kind
from cfm_core.query.tree import Equals, Everything, Predicate, Scalar
from cfm_core.query.values import as_kind

_TYPES = {
    Kind.TEXT: "text",
    Kind.UUID: "uuid",
    Kind.INTEGER: "bigint",
    Kind.BOOLEAN: "boolean",
    Kind.TIMESTAMP: "timestamptz",
}


def to_sql(predicate: Predicate, fields: Fields) -> tuple[str, dict[str, Any]]:
    """The condition and its parameters, named ``q0``, ``q1`` and so on.

    The text is put together from the fields' expressions and fixed words; whatever the predicate holds is a parameter.

    Raises:
        ValidationError: the predicate names a field that ``fields`` lacks.
    """
    params: dict[str, Any] = {}
    return _condition(predicate, fields, params), params


def _condition(predicate: Predicate, fields: Fields, params: dict[str, Any]) -> str:
    match predicate:
        case Everything():
            return "true"
        case Equals():
            name_and_field = fields.find(predicate)
            return _equality(name_and_field[1], predicate.path[1:], predicate.value, params)
        case _:
            return " AND ".join(_condition(term, fields, params) for term in predicate.terms)


def _equality(field: Field, path: Sequence[str], value: Scalar, params: dict[str, Any]) -> str:
    if isinstance(field, Column):
        comparable = as_kind(value, field.kind)
        if comparable is None:
            return "false"
        text = comparable.isoformat() if isinstance(comparable, datetime) else comparable
        return f"{field.sql} = {_parameter(text, params)}::{_TYPES[field.kind]}"
    if not path:
        return _contains(field, [value], params)
    # Containment is what the index answers: a key that holds the value, or an array with it.
    either = (_contains(field, _nested(path, held, field), params) for held in (value, [value]))
    return f"({' OR '.join(either)})"


def _nested(path: Sequence[str], value: Any, field: Field) -> Any:
    for key in reversed(path):
        value = {key: value}
    return [value] if isinstance(field, JsonArray) else value


def _contains(field: Field, document: Any, params: dict[str, Any]) -> str:
    text = json.dumps(document, ensure_ascii=False)
    return f"{field.sql} @> {_parameter(text, params)}::jsonb"


def _parameter(value: Any, params: dict[str, Any]) -> str:
    name = f"q{len(params)}"
    params[name] = value
    return f":{name}"
