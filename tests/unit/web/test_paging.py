from __future__ import annotations

import flask
import pytest
from werkzeug.test import EnvironBuilder

from cfm_core.errors import ValidationError
from cfm_core.web.paging import MOST, Page, QueryRequest, headers, page_of


def request(query: str) -> flask.Request:
    return flask.Request(EnvironBuilder(path="/api/v1alpha1/tenants", query_string=query).get_environ())


@pytest.mark.parametrize(
    ("query", "page"),
    [
        ("", Page(0, MOST)),
        ("offset=&limit=", Page(0, MOST)),
        ("limit=0", Page(0, MOST)),
        ("limit=5", Page(0, 5)),
        ("offset=3&limit=5", Page(3, 5)),
        (f"limit={MOST + 1}", Page(0, MOST)),
    ],
)
def test_a_page_is_read_from_the_url(query: str, page: Page) -> None:
    assert page_of(request(query)) == page


@pytest.mark.parametrize("query", ["offset=x", "limit=1.0", "offset=-1", "limit=-5", "limit=0x10", f"offset={2**63}"])
def test_a_page_that_is_none_is_refused(query: str) -> None:
    with pytest.raises(ValidationError, match=r"^Invalid (offset|limit): "):
        page_of(request(query))


def test_a_query_has_a_page_of_its_own() -> None:
    assert QueryRequest(predicate="true").page() == Page(0, MOST)
    assert QueryRequest(predicate="true", offset=2, limit=3).page() == Page(2, 3)
    with pytest.raises(ValidationError, match="Invalid offset: -1 is negative"):
        QueryRequest(predicate="true", offset=-1).page()


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
    found = headers(request("q=a%20b&offset=7"), page, total)
    base = "http://localhost/api/v1alpha1/tenants?q=a+b"
    assert found["X-Total-Count"] == str(total)
    assert found["Link"].split(", ") == [
        f'<{base}&offset={offset}&limit={page.limit}>; rel="{relation}"' for relation, offset in expected.items()
    ]
