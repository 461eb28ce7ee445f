from __future__ import annotations

import flask
import pytest
from werkzeug.test import EnvironBuilder

from cfm_core.web.urls import absolute, local, path_of


def request(path: str = "/things", **sent: str) -> flask.Request:
    environ = EnvironBuilder(path=path).get_environ()
    return flask.Request({**environ, **sent})


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("", "/things"),
        ("/a", "/a/things"),
        ("/a/b/, /inner", "/a/b/things"),
        ("/", "/things"),
        ("//evil", "/things"),
        ("a", "/things"),
        ('/a"b', "/things"),
        ("/a b", "/things"),
        ("/a\r\nX: y", "/things"),
        ("https://x", "/things"),
    ],
)
def test_a_path_has_the_prefix_that_a_proxy_took_off(prefix: str, expected: str) -> None:
    assert local(request(HTTP_X_FORWARDED_PREFIX=prefix), "/things") == expected


@pytest.mark.parametrize(
    ("host", "forwarded", "expected"),
    [
        ("h:81", "", "http://h:81/things"),
        ("h", "out.example:8443, in", "http://out.example:8443/things"),
        ("h", "[::1]:80", "http://[::1]:80/things"),
        ("h", "javascript:", "http://h/things"),
        ("h", "a/b", "http://h/things"),
        ("h", "a\nb", "http://h/things"),
        ('h">', "", "/things"),
    ],
)
def test_an_address_has_a_host_that_can_be_one(host: str, forwarded: str, expected: str) -> None:
    assert absolute(request(HTTP_HOST=host, HTTP_X_FORWARDED_HOST=forwarded), "/things") == expected


def test_an_address_has_the_scheme_that_was_asked_for() -> None:
    assert absolute(request(HTTP_HOST="h", HTTP_X_FORWARDED_PROTO="https"), "/").startswith("https://h/")
    assert absolute(request(HTTP_HOST="h", HTTP_X_FORWARDED_PROTO="gopher"), "/").startswith("http://h/")


def test_what_no_url_may_hold_is_encoded_once() -> None:
    assert local(request(), '/a b/"<\r\n>/é/%2F') == "/a%20b/%22%3C%0D%0A%3E/%C3%A9/%2F"
    assert path_of(request("/a%20b/%25/%0A")) == "/a%20b/%25/%0A"
