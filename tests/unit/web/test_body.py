from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import Field

from cfm_core.contracts.documents import Document
from cfm_core.errors import ValidationError
from cfm_core.web.body import DEEPEST, parse


class Part(Document):
    part_name: str = ""
    free_form: dict[str, Any] = Field(default_factory=dict)


class Whole(Document):
    first_name: str = "nobody"
    parts: list[Part] = Field(default_factory=list)
    named_parts: dict[str, list[Part]] = Field(default_factory=dict)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"{}", Whole()),
        (b"null", Whole()),
        (b' {"firstName": "x"} ', Whole(first_name="x")),
        (b'{"FIRSTNAME": "x", "unknown": 5}', Whole(first_name="x")),
        (b'{"firstName": null}', Whole()),
        (b'{"firstName": "x", "firstName": "y"}', Whole(first_name="y")),
        (b'{"parts": [{"PARTNAME": "p"}]}', Whole(parts=[Part(part_name="p")])),
        (b'{"namedParts": {"KEY": [{"partname": "p"}]}}', Whole(named_parts={"KEY": [Part(part_name="p")]})),
        (
            b'{"parts": [{"freeForm": {"PartName": null, "n": 1e3}}]}',
            Whole(parts=[Part(free_form={"PartName": None, "n": 1000.0})]),
        ),
    ],
)
def test_a_body_is_read_forgivingly(raw: bytes, expected: Whole) -> None:
    document, _ = parse(raw, Whole)
    assert document == expected


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "Invalid JSON: the body is empty"),
        (b"{", "Invalid JSON: Expecting property name"),
        (b"{} x", "Invalid JSON: Extra data"),
        (b"[]", "Invalid JSON: an object is expected"),
        (b'{"firstName": 5}', "Invalid JSON: /firstName: "),
        (b'{"firstName": "\\u0000"}', "Invalid JSON: /firstName: contains a NUL character"),
        (b'{"a": [{"b": "\\udc00"}]}', "Invalid JSON: /a/0/b: is not valid Unicode"),
        (b'{"a/b~c": {"\\u0000": 1}}', "Invalid JSON: /a~1b~0c: contains a NUL character"),
        (b'{"x": -Infinity}', "Invalid JSON: -Infinity is not a JSON number"),
        (b'{"x": -1e999}', "Invalid JSON: a number is too large"),
        (b'{"x": ' + b"1" * 5000 + b"}", "Invalid JSON: a number has too many digits"),
        (b"\x80", "Invalid JSON: byte 0 is not UTF-8"),
        (b"[" * 200_000, "Invalid JSON: nested too deeply"),
        (b'{"x":' * DEEPEST + b"[]" + b"}" * DEEPEST, "nested more than 34 levels deep"),
    ],
)
def test_a_body_that_cannot_be_read_is_refused_with_its_reason(raw: bytes, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        parse(raw, Whole)
    assert message in str(caught.value)


def test_a_body_may_be_nested_to_the_limit() -> None:
    parse(b'{"x":' * DEEPEST + b"1" + b"}" * DEEPEST, Whole)


def test_every_mistake_is_pointed_at() -> None:
    with pytest.raises(ValidationError) as caught:
        parse(b'{"firstName": 1, "parts": [{"partName": []}], "namedParts": {"a/b": [{"freeForm": 1}]}}', Whole)
    assert [error.pointer for error in caught.value.errors] == [
        "/firstName",
        "/parts/0/partName",
        "/namedParts/a~1b/0/freeForm",
    ]


@pytest.mark.parametrize(
    ("raw", "unknown"),
    [
        (b'{"FIRSTNAME": "x", "parts": [], "namedParts": {}}', []),
        (b'{"fristName": "x"}', ["there is no field /fristName; did you mean firstName?"]),
        (b'{"zzz": null}', ["there is no field /zzz"]),
        (b'{"parts": [{}, {"a/b": 1}]}', ["there is no field /parts/1/a~1b"]),
        (
            b'{"namedParts": {"k": [{"partNames": "p", "freeForm": {"any": 1}}]}}',
            ["there is no field /namedParts/k/0/partNames; did you mean partName?"],
        ),
    ],
)
def test_fields_that_nobody_asks_for_are_named(raw: bytes, unknown: list[str]) -> None:
    assert [str(one) for one in parse(raw, Whole)[1]] == unknown


def test_of_very_many_unknown_fields_the_first_are_named_and_long_names_are_cut() -> None:
    raw = json.dumps({"x" * 1_000_000: 1} | {f"k{number}": 1 for number in range(100)}).encode()
    _, unknown = parse(raw, Whole)
    assert len(unknown) == 10
    assert len(unknown[0].pointer) == 200


@pytest.mark.parametrize(
    ("count", "errors", "message"),
    [
        (11, 10, "; and 1 more"),
        (1000, 10, "; and 990 more"),
        (1001, 0, "Invalid payload: 1001 values do not fit"),
    ],
)
def test_of_very_many_mistakes_the_first_are_told(count: int, errors: int, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        parse(json.dumps({"parts": [1] * count}).encode(), Whole)
    assert len(caught.value.errors) == errors
    assert str(caught.value).endswith(message)
