"""What of two runs counts as the same."""

from __future__ import annotations

import json
from typing import Any

import pytest

from local.agent.effects import MADE_BY_SERVICE, Origin, differences, of_requests, without_counts, without_remains
from local.agent.wire import Call

OURS = "11111111-1111-4111-8111-111111111111"
THEIRS = "22222222-2222-4222-8222-222222222222"


def call(
    method: str,
    path: str,
    body: Any = None,
    *,
    status: int = 200,
    answer: Any = None,
    location: str = "",
    key: str = "",
) -> Call:
    content = (b"" if one is None else json.dumps(one).encode() for one in (body, answer))
    return Call("s", method, path, "", key, next(content), status, next(content), location)


def test_an_id_counts_whose_maker_is_the_agent() -> None:
    origin = Origin([call("PUT", f"/things/{OURS}", answer={"id": THEIRS}), call("DELETE", f"/parts/{THEIRS}")])
    held = {"of": {OURS: [THEIRS, f"urn:{OURS}", "2026-01-01T00:00:00Z", 1_790_000_000_000, 5]}}
    assert origin.blurred(held) == {"of": {OURS: [MADE_BY_SERVICE, f"urn:{OURS}", MADE_BY_SERVICE, MADE_BY_SERVICE, 5]}}


def test_an_id_of_any_form_that_a_service_has_given_is_no_difference_where_it_is_recorded() -> None:
    origin = Origin(
        [
            call("POST", "/v7/things", {"name": "n 7"}, answer={"id": 7}),
            call("PUT", "/parts/p", location="http://h/parts/p"),
        ]
    )
    assert origin.recorded({"thing": "7", "number": 7, "part": "p", "name": "n"}) == {
        "thing": MADE_BY_SERVICE,
        "number": MADE_BY_SERVICE,
        "part": "p",
        "name": "n",
    }


def test_what_a_service_keeps_by_its_own_ids_is_compared_without_them() -> None:
    blurred = Origin([]).blurred({THEIRS: {"n": 2}, OURS: {"n": 1}})
    assert blurred == [{"n": 1}, {"n": 2}]


def test_the_order_of_objects_does_not_count_and_that_of_words_does() -> None:
    origin = Origin([])
    assert origin.blurred([{"a": 2}, {"a": 1}]) == origin.blurred([{"a": 1}, {"a": 2}])
    assert origin.blurred(["b", "a"]) == ["b", "a"]


def test_what_stays_of_something_that_was_undone_does_not_count() -> None:
    state = {
        "controlplane": {"configs": {"a": {"entries": {}, "privateEntries": {}}, "b": {"entries": {"k": "v"}}}},
        "issuerservice": {"credentials": [{"status": "revoked"}, {"status": "issued"}], "issuanceProcesses": [{}]},
    }
    assert without_remains(state) == {
        "controlplane": {"configs": {"b": {"entries": {"k": "v"}}}},
        "issuerservice": {"credentials": [{"status": "issued"}]},
    }


def test_how_often_a_secret_was_written_does_not_count() -> None:
    state = {"vault": [{"path": "a", "versions": 2}], "other": {"versions": {"1": {}}}}
    assert without_counts(state) == {"vault": [{"path": "a"}], "other": {"versions": {"1": {}}}}


@pytest.mark.parametrize(
    ("calls", "made"),
    [
        ([call("GET", "/a"), call("POST", "/a", 1, status=409), call("PUT", "/a", 1, status=500)], {}),
        ([call("PUT", "/a", 1), call("PUT", "/a", 2)], {"PUT /a": [2]}),
        ([call("PATCH", "/a", 1), call("PUT", "/a", 2)], {"PATCH /a": [1], "PUT /a": [2]}),
        ([call("POST", "/a", 1, status=201), call("POST", "/a", 1, status=201)], {"POST /a": [1, 1]}),
        ([call("POST", "/a", 1, key="k"), call("POST", "/a", 1, key="k")], {"POST /a": [1]}),
        ([call("POST", "/a", 1, key="k"), call("POST", "/a", 1, key="l")], {"POST /a": [1, 1]}),
        ([call("PUT", "/a/b", 1), call("PATCH", "/a/b/c", 1), call("DELETE", "/a/b", status=204)], {}),
        ([call("PUT", "/a/b", 1), call("DELETE", "/a/b", status=404)], {"PUT /a/b": [1]}),
        ([call("PUT", "/a/bc", 1), call("DELETE", "/a/b")], {"PUT /a/bc": [1]}),
        ([call("POST", "/a", 1, location="http://h/a/7"), call("DELETE", "/a/7")], {}),
        ([call("POST", "/a", {"id": "x"}), call("DELETE", "/a/x")], {}),
        ([call("POST", "/a", {}, answer={"id": 7}), call("DELETE", "/a/7")], {}),
        ([call("POST", "/a", {}, answer={"id": 7}), call("DELETE", "/b/7")], {"POST /a": [{}]}),
        ([call("DELETE", "/a"), call("PUT", "/a", 1)], {"PUT /a": [1]}),
    ],
)
def test_requests_tell_what_they_have_made(calls: list[Call], made: dict[str, list[Any]]) -> None:
    assert of_requests(calls) == made


@pytest.mark.parametrize(
    ("found", "expected", "told"),
    [
        ({"a": [1, {"b/c": 2}]}, {"a": [1, {"b/c": 2}]}, []),
        ({"a": [1, {"b/c": 2}]}, {"a": [1, {"b/c": 3}]}, [("/a/1/b~1c", "2 instead of 3")]),
        ({"a": 1}, {"b": 1}, [("/a", "not expected, and there is 1"), ("/b", "missing; expected 1")]),
        ({"a": [1, 1]}, {"a": [1]}, [("/a", "2 instead of 1: [1, 1] instead of [1]")]),
        ({"a": "1"}, {"a": 1}, [("/a", '"1" instead of 1')]),
    ],
)
def test_a_difference_is_told_with_its_place(found: Any, expected: Any, told: list[tuple[str, str]]) -> None:
    assert list(differences(found, expected)) == told
