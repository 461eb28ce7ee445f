"""The Provision Manager's functions, called as functions-framework serves them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote

import functions_framework
from pydantic import TypeAdapter
from werkzeug.test import Client, TestResponse

import functions.orchestrator
import functions.provision_manager
from cfm_core.contracts.reply import EventDict, Reply
from cfm_core.declaration import EventFunction, HttpFunction, discover
from cfm_core.eventing.cloudevents import BATCH, event
from cfm_core.web.router import Router

ROUTER = Router([one for one in discover(functions.provision_manager) if isinstance(one, HttpFunction)])
EVENTS = {one.name: one for one in discover(functions.orchestrator) if isinstance(one, EventFunction)}
BASE = "/api/v1alpha1"

_clients: dict[tuple[str, Path], Client] = {}


def client_of(function: HttpFunction | EventFunction) -> Client:
    key = (function.name, function.source)
    if key not in _clients:
        _clients[key] = functions_framework.create_app(function.name, str(function.source)).test_client()  # type: ignore[no-untyped-call]
    return _clients[key]


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


def call(method: str, path: str, body: Any = None, headers: Mapping[str, str] = MappingProxyType({})) -> Answer:
    """Send a request to the function that the route table names; a success is held against the declaration."""
    match = ROUTER.match(method, unquote((BASE + path).split("?")[0]))
    assert match.function is not None, f"nobody answers {method} {path}; allowed: {match.allowed}"
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    response: TestResponse = client_of(match.function).open(BASE + path, method=method, data=data, headers=headers)
    answer = Answer(response.status_code, dict(response.headers), response.get_data(as_text=True))
    if answer.status < 300 and method != "HEAD":
        _check(match.function, answer)
    return answer


def _check(function: HttpFunction, answer: Answer) -> None:
    shape = function.gives[answer.status]
    if shape is None:
        assert answer.text == ""
        return
    TypeAdapter(shape).validate_json(answer.text, strict=True, extra="forbid", by_alias=True, by_name=False)
    assert answer.text == json.dumps(answer.json, separators=(",", ":"), ensure_ascii=False), "not compact"


def deliver(name: str, *data: Any, ids: Sequence[str] = (), on: Sequence[str] = ()) -> Reply:
    """Hand a batch to an event function, as the trigger does.

    Args:
        on: where each of the events was published.
    """
    events: list[EventDict] = [
        event(
            type="t", source="s", subject=on[place] if on else "", data=one, id=ids[place] if ids else f"event {place}"
        )
        for place, one in enumerate(data)
    ]
    response = client_of(EVENTS[name]).post("/", data=json.dumps(events).encode(), content_type=BATCH)
    assert response.status_code == 200, response.get_data(as_text=True)
    return Reply.from_json(json.loads(response.get_data()))
