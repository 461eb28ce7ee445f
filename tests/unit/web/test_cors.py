from __future__ import annotations

import flask
import pytest
from werkzeug.test import EnvironBuilder

from cfm_core.web.cors import Origins

CONSOLE = "https://console.example"


def request(method: str = "GET", **headers: str) -> flask.Request:
    sent = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return flask.Request(EnvironBuilder(path="/", method=method, headers=sent).get_environ())


def shown(origins: Origins, asked: flask.Request) -> dict[str, str]:
    response = flask.Response()
    origins.show(asked, response)
    return {name: value for name, value in response.headers.items() if name == "Vary" or name.startswith("Access")}


def test_nothing_is_said_where_no_origin_is_configured() -> None:
    assert shown(Origins.of(" "), request(Origin=CONSOLE)) == {}
    asked = request("OPTIONS", Origin=CONSOLE, Access_Control_Request_Method="GET")
    assert Origins.of("").preflight(asked, ["GET"]) is None


def test_a_page_of_a_configured_origin_may_read_an_answer() -> None:
    found = shown(Origins.of(f"http://localhost:3000, {CONSOLE}"), request(Origin=CONSOLE))
    assert (found["Access-Control-Allow-Origin"], found["Vary"]) == (CONSOLE, "Origin")
    assert "ETag" in found["Access-Control-Expose-Headers"]
    assert "Access-Control-Allow-Credentials" not in found


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "https://console.example.evil.example",
        "https://evilconsole.example",
        "http://console.example",
        "https://console.example:8443",
        "https://console.example/",
        "HTTPS://CONSOLE.EXAMPLE",
        "https://a@console.example",
        f"{CONSOLE}, {CONSOLE}",
        "",
        "*",
    ],
)
def test_nobody_elses_page_may(origin: str) -> None:
    origins = Origins.of(CONSOLE)
    # What is kept is kept for one origin alone.
    assert shown(origins, request(Origin=origin)) == {"Vary": "Origin"}
    asked = request("OPTIONS", Origin=origin, Access_Control_Request_Method="GET")
    assert origins.preflight(asked, ["GET"]) is None


def test_a_browser_is_told_what_a_page_may_send() -> None:
    asked = request("OPTIONS", Origin=CONSOLE, Access_Control_Request_Method="PUT")
    answer = Origins.of(CONSOLE).preflight(asked, ["GET", "PUT"])
    assert answer is not None
    assert (answer.status_code, answer.get_data()) == (204, b"")
    assert answer.headers["Access-Control-Allow-Methods"] == "GET, PUT"
    assert "Authorization" in answer.headers["Access-Control-Allow-Headers"].split(", ")


def test_options_alone_asks_nothing() -> None:
    assert Origins.of(CONSOLE).preflight(request("OPTIONS", Origin=CONSOLE), ["GET"]) is None
    asked = request("GET", Origin=CONSOLE, Access_Control_Request_Method="GET")
    assert Origins.of(CONSOLE).preflight(asked, ["GET"]) is None


@pytest.mark.parametrize(
    "text",
    [
        "*",
        "null",
        "https://*.example",
        "console.example",
        "https://console.example/",
        "https://Console.example",
        "https://console.example:443",
        "http://console.example:80",
        "https://console.example:x",
        "https://user@console.example",
        "file:///x",
        "https://",
        "https://é.example",
        "https://a b.example",
        f"{CONSOLE}, *",
    ],
)
def test_what_no_browser_writes_is_no_origin(text: str) -> None:
    with pytest.raises(ValueError):
        Origins.of(text)
