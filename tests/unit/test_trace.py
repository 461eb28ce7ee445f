from __future__ import annotations

import threading

import pytest

from cfm_core import trace

PARENT = f"00-{'a' * 32}-{'b' * 16}-01"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ({}, {}),
        ({"traceparent": PARENT}, {"traceparent": PARENT}),
        ({"traceparent": PARENT, "tracestate": "v=1", "id": "e"}, {"traceparent": PARENT, "tracestate": "v=1"}),
        ({"traceparent": PARENT, "tracestate": "v=1\r\nx: y"}, {"traceparent": PARENT}),
        ({"traceparent": "00-zz-1-01", "tracestate": "v=1"}, {}),
        ({"traceparent": f"{PARENT}\r\nx: y"}, {}),
        ({"traceparent": 5}, {}),
        ({"traceparent": PARENT.upper()}, {}),
        ({"traceparent": f"ff{PARENT[2:]}"}, {}),
        ({"traceparent": f"00-{'0' * 32}-{'b' * 16}-01"}, {}),
        ({"traceparent": f"00-{'a' * 32}-{'0' * 16}-01"}, {}),
        ({"traceparent": f"{PARENT}-more"}, {}),
        ({"traceparent": PARENT, "tracestate": "v" * 513}, {"traceparent": PARENT}),
        ({"traceparent": PARENT, "baggage": "a=1;p,b=%20"}, {"traceparent": PARENT, "baggage": "a=1;p,b=%20"}),
        ({"traceparent": PARENT, "baggage": "b" * 8192}, {"traceparent": PARENT, "baggage": "b" * 8192}),
        ({"traceparent": PARENT, "baggage": "b" * 8193}, {"traceparent": PARENT}),
        ({"traceparent": PARENT, "baggage": "a=é"}, {"traceparent": PARENT}),
        ({"traceparent": PARENT, "baggage": "a=1\r\nx: y"}, {"traceparent": PARENT}),
        *[
            ({"traceparent": PARENT, "baggage": it}, {"traceparent": PARENT})
            for it in ("", " ", " a=1", "a=1 ", "a=1\n")
        ],
        *[({"traceparent": PARENT, "tracestate": it}, {"traceparent": PARENT}) for it in ("", " ", " v=1", "v=1 ")],
        ({"traceparent": PARENT, "baggage": "a=1, b=2"}, {"traceparent": PARENT, "baggage": "a=1, b=2"}),
        ({"baggage": "a=1", "tracestate": "v=1"}, {}),
    ],
)
def test_a_context_is_taken_where_it_holds(source: dict[str, object], found: dict[str, str]) -> None:
    assert dict(trace.of(source)) == found


def test_a_context_counts_in_its_block_and_its_thread() -> None:
    seen = []
    with trace.within({"traceparent": PARENT}):
        seen.append(dict(trace.headers()))
        thread = threading.Thread(target=lambda: seen.append(dict(trace.headers())))
        thread.start()
        thread.join()
    assert [*seen, dict(trace.headers())] == [{"traceparent": PARENT}, {}, {}]


@pytest.mark.parametrize(
    ("contexts", "found"),
    [
        ([], {}),
        ([{}], {}),
        ([{"traceparent": PARENT}], {"traceparent": PARENT}),
        ([{"traceparent": PARENT}, {"traceparent": PARENT}], {"traceparent": PARENT}),
        ([{"traceparent": PARENT}, {}], {}),
        ([{}, {"traceparent": PARENT}], {}),
        ([{"traceparent": PARENT}, {"traceparent": PARENT, "baggage": "a=1"}], {}),
    ],
)
def test_several_contexts_are_one_where_they_are_equal(contexts: list[dict[str, str]], found: dict[str, str]) -> None:
    assert dict(trace.common(contexts)) == found
