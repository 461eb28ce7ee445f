"""Reading a request's body as forgivingly as the contract wants it, and saying clearly what is wrong with it.

Field names match in any case, unknown fields are named and ignored, of a field that is there twice the last one holds, an
explicit null is as good as absent, the body ``null`` is ``{}``; the content type does not matter. Free-form maps keep what
they hold.

Source: CFM wire contract, section 1.
"""

from __future__ import annotations

import difflib
import functools
import io
import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, get_args

import flask
import pydantic
from pydantic import BaseModel

from cfm_core.errors import FieldError, TooLargeError, UnsupportedMediaError, ValidationError

Model = TypeVar("Model", bound=BaseModel)

LIMIT = 1024 * 1024
"""The largest body, in bytes."""
_PIECE = 64 * 1024
"""So much of a body is read at a time."""
DEEPEST = 34
"""Levels of objects and arrays in a body: 32 for a free-form object two levels below the top."""


LONGEST_KEY = 255
"""Characters of a name that a caller gives to a value of a shape that is declared: each mistake in that value repeats it."""
_MOST_NAMED = 10
"""So many fields at most are named that do not fit, and that nobody knows."""
_MOST_LISTED = 1000
_LONGEST_NAME = 200


@dataclass(frozen=True, slots=True)
class Unknown:
    """A field that nobody asks for; ``meant`` is the one whose name is most like it, or empty."""

    pointer: str
    meant: str

    def __str__(self) -> str:
        return f"there is no field {self.pointer}" + (f"; did you mean {self.meant}?" if self.meant else "")


@dataclass(frozen=True, slots=True)
class Repeated:
    """A name that an object has twice: what comes last holds, for us; others may read it in another way."""

    pointer: str

    def __str__(self) -> str:
        return f"{self.pointer} is there more than once; the last one holds"


Doubt = Unknown | Repeated
"""What a body says that is heeded in one way and might be meant in another."""


def parse(raw: bytes, model: type[Model]) -> tuple[Model, tuple[Doubt, ...]]:
    """Read ``raw`` as ``model``, and name the first fields that it has besides, or twice.

    Raises:
        ValidationError: it is not JSON, not an object, or does not fit; says where.
    """
    try:
        document = json.loads(
            raw.decode(), parse_constant=_refuse_constant, parse_float=_finite, object_pairs_hook=_object
        )
    except RecursionError:
        raise ValidationError("Invalid JSON: nested too deeply") from None
    except UnicodeDecodeError as error:
        raise ValidationError(f"Invalid JSON: byte {error.start} is not UTF-8") from None
    except json.JSONDecodeError as error:
        detail = (
            f"{error.msg.partition(' (')[0]}: line {error.lineno} column {error.colno}" if raw else "the body is empty"
        )
        raise ValidationError(f"Invalid JSON: {detail}") from None
    except ValueError:
        raise ValidationError("Invalid JSON: a number has too many digits") from None
    unknown: list[Doubt] = []
    _check(document, "", 1, unknown)
    if document is None:
        document = {}
    if not isinstance(document, dict):
        raise ValidationError("Invalid JSON: an object is expected", [FieldError("", "must be an object")])
    try:
        return model.model_validate(_named_as_declared(document, model, "", unknown)), tuple(unknown)
    except pydantic.ValidationError as error:
        raise _misfit(error) from None


def _misfit(error: pydantic.ValidationError) -> ValidationError:
    """What does not fit, and where; of very many things only their number, because to list them takes too long."""
    if (count := error.error_count()) > _MOST_LISTED:
        return _too_many(count)
    items = error.errors(include_url=False, include_context=False, include_input=False)
    errors = [
        FieldError(_shortened("".join(f"/{_escaped(part)}" for part in item["loc"])), _told(item["msg"]))
        for item in items[:_MOST_NAMED]
    ]
    kind = "Invalid JSON" if any(item["type"].endswith("_type") for item in items) else "Invalid payload"
    details = [f"{item.pointer or 'the body'}: {item.detail}" for item in errors]
    if count > _MOST_NAMED:
        details.append(f"and {count - _MOST_NAMED} more")
    return ValidationError(f"{kind}: {'; '.join(details)}", errors)


def _too_many(count: int) -> ValidationError:
    return ValidationError(f"Invalid payload: {count} values do not fit")


def _told(message: str) -> str:
    return message.removeprefix("Value error, ").removeprefix("Assertion failed, ")


def _shortened(text: str) -> str:
    """``text`` as an answer may repeat it: what a caller sends can be as long as a whole body."""
    return text if len(text) <= _LONGEST_NAME else text[: _LONGEST_NAME - 1] + "…"


def content(request: flask.Request, limit: int = LIMIT) -> bytes:
    """The request's whole body.

    Raises:
        TooLargeError: it is larger than ``limit``.
        ValidationError: it has broken off.
        UnsupportedMediaError: it is compressed; nobody inflates it, to whatever size.
    """
    encoding = request.environ.get("HTTP_CONTENT_ENCODING", "")
    transfer = request.environ.get("HTTP_TRANSFER_ENCODING", "")
    if encoding.strip().lower() not in {"", "identity"} or transfer.strip().lower() not in {"", "chunked"}:
        forget(request)
        raise UnsupportedMediaError("the body is compressed or encoded, which is not accepted")
    raw = bytearray()
    length = request.content_length
    if (length or 0) <= limit:
        expected = limit + 1 if length is None else length
        # Each read makes room for all that it asks for.
        while len(raw) < expected and (part := request.stream.read(min(expected - len(raw), _PIECE))):
            raw += part
        if len(raw) < (length or 0):
            raise ValidationError(f"the body has {len(raw)} of the {length} bytes that it was to have")
        if len(raw) <= limit:
            return bytes(raw)
    forget(request)
    raise TooLargeError(f"the body has more than {limit} bytes")


def forget(request: flask.Request) -> None:
    """Leave the rest of a body where it is: functions-framework would read all of it once the answer is made."""
    request.stream = io.BytesIO()


def _refuse_constant(name: str) -> None:
    raise ValidationError(f"Invalid JSON: {name} is not a JSON number")


class _RepeatingObject(dict[str, Any]):
    """An object that has names more than once."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        counts = Counter(name for name, _ in pairs)
        self.repeated = [name for name, count in counts.items() if count > 1]


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    return found if len(found) == len(pairs) else _RepeatingObject(pairs)


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValidationError("Invalid JSON: a number is too large")
    return number


def _check(value: Any, pointer: str, depth: int, doubts: list[Doubt]) -> None:
    """Refuse what no store can keep: texts with NUL or half a character, and what is nested too deeply. Tell what is repeated."""
    if isinstance(value, str):
        _check_text(value, pointer)
    elif isinstance(value, dict | list):
        if depth > DEEPEST:
            raise _invalid(pointer, f"nested more than {DEEPEST} levels deep")
        if isinstance(value, list):
            for index, item in enumerate(value):
                _check(item, _below(pointer, index), depth + 1, doubts)
            return
        if isinstance(value, _RepeatingObject):
            left = max(0, _MOST_NAMED - len(doubts))
            doubts.extend(Repeated(_below(pointer, name)) for name in value.repeated[:left])
        for key, item in value.items():
            _check_text(key, pointer)
            _check(item, _below(pointer, key), depth + 1, doubts)


def _check_text(text: str, pointer: str) -> None:
    if "\0" in text:
        raise _invalid(pointer, "contains a NUL character")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise _invalid(pointer, "is not valid Unicode")


def _invalid(pointer: str, detail: str) -> ValidationError:
    pointer = _shortened(pointer)
    return ValidationError(f"Invalid JSON: {pointer or 'the body'}: {detail}", [FieldError(pointer, detail)])


def _below(pointer: str, part: object) -> str:
    """The pointer to a part, no longer than it will be told: a million of them could else have a long name each."""
    return pointer if len(pointer) >= _LONGEST_NAME else _shortened(f"{pointer}/{_escaped(part)}")


def _escaped(part: object) -> str:
    return str(part).replace("~", "~0").replace("/", "~1")


def _named_as_declared(
    document: dict[str, Any], model: type[BaseModel], pointer: str, unknown: list[Doubt]
) -> dict[str, Any]:
    """``document`` with its fields spelled as ``model`` spells them, nulls left out; nested models likewise."""
    fields = _fields(model)
    named: dict[str, Any] = {}
    for key, value in document.items():
        at = _below(pointer, key)
        if (known := fields.get(key.lower())) is None:
            if len(unknown) < _MOST_NAMED:
                alike = difflib.get_close_matches(_shortened(key).lower(), fields, n=1)
                unknown.append(Unknown(at, fields[alike[0]][0] if alike else ""))
        elif value is not None:
            alias, annotation = known
            if alias in named and len(unknown) < _MOST_NAMED:
                # The same in another case.
                unknown.append(Repeated(at))
            named[alias] = _value_named_as_declared(value, annotation, at, unknown)
    return named


@functools.cache
def _fields(model: type[BaseModel]) -> Mapping[str, tuple[str, Any]]:
    """What ``model`` declares: name and type of each field, by its name in lower case."""
    return {
        (info.alias or name).lower(): (info.alias or name, info.annotation) for name, info in model.model_fields.items()
    }


@functools.cache
def _parts(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation)


def _value_named_as_declared(value: Any, annotation: Any, pointer: str, unknown: list[Doubt]) -> Any:
    for candidate in (annotation, *_parts(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            if isinstance(value, dict):
                return _named_as_declared(value, candidate, pointer, unknown)
            if isinstance(value, list):
                # Half a million of them would take the validation hundreds of megabytes.
                if (wrong := sum(not isinstance(item, dict) for item in value)) > _MOST_LISTED:
                    raise _too_many(wrong)
                return [
                    _named_as_declared(item, candidate, _below(pointer, index), unknown)
                    if isinstance(item, dict)
                    else item
                    for index, item in enumerate(value)
                ]
    # A map of lists, such as the activities of a template: {name: [model]}.
    for candidate in _parts(annotation):
        if _parts(candidate) and isinstance(value, dict):
            if any(len(key) > LONGEST_KEY for key in value):
                raise _invalid(pointer, f"a name has more than {LONGEST_KEY} characters")
            return {
                key: _value_named_as_declared(item, candidate, _below(pointer, key), unknown)
                for key, item in value.items()
            }
    return value
