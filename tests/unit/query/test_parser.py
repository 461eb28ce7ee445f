from __future__ import annotations

import pytest

from cfm_core.errors import ValidationError
from cfm_core.query import All, Equals, Everything, Predicate, parse


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("true", Everything()),
        (" TRUE ", Everything()),
        ("id = 'x'", Equals(("id",), "x")),
        ("properties.a.b=5", Equals(("properties", "a", "b"), 5)),
        ("properties . a = -1.50", Equals(("properties", "a"), -1.5)),
        ("error = False", Equals(("error",), False)),
        ("a = 'it''s'", Equals(("a",), "it's")),
        ("a = ''", Equals(("a",), "")),
        ("properties.`cfm.vpa.state`.`x y` = true", Equals(("properties", "cfm.vpa.state", "x y"), True)),
        ("a = 1 AND b = 'x' and c = true", All((Equals(("a",), 1), Equals(("b",), "x"), Equals(("c",), True)))),
        ("a = 'x'AND b = 1", All((Equals(("a",), "x"), Equals(("b",), 1)))),
    ],
)
def test_a_predicate_becomes_a_tree(text: str, expected: Predicate) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    ("text", "position", "detail"),
    [
        ("", 1, "expected a field, found the end"),
        ("false", 1, "expected a field, found 'FALSE'"),
        ("true AND a = 1", 6, "expected AND or the end, found 'AND'"),
        ("a", 2, "expected '=', found the end"),
        ("a =", 4, "expected a value: a 'string', a number, true or false, found the end"),
        ("a = b", 5, "expected a value: a 'string', a number, true or false, found 'b'"),
        ("a = 1 b = 2", 7, "expected AND or the end, found 'b'"),
        ("a = 'x", 5, 'unexpected "\'"'),
        ("a = 'x' #", 9, "unexpected '#'"),
        ("a = 1e5", 5, "unexpected '1'"),
        ("a = +5", 5, "unexpected '+'"),
        ("a..b = 1", 3, "expected a field, found '.'"),
        ("a = 'x\0'", 7, "a predicate holds no NUL character"),
        (f"a = {'9' * 400}.5", 5, "the number is too large"),
        (" AND ".join(["a = 1"] * 65), 641, "a predicate has at most 64 terms"),
        ("a = '" + "x" * 4096 + "'", 4097, "a predicate has at most 4096 characters"),
    ],
)
def test_what_is_no_predicate_is_refused_with_its_place(text: str, position: int, detail: str) -> None:
    with pytest.raises(ValidationError) as caught:
        parse(text)
    assert str(caught.value) == f"Client error: parse error: position {position}: {detail}"
