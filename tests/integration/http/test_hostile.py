"""Requests that nobody should send: each is refused in plain words, and nothing is stored."""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest

from cfm_core.declaration import HttpFunction
from cfm_core.store.database import Database
from tests.integration.http.api import FUNCTIONS, Answer, Fabric, contents

WRITING = [one for one in FUNCTIONS if one.method in {"POST", "PUT", "PATCH"}]
READING_BODIES = [one for one in WRITING if one.body is not None or one.lists is not None]
LISTING = [one for one in FUNCTIONS if one.lists is not None]

REFUSED = {
    "nothing but space": b" ",
    "half": b'{"properties": {',
    "array": b"[]",
    "text": b'"x"',
    "number": b"5",
    "two": b"{} {}",
    "not UTF-8": b'{"a": "\xff"}',
    "half a character": b'{"a": "\xed\xa0\x80"}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "byte order mark": b"\xef\xbb\xbf{}",
    "NUL": b'{"a": "\\u0000"}',
    "raw NUL": b'{"a": "\0"}',
    "NUL in a name": b'{"\\u0000": 1}',
    "lone surrogate": b'{"a": "\\ud800"}',
    "lone surrogate in a name": b'{"a": {"\\udc00": 1}}',
    "NaN": b'{"a": NaN}',
    "infinity": b'{"a": -Infinity}',
    "too large a number": b'{"a": 1e999}',
    "too many digits": b'{"a": ' + b"9" * 5000 + b"}",
    "too deep": b'{"a": ' * 40 + b"1" + b"}" * 40,
    "far too deep": b"[" * 500_000,
    "far too deep objects": b'{"a":' * 150_000,
    "comment": b"{} // x",
    "single quotes": b"{'a': 1}",
    "trailing comma": b'{"a": 1,}',
}
"""Bodies that no route takes. A route that takes none does not look at them."""

FIELDS = ("properties", "predicate", "state", "identifier", "id", "type", "activities", "removed", "dataspaceSpec")
VALUES = (
    b"[]",
    b"{}",
    b'""',
    b"-1",
    b"1e400",
    b"true",
    b"null",
    b'"' + b"x" * 100_000 + b'"',
    b"9" * 4000,
    b"[[[[{}]]]]",
)

LEAKS = re.compile(
    r"pydantic|pg8000|werkzeug|flask|Traceback|SQLSTATE|SELECT |INSERT |UPDATE |relation \"|column \"|json\.|site-packages"
)


def check(answer: Answer, *statuses: int) -> None:
    """The answer is a problem of the caller's, told briefly and without what goes on inside."""
    assert answer.status in statuses or (not statuses and 400 <= answer.status < 500), answer
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json["code"] == answer.status
    assert len(answer.text) < 6000
    assert not LEAKS.search(answer.text), answer.text


@pytest.mark.parametrize("function", READING_BODIES, ids=lambda function: function.name)
def test_a_body_that_is_none_is_refused_and_changes_nothing(
    shared_fabric: Fabric, shared_database: Database, function: HttpFunction
) -> None:
    path = "/" + shared_fabric.fill(function.path)
    before = contents(shared_database)
    for name, raw in REFUSED.items():
        answer = shared_fabric.api.request(function.method, path, raw)
        assert answer.status == 400, (name, answer)
        check(answer)
    check(shared_fabric.api.request(function.method, path, b'{"a": "' + b"x" * 1024 * 1024 + b'"}'), 413)
    assert contents(shared_database) == before


@pytest.mark.parametrize("function", WRITING, ids=lambda function: function.name)
def test_no_value_of_a_field_is_too_much(shared_fabric: Fabric, function: HttpFunction) -> None:
    for field in FIELDS:
        for value in VALUES:
            raw = b'{"' + field.encode() + b'": ' + value + b"}"
            answer = shared_fabric.api.request(function.method, "/" + shared_fabric.fill(function.path), raw)
            assert answer.status < 500, (raw[:100], answer)
            if answer.status >= 400:
                check(answer)


@pytest.mark.parametrize("function", WRITING, ids=lambda function: function.name)
def test_very_many_mistakes_are_answered_briefly(shared_fabric: Fabric, function: HttpFunction) -> None:
    many = [
        b'{"removed": [' + b"1," * 300_000 + b"1]}",
        b"{" + b",".join(b'"k%d": 1' % number for number in range(80_000)) + b"}",
        b'{"' + b"k" * 1_000_000 + b'": 1}',
        b'{"participantRoles": {"' + b"k" * 1_000_000 + b'": 1}}',
        b'{"activities": {"' + b"k" * 1_000_000 + b'": [{"' + b"z" * 1000 + b'": 1}]}}',
    ]
    for raw in many:
        answer = shared_fabric.api.request(function.method, "/" + shared_fabric.fill(function.path), raw)
        assert answer.status < 500, answer
        assert len(answer.headers.get("Warning", "")) < 5000
        if answer.status >= 400:
            check(answer)


@pytest.mark.parametrize("function", LISTING, ids=lambda function: function.name)
def test_no_page_is_too_far_away(shared_fabric: Fabric, function: HttpFunction) -> None:
    path = "/" + shared_fabric.fill(function.path)
    for name in ("offset", "limit"):
        for value in (
            "-1",
            "x",
            "1.0",
            "0x1",
            "1_0",
            " 1",
            "٣",
            "9" * 19,
            "9" * 5000,
            "-" + "9" * 30,
            "1e3",
            "%00",
            "²",
        ):
            if function.method == "GET":
                check(shared_fabric.api.get(f"{path}?{name}={value}"), 400)
        for number in (-1, 2**63, -(2**63), 10**400, 1.5, "1", True, [1]):
            if function.method == "POST":
                check(shared_fabric.api.post(path, {"predicate": "true", name: number}), 400)
    last = 2**63 - 1
    if function.method == "GET":
        answers = [shared_fabric.api.get(f"{path}?offset={last}&limit={last}")]
    else:
        answers = [shared_fabric.api.post(path, {"predicate": "true", "offset": last, "limit": last})]
    for answer in answers:
        assert (answer.status, answer.text) == (200, "[]")


@pytest.mark.parametrize("function", LISTING, ids=lambda function: function.name)
def test_no_key_of_a_page_and_no_predicate_breaks_a_list(shared_fabric: Fabric, function: HttpFunction) -> None:
    path = "/" + shared_fabric.fill(function.path)
    for text in (
        "\0",
        "\ud800",
        "x" * 100_000,
        "'",
        '"',
        "é",
        "\n",
        "1",
        "00000000-0000-4000-8000-00000000000g",
        "(" * 5000,
    ):
        sent = text.encode("utf-8", "replace").decode()
        for name, other in (("after", {"predicate": "true"}), ("predicate", {})):
            if function.method == "POST":
                answer = shared_fabric.api.post(path, other | {name: text})
            else:
                parameter = "q" if name == "predicate" else name
                answer = shared_fabric.api.get(f"{path}?{parameter}={quote(sent)}")
            assert answer.status < 500, (name, text[:50], answer)
            if answer.status >= 400:
                check(answer, 400)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.name)
def test_headers_may_hold_anything(shared_fabric: Fabric, function: HttpFunction) -> None:
    path = "/" + shared_fabric.fill(function.path)
    for value in ("", '"', "W/", "\x7f", "é", ",,,,", "*, *", '"' * 2000, "a=b;c=d", "9" * 5000, "x" * 8000):
        headers = dict.fromkeys(
            ("If_Match", "If_None_Match", "Prefer", "Accept", "Content_Type", "X_Request_Id", "traceparent"), value
        ) | dict.fromkeys(("X_Forwarded_Host", "X_Forwarded_Proto", "X_Forwarded_Prefix", "Host"), value)
        if function.method == "POST":
            headers["Idempotency_Key"] = value
        answer = shared_fabric.api.request(function.method, path, b"{", **headers)
        assert answer.status < 500, (value[:20], answer)
