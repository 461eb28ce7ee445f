"""What reads input from outside takes time in proportion to it: every regular expression, and every reader as a whole.

Hostile inputs are derived from the expressions: for each part that may be repeated, what comes before it, the part very
often, and something that fits nowhere. The processor's time for eight times as much is compared, not any time with a limit: in
proportion it is eight times as long, with the square sixty-four times.
"""

from __future__ import annotations

import ast
import importlib
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from re import _constants as kinds  # how an expression is made up is told nowhere else
from re import _parser as parser
from typing import Any

import flask
import pytest
from werkzeug.test import EnvironBuilder

import functions
from cfm_core.clients.destinations import Destinations
from cfm_core.declaration import HttpFunction, discover
from cfm_core.errors import CfmError
from cfm_core.eventing.cloudevents import from_request
from cfm_core.json_schema import problem_of
from cfm_core.provisioning import masking
from cfm_core.provisioning.schedules.cron import next_time
from cfm_core.query import parser as predicates
from cfm_core.query import patterns
from cfm_core.web import body, conditional, edge, paging, urls
from cfm_core.web.admission import Limits
from cfm_core.web.cors import Origins
from cfm_core.web.rates import Buckets
from tests.unit.web.test_body import Whole

ROOT = Path(__file__).resolve().parents[2]

TIMES = 8
MOST = 28.0
"""Between eight and sixty-four, nearer to eight on a scale of ratios: caches alone make three times of it at most."""
SHORT_SECONDS = 0.004
"""What takes no longer than this for the longer input is not measured exactly enough, and harms nobody."""

_UNBOUNDED = 256
_OPPOSITE = {"category_digit": "x", "category_space": "x", "category_word": "!"}
_SAMPLE = {
    "category_digit": "1",
    "category_space": " ",
    "category_word": "a",
    "category_not_digit": "x",
    "category_not_space": "x",
    "category_not_word": "!",
}
FITS_NOWHERE = ("\0", "!\n", "\ud800")


def seconds(work: Callable[[str], object], text: str) -> float:
    """The processor's time that ``work`` takes for ``text``, the least of three tries."""
    found = []
    for _ in range(3):
        begun = time.thread_time()
        with suppress(CfmError, ValueError):
            work(text)
        found.append(time.thread_time() - begun)
    return min(found)


def assert_proportional(work: Callable[[str], object], make: Callable[[int], str], count: int) -> None:
    long = seconds(work, make(TIMES * count))
    if long > SHORT_SECONDS:
        short = seconds(work, make(count))
        assert long < MOST * short, f"{short * 1000:.2f} ms become {long * 1000:.2f} ms, for {make(3)!r}..."


# Expressions


def samples(tree: Any) -> Iterator[str]:
    """A text that a parsed expression fits, piece by piece; of choices the first."""
    for kind, told in tree:
        if kind is kinds.LITERAL:
            yield chr(told)
        elif kind is kinds.NOT_LITERAL:
            yield "a" if told != ord("a") else "b"
        elif kind is kinds.ANY:
            yield "a"
        elif kind is kinds.IN:
            yield of_set(told)
        elif kind in {kinds.MAX_REPEAT, kinds.MIN_REPEAT, kinds.POSSESSIVE_REPEAT}:
            least, _, repeated = told
            yield "".join(samples(repeated)) * min(least, 64)
        elif kind is kinds.SUBPATTERN:
            yield from samples(told[3])
        elif kind is kinds.ATOMIC_GROUP:
            yield from samples(told)
        elif kind is kinds.BRANCH:
            yield from samples(told[1][0])


def of_set(told: Any) -> str:
    if told[0][0] is kinds.NEGATE:
        taken = {one for kind, one in told[1:] if kind is kinds.LITERAL}
        categories = [one for kind, one in told[1:] if kind is kinds.CATEGORY]
        if categories:
            return _OPPOSITE.get(str(categories[0]).lower(), "x")
        return next(letter for letter in "ab1 -" if ord(letter) not in taken)
    for kind, one in told:
        if kind is kinds.LITERAL:
            return chr(one)
        if kind is kinds.RANGE:
            return chr(one[0])
        if kind is kinds.CATEGORY:
            return _SAMPLE[str(one).lower()]
    return "a"


def attacks(tree: Any, before: str = "") -> Iterator[tuple[str, str]]:
    """What comes before each part that may be repeated without end, and the part."""
    for node in tree:
        kind, told = node
        if kind in {kinds.MAX_REPEAT, kinds.MIN_REPEAT, kinds.POSSESSIVE_REPEAT}:
            _, most, repeated = told
            if most is kinds.MAXREPEAT or most > _UNBOUNDED:
                yield before, "".join(samples(repeated)) or "a"
                for choice in choices(repeated):
                    yield before, choice
            yield from attacks(repeated, before)
        elif kind is kinds.SUBPATTERN:
            yield from attacks(told[3], before)
        elif kind is kinds.ATOMIC_GROUP:
            yield from attacks(told, before)
        elif kind is kinds.BRANCH:
            for choice in told[1]:
                yield from attacks(choice, before)
        elif kind in {kinds.ASSERT, kinds.ASSERT_NOT}:
            yield from attacks(told[1], before)
        before += "".join(samples([node]))


def choices(tree: Any) -> Iterator[str]:
    for kind, told in tree:
        if kind is kinds.BRANCH:
            yield from ("".join(samples(choice)) for choice in told[1])
        elif kind is kinds.SUBPATTERN:
            yield from choices(told[3])


@cache
def expressions() -> dict[str, tuple[re.Pattern[str], bool]]:
    """Every expression over texts that a module of the product keeps, and whether it is looked for anywhere in a text."""
    found = {}
    for folder in ("cfm_core", "functions"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            source = path.read_text(encoding="utf-8")
            if "re.compile" not in source:
                continue
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            module = importlib.import_module(name)
            for key, value in vars(module).items():
                if isinstance(value, re.Pattern) and isinstance(value.pattern, str):
                    anywhere = re.search(rf"\b{key}\.(search|sub|subn|finditer|findall|split)\(", source)
                    found[f"{name}.{key}"] = (value, anywhere is not None)
    for terminal in predicates._language().terminals:
        found[f"grammar.{terminal.name}"] = (re.compile(terminal.pattern.to_regexp()), False)

    paths = [one for one in discover(functions) if isinstance(one, HttpFunction)]
    found["path"] = (max(paths, key=lambda one: one.path.count("{")).pattern, False)
    return found


MAKERS = {f"re.{name}" for name in ("compile", "match", "fullmatch", "search", "sub", "split", "findall", "finditer")}


def test_no_expression_is_made_where_it_is_not_seen_here() -> None:
    """What a function compiles, or gives to ``re.sub`` and its like, escapes ``expressions``: each is looked at by itself."""
    found = set()
    for folder in ("cfm_core", "functions"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
                used = {ast.unparse(node) for node in ast.walk(function) if isinstance(node, ast.Attribute)}
                if not used.isdisjoint(MAKERS):
                    found.add(f"{name}.{function.name}")
    assert found == {
        # Names of the project's own declarations.
        "cfm_core.eventing.permissions.render",
        "cfm_core.function.declare",
        "cfm_core.function.http_function",
        # Below.
        "cfm_core.provisioning.operations.model.check_place",
        "cfm_core.query.parser._found",
        "cfm_core.query.patterns.matcher",
        "cfm_core.web.idempotency.answer",
    }


@pytest.mark.parametrize("name", sorted(expressions()))
def test_no_expression_takes_more_than_its_share(name: str) -> None:
    pattern, anywhere = expressions()[name]
    tree = parser.parse(pattern.pattern, pattern.flags)
    tries: list[Callable[[str], object]] = [pattern.match, pattern.fullmatch]
    for before, part in dict.fromkeys(attacks(tree)):
        for end in FITS_NOWHERE:
            for work in tries:
                assert_proportional(work, lambda count, b=before, p=part, e=end: b + p * count + e, 4000)  # type: ignore[misc]
            if anywhere:
                for unit in (part, before + part, before, part + " "):
                    if unit:
                        assert_proportional(
                            lambda text: sum(1 for _ in pattern.finditer(text)),
                            lambda count, b=before, u=unit, e=end: b + u * count + e,  # type: ignore[misc]
                            1000,
                        )


@pytest.mark.parametrize(
    ("expression", "count"),
    [(r"a*a*b", 500), (r"\s*:\s*\s*x", 500), (r"(?:a|b)*[ab]*c", 500)],
)
def test_an_expression_that_takes_more_is_noticed(expression: str, count: int) -> None:
    found = list(attacks(parser.parse(expression)))
    with pytest.raises(AssertionError):
        for before, part in found:
            work = re.compile(expression).match
            assert_proportional(work, lambda count, b=before, p=part: b + p * count + "\0", count)  # type: ignore[misc]


# Readers


def with_header(name: str, work: Callable[[flask.Request], object]) -> Callable[[str], object]:
    """``work`` with a request that has a header."""

    def read(text: str) -> object:
        environ = EnvironBuilder(path="/").get_environ()
        return work(flask.Request(environ | {f"HTTP_{name.upper().replace('-', '_')}": text}))

    return read


def with_query(name: str, work: Callable[[flask.Request], object]) -> Callable[[str], object]:
    return lambda text: work(flask.Request(EnvironBuilder(path="/", query_string={name: text}).get_environ()))


LIMITS = Limits(Buckets("a", 0, 1), Buckets("b", 0, 1), proxies=1)
SCHEMA = {"type": "object", "additionalProperties": {"type": "string", "pattern": "^(a+)+$"}}

READERS: dict[str, Callable[[str], object]] = {
    "request id": with_header("X-Request-Id", edge.request_id_of),
    "if-match": with_header("If-Match", conditional.expected),
    "if-none-match": with_header("If-None-Match", lambda request: conditional.is_known(request, 1)),
    "host": with_header("Host", lambda request: urls.absolute(request, "/")),
    "forwarded host": with_header("X-Forwarded-Host", lambda request: urls.absolute(request, "/")),
    "forwarded prefix": with_header("X-Forwarded-Prefix", lambda request: urls.local(request, "/")),
    "forwarded for": with_header("X-Forwarded-For", LIMITS.address_of),
    "origin": with_header("Origin", lambda request: Origins(frozenset({"x"})).preflight(request, [])),
    "prefer": with_header("Prefer", paging.asked_by_url),
    "offset": with_query("offset", paging.asked_by_url),
    "body": lambda text: body.parse(text.encode("utf-8", "surrogatepass"), Whole),
    "event": lambda text: from_request({"Content-Type": "application/cloudevents-batch+json"}, text.encode("utf-8", "replace")),
    "predicate": predicates.parse,
    "path of a predicate": predicates.parse_path,
    "pattern of LIKE": patterns.like,
    "text that is masked": masking.masked_text,
    "key": masking.is_secret,
    "cron": lambda text: next_time(text, "UTC", datetime(2026, 1, 1, tzinfo=UTC)),
    "address": Destinations().check,
    "did": lambda text: Destinations().check_did("did:web:" + text),
    "document": lambda text: problem_of(SCHEMA, {"x": text}),
}  # fmt: skip
UNITS = (
    *(
        "a",
        "1",
        " ",
        "\t",
        "\n",
        "\\",
        '"',
        "'",
        "`",
        "''",
        "``",
        "(",
        ")",
        "[",
        "{",
        "[[",
        '{"a":',
        "%",
        "_",
        ".",
        ",",
        ";",
        ":",
    ),
    *(
        "/",
        "//",
        "/a",
        "@",
        "-",
        "é",
        "ａ",
        "\0",
        "\ud800",
        '""',
        '"a",',
        'W/"',
        '"a":1,',
        "a=1 and ",
        "not ",
        "(a",
        "* ",
        "1-2,",
    ),
    *(
        "password=",
        "password: ",
        'password":"',
        "token",
        "Bearer ",
        "-----BEGIN PRIVATE KEY-----",
        "aA",
        "(a+)+",
        "a?",
        "a|",
        "1,",
    ),
)


@pytest.mark.parametrize("name", READERS)
def test_no_reader_takes_more_than_its_share(name: str) -> None:
    for unit in UNITS:
        for begin, end in (
            ("", ""),
            ("", "\0"),
            ('{"x": [', "]}"),
            ("a = '", ""),
            ("password: '", ""),
            ("token: ", " x"),
        ):
            assert_proportional(READERS[name], lambda count, u=unit, b=begin, e=end: b + u * count + e, 300)  # type: ignore[misc]


def test_a_pattern_of_like_takes_no_longer_than_pattern_and_text_multiplied() -> None:
    for piece in ("%a", "%_", "a%", "%aa", "_%"):
        # The pattern stays, the text grows.
        matches = patterns.matcher(patterns.like(piece * 50 + "b"))
        for unit in ("a", "aa", "ab", "b"):
            assert_proportional(matches, lambda count, u=unit: u * count + "\0", 1000)  # type: ignore[misc]


def test_the_longest_things_that_are_read_have_a_limit() -> None:
    assert predicates.LONGEST <= 4096
    assert body.LIMIT <= 1024 * 1024
    assert sys.get_int_max_str_digits() <= 4300
