from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from pydantic import Field

from cfm_core.contracts.documents import Document
from cfm_core.errors import ValidationError
from cfm_core.web.body import DEEPEST, parse
from local.keeper import base_environ

ENVIRON = base_environ()


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
        (b'{"namedParts": {"' + b"k" * 256 + b'": []}}', "/namedParts: a name has more than 255 characters"),
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


@pytest.mark.parametrize(
    ("raw", "doubts"),
    [
        (b'{"firstName": "x", "firstName": "y"}', ["/firstName is there more than once; the last one holds"]),
        (b'{"firstName": "x", "FIRSTNAME": "y"}', ["/FIRSTNAME is there more than once; the last one holds"]),
        (
            b'{"parts": [{}, {"freeForm": {"a/b": 1, "a/b": 2, "A/B": 3}}]}',
            ["/parts/1/freeForm/a~1b is there more than once; the last one holds"],
        ),
        (b'{"firstName": "x", "firstName": null}', ["/firstName is there more than once; the last one holds"]),
    ],
)
def test_names_that_are_there_twice_are_told(raw: bytes, doubts: list[str]) -> None:
    assert [str(one) for one in parse(raw, Whole)[1]] == doubts


def test_of_very_many_repeated_names_the_first_are_told() -> None:
    raw = b"{" + b",".join(b'"k%d": 1' % (number % 1000) for number in range(2000)) + b"}"
    assert len(parse(raw, Whole)[1]) == 10


LARGE = {
    "a long name": b'{"' + b"k" * 500_000 + b'": [' + b"1," * 249_000 + b"1]}",
    "mistakes": b'{"parts": [' + b"1," * 500_000 + b"1]}",
    "mistakes below a name": b'{"namedParts": {"' + b"k" * 255 + b'": [' + b"1," * 500_000 + b"1]}}",
    "mistakes below a long name": b'{"namedParts": {"' + b"k" * 400_000 + b'": [' + b"1," * 300_000 + b"1]}}",
    "mistakes in objects": b'{"namedParts": {"' + b"k" * 255 + b'": [' + b'{"partName":1},' * 60_000 + b"{}]}}",
    "repeated names": b"{" + b'"k":1,' * 150_000 + b'"k":1}',
}

MEASURE = """
import contextlib, sys
from pathlib import Path
from cfm_core.errors import ValidationError
from cfm_core.web.body import parse
from tests.unit.web.test_body import LARGE, Whole

parse(b"{}", Whole)
with contextlib.suppress(ValidationError):
    parse(LARGE[sys.argv[1]], Whole)
# Unlike the process's own account, this one begins anew with the program.
(most,) = [line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
print(int(most) // 1024)
"""


@pytest.mark.parametrize("name", LARGE)
def test_no_body_takes_much_more_memory_than_its_length(name: str) -> None:
    # In a process of its own: what another has ever had would hide it.
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, name], capture_output=True, text=True, check=True, env=ENVIRON
    )
    assert int(done.stdout) < 200  # MiB, some fifty of them before
