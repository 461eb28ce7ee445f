from __future__ import annotations

import subprocess
import sys

import pytest

from cfm_core.errors import ValidationError
from cfm_core.query import Everything, Predicate, parse
from cfm_core.query.patterns import Pattern
from cfm_core.query.tree import And, Contains, Like, NoneOf, Not, NotLike, OneOf, Or, Order, Ordered, Path, Present

A, B, C = (OneOf(Path(name), (value,)) for name, value in (("a", 1), ("b", 2), ("c", 3)))
FIELD = Path("a")
NEVER = OneOf(FIELD, ())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("true", Everything()),
        (" TRUE ", Everything()),
        ("True", Everything()),
        ("false", Not(Everything())),
        ("a = 1", A),
        ("(a = 1)", A),
        ("a = 1 OR b = 2 AND c = 3", Or((A, And((B, C))))),
        ("a = 1 AND b = 2 OR c = 3", Or((And((A, B)), C))),
        ("(a = 1 OR b = 2) AND c = 3", And((Or((A, B)), C))),
        ("a = 1 AND (b = 2 OR c = 3)", And((A, Or((B, C))))),
        ("((a = 1 AND b = 2))", And((A, B))),
        ("a = 1 and b = 2 And c = 3", And((A, B, C))),
        ("NOT a = 1 AND b = 2", And((Not(A), B))),
        ("not (a = 1 or b = 2)", Not(Or((A, B)))),
        ("NOT NOT a = 1", Not(Not(A))),
        ("true AND a = 1", And((Everything(), A))),
    ],
)
def test_not_binds_closest_then_and_then_or(text: str, expected: Predicate) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a = 'x'", OneOf(FIELD, ("x",))),
        ("a != 'x'", NoneOf(FIELD, ("x",))),
        ("a IN ('x', 5, true)", OneOf(FIELD, ("x", 5, True))),
        ("a not in('x')", NoneOf(FIELD, ("x",))),
        ("a < 5", Ordered(FIELD, Order.LESS, 5)),
        ("a<=5", Ordered(FIELD, Order.AT_MOST, 5)),
        ("a > 'x'", Ordered(FIELD, Order.MORE, "x")),
        ("a >= -1.5", Ordered(FIELD, Order.AT_LEAST, -1.5)),
        ("a LIKE 'x%_'", Like(FIELD, Pattern("x%_"))),
        ("a NOT LIKE 'x%'", NotLike(FIELD, Pattern("x%"))),
        ("a STARTS_WITH 'x%'", Like(FIELD, Pattern("x\\%%"))),
        ("a ends_with 'x_'", Like(FIELD, Pattern("%x\\_"))),
        ("a CONTAINS 'x'", Contains(FIELD, "x")),
        ("a CONTAINS 5", Contains(FIELD, 5)),
        ("a IS NOT NULL", Present(FIELD)),
        ("a is null", Not(Present(FIELD))),
    ],
)
def test_an_operator_becomes_what_it_asks_of_a_candidate(text: str, expected: Predicate) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a = NULL", NEVER),
        ("a != NULL", NEVER),
        ("a < NULL", NEVER),
        ("a < true", NEVER),
        ("a IN (NULL)", NEVER),
        ("a IN (NULL, 1)", A),
        ("a NOT IN (1, NULL)", NEVER),
        ("a LIKE 5", NEVER),
        ("a NOT LIKE 5", NoneOf(FIELD, ())),
        ("a NOT LIKE NULL", NEVER),
        ("a STARTS_WITH 5", NEVER),
        ("a ENDS_WITH true", NEVER),
        ("a CONTAINS NULL", NEVER),
    ],
)
def test_what_can_never_hold_is_known_at_once(text: str, expected: Predicate) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("properties . a", Path("properties", ("a",))),
        ("properties.in.NOT.like.true.or", Path("properties", ("in", "NOT", "like", "true", "or"))),
        ("properties.`cfm.vpa.state`.`x y`", Path("properties", ("cfm.vpa.state", "x y"))),
        ("properties.`a``b`.```` . ``", Path("properties", ("a`b", "`", ""))),
        ("`in`.x", Path("in", ("x",))),
        ("order.and_x", Path("order", ("and_x",))),
        ("properties.\n`\n`", Path("properties", ("\n",))),
    ],
)
def test_a_path_reaches_any_key(text: str, expected: Path) -> None:
    assert parse(f"{text} = 1") == OneOf(expected, (1,))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("'it''s'", "it's"),
        ("''", ""),
        ("''''", "'"),
        ("'a\\b'", "a\\b"),
        ("'two\nlines'", "two\nlines"),
        ("'😀'", "😀"),
        ("5", 5),
        ("-0.50", -0.5),
        ("1e3", 1000.0),
        ("2E-1", 0.2),
        ("9223372036854775808", 2**63),
        ("tRue", True),
        ("FALSE", False),
    ],
)
def test_a_value_is_read_with_its_type(text: str, expected: object) -> None:
    predicate = parse(f"a = {text}")
    assert isinstance(predicate, OneOf)
    (value,) = predicate.values
    assert (value, type(value)) == (expected, type(expected))


def test_a_term_knows_its_place() -> None:
    predicate = parse("a = 1 OR\n b.c = 2")
    assert isinstance(predicate, Or)
    assert [term.path.position for term in predicate.terms if isinstance(term, OneOf)] == [1, 11]


FIELD_OR = "a field, true, false, NOT or '('"
OPERATOR = "'.' or an operator (= != < <= > >= [NOT] IN, [NOT] LIKE, STARTS_WITH, ENDS_WITH, CONTAINS, IS [NOT] NULL)"
VALUE = "a value: a 'string', a number, true, false or null"


@pytest.mark.parametrize(
    ("text", "position", "detail"),
    [
        ("", 1, f"expected {FIELD_OR}, found the end"),
        ("  ", 3, f"expected {FIELD_OR}, found the end"),
        ("a", 2, f"expected {OPERATOR}, found the end"),
        ("a =", 4, f"expected {VALUE}, found the end"),
        ("a = b", 5, f"expected {VALUE}, found 'b'"),
        ("a = 1 b = 2", 7, "expected AND, OR or the end, found 'b'"),
        ("a = 1 AND AND b = 1", 11, f"expected {FIELD_OR}, found 'AND'"),
        ("a = 1 AND", 10, f"expected {FIELD_OR}, found the end"),
        ("(a = 1", 7, "expected AND, OR or ')', found the end"),
        ("a = 1)", 6, "expected AND, OR or the end, found ')'"),
        ("a NOT = 1", 7, "expected IN or LIKE, found '='"),
        ("a IS 1", 6, "expected NOT or NULL, found '1'"),
        ("a IN ()", 7, f"expected {VALUE}, found ')'"),
        ("a IN (1 2)", 9, "expected ',' or ')', found '2'"),
        ("a = 'x", 5, f"expected {VALUE}, found a ' that is not closed"),
        ("`a = 1", 1, f"expected {FIELD_OR}, found a ` that is not closed"),
        ("a = `b`", 5, f"expected {VALUE}, found `b`"),
        ("a = 'x' #", 9, "expected AND, OR or the end, found '#'"),
        ('a = "x"', 5, f"expected {VALUE}, found '\"'"),
        ("a = +5", 5, f"expected {VALUE}, found '+'"),
        ("a = 5.", 5, f"expected {VALUE}, found '5'"),
        ("a = .5", 5, f"expected {VALUE}, found '.'"),
        ("a == 5", 4, f"expected {VALUE}, found '='"),
        ("a..b = 1", 3, "expected a key, found '.'"),
        ("in = 1", 1, f"expected {FIELD_OR}, found 'in'"),
        ("a = " + "x" * 100, 5, f"expected {VALUE}, found '{'x' * 40}'"),
        ("a = 'x\0'", 7, "a predicate holds no NUL character and no half of a surrogate pair"),
        ("a = '\ud83d'", 6, "a predicate holds no NUL character and no half of a surrogate pair"),
        ("a = 1e999", 5, "the number is too large"),
        (f"a = 1 AND a = {'9' * 400}.5", 15, "the number is too large"),
        (" AND ".join(["a = 1"] * 65), 1, "a predicate has at most 64 terms, this one has 65"),
        ("NOT " * 32 + "a = 1", 1, "AND, OR and NOT can be nested 32 levels deep, here they are 33"),
        ("NOT " * 1000 + "a = 1", 1, "AND, OR and NOT can be nested 32 levels deep, here they are 1001"),
        ("(" * 4096, 4097, f"expected {FIELD_OR}, found the end"),
        ("a = '" + "x" * 4096 + "'", 4097, "a predicate has at most 4096 characters"),
    ],
)
def test_what_is_no_predicate_is_refused_with_its_place(text: str, position: int, detail: str) -> None:
    with pytest.raises(ValidationError) as caught:
        parse(text)
    assert str(caught.value) == f"Client error: parse error: position {position}: {detail}"
    assert [(error.pointer, error.detail) for error in caught.value.errors] == [("/predicate", detail)]


@pytest.mark.parametrize(
    "text",
    [
        " AND ".join(["a = 1"] * 64),
        "NOT " * 31 + "a = 1",
        "(" * 2000 + "a = 1" + ")" * 2000,
        "a IN (" + ",".join(["1"] * 2000) + ")",
        "a" + ".b" * 2000 + " = 1",
        f"a = {'9' * 4000}",
    ],
)
def test_what_keeps_to_the_limits_is_read(text: str) -> None:
    parse(text)


def test_the_parser_is_made_at_the_first_use() -> None:
    code = "import sys, cfm_core.query; assert 'lark' not in sys.modules; cfm_core.query.parse('true'); import lark"
    subprocess.run([sys.executable, "-c", code], check=True)
