from __future__ import annotations

import flask
import pytest
from werkzeug.test import EnvironBuilder

from cfm_core.errors import ValidationError
from cfm_core.query.page import JsonPage
from cfm_core.web.paging import MOST, Asked, Page, QueryRequest, asked_by_document, asked_by_url, headers

BASE = "http://localhost/api/v1alpha1/tenants"


def request(query: str = "", **sent: str) -> flask.Request:
    return flask.Request(
        EnvironBuilder(path="/api/v1alpha1/tenants", query_string=query, headers=sent.items()).get_environ()
    )


@pytest.mark.parametrize(
    ("query", "page"),
    [
        ("", Page(0, MOST)),
        ("offset=&limit=", Page(0, MOST)),
        ("limit=0", Page(0, MOST)),
        ("limit=5", Page(0, 5)),
        ("offset=3&limit=5", Page(3, 5)),
        ("offset=3&limit=5&after=x", Page(3, 5, "x")),
        (f"limit={MOST + 1}", Page(0, MOST)),
    ],
)
def test_a_page_is_read_from_the_url(query: str, page: Page) -> None:
    assert asked_by_url(request(query)) == Asked("true", page)


def test_a_predicate_is_read_from_the_url() -> None:
    assert asked_by_url(request("q=a+%3D+1&limit=2")) == Asked("a = 1", Page(0, 2))


@pytest.mark.parametrize("query", ["offset=x", "limit=1.0", "offset=-1", "limit=-5", "limit=0x10", f"offset={2**63}"])
def test_a_page_that_is_none_is_refused(query: str) -> None:
    with pytest.raises(ValidationError, match=r"^Invalid (offset|limit): "):
        asked_by_url(request(query))


def test_a_query_has_a_page_of_its_own() -> None:
    assert asked_by_document(request(), QueryRequest(predicate="true")) == Asked("true", Page(0, MOST))
    asked = QueryRequest(predicate="x = 1", offset=2, limit=3, after="k")
    assert asked_by_document(request(), asked) == Asked("x = 1", Page(2, 3, "k"))
    with pytest.raises(ValidationError, match="Invalid offset: -1 is negative"):
        asked_by_document(request(), QueryRequest(predicate="true", offset=-1))


@pytest.mark.parametrize(
    ("prefer", "counted"),
    [
        ("", True),
        ("count=none", False),
        ("respond-async, Count=none; x=1", False),
        ("count=exact", True),
        ("discount=none", True),
    ],
)
def test_a_caller_may_do_without_the_total(prefer: str, counted: bool) -> None:
    asked = asked_by_url(request(Prefer=prefer))
    assert asked.page.counted is counted
    told = headers(request(), asked, JsonPage(b"[]", 7 if counted else None, 0))
    assert told.get("X-Total-Count") == ("7" if counted else None)
    assert told.get("Preference-Applied") == (None if counted else "count=none")


@pytest.mark.parametrize(
    ("page", "total", "expected"),
    [
        (Page(0, 2), 0, {"self": 0, "first": 0, "last": 0}),
        (Page(0, 2), 2, {"self": 0, "first": 0, "last": 0}),
        (Page(0, 2), 3, {"self": 0, "next": 2, "first": 0, "last": 2}),
        (Page(2, 2), 5, {"self": 2, "next": 4, "prev": 0, "first": 0, "last": 4}),
        (Page(1, 2), 5, {"self": 1, "next": 3, "prev": 0, "first": 0, "last": 4}),
        (Page(9, 2), 5, {"self": 9, "prev": 7, "first": 0, "last": 4}),
    ],
)
def test_links_lead_to_the_other_pages(page: Page, total: int, expected: dict[str, int]) -> None:
    size = min(page.limit, max(0, total - page.offset))
    found = JsonPage(b"[]", total, size, "k", page.offset + size < total)
    told = headers(request("x=a%20b&offset=7"), Asked("true", page), found)
    assert told["X-Total-Count"] == str(total)
    assert told["Link"].split(", ") == [
        f'<{BASE}?x=a+b&offset={offset}&limit={page.limit}{"&after=k" if relation == "next" else ""}>; rel="{relation}"'
        for relation, offset in expected.items()
    ]


def test_links_of_a_query_are_those_of_the_collection() -> None:
    posted = flask.Request(EnvironBuilder(path="/api/v1alpha1/tenants/query", method="POST").get_environ())
    told = headers(posted, Asked("a = 'b&c'", Page(0, 2)), JsonPage(b"[]", 0, 0))
    assert told["Link"].startswith(f"<{BASE}?q=a+%3D+%27b%26c%27&offset=0&limit=2>; ")


def test_links_lead_back_through_proxies() -> None:
    sent = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "cfm.example", "X-Forwarded-Prefix": "/fabric/"}
    told = headers(request(**sent), Asked("true", Page(0, 2)), JsonPage(b"[]", 0, 0))
    assert told["Link"].startswith("<https://cfm.example/fabric/api/v1alpha1/tenants?")
    odd = {"X-Forwarded-Proto": "x", "X-Forwarded-Host": "a b>", "X-Forwarded-Prefix": '/a"b'}
    assert headers(request(**odd), Asked("true", Page(0, 2)), JsonPage(b"[]", 0, 0))["Link"].startswith(f"<{BASE}?")


def test_a_long_predicate_is_not_repeated_in_links() -> None:
    assert "Link" not in headers(request(), Asked("x" * 1025, Page(0, 2)), JsonPage(b"[]", 0, 0))
