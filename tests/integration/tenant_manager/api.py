"""The Tenant Manager's functions, called as functions-framework serves them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import functions_framework
from flask import Flask
from werkzeug.test import Client, TestResponse

import functions.managers
import functions.tenant_manager
from cfm_core.contracts.reply import EventDict, Reply
from cfm_core.declaration import EventFunction, HttpFunction, discover
from cfm_core.eventing.cloudevents import BATCH
from cfm_core.web.router import Router

DECLARED = (*discover(functions.managers), *discover(functions.tenant_manager))
ROUTER = Router([one for one in DECLARED if isinstance(one, HttpFunction)])
EVENTS = {one.name: one for one in DECLARED if isinstance(one, EventFunction)}
BASE = "/api/v1alpha1"

_clients: dict[tuple[str, Path], Client] = {}


def client_of(function: HttpFunction | EventFunction) -> Client:
    key = (function.name, function.source)
    if key not in _clients:
        app: Flask = functions_framework.create_app(function.name, str(function.source))  # type: ignore[no-untyped-call]
        _clients[key] = app.test_client()
    return _clients[key]


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


class Api:
    """``base`` is put in front of every path; each request runs in the function that the route table names."""

    def __init__(self, headers: Mapping[str, str] | None = None) -> None:
        self._headers = dict(headers or {})

    def request(self, method: str, path: str, body: Any = None, *, raw: bytes | None = None) -> Answer:
        match = ROUTER.match(method, (BASE + path).split("?")[0])
        assert match.function is not None, f"nobody answers {method} {path}; allowed: {match.allowed}"
        data = raw if raw is not None else (b"" if body is None else json.dumps(body).encode())
        response: TestResponse = client_of(match.function).open(
            BASE + path, method=method, data=data, headers=self._headers
        )
        return Answer(response.status_code, dict(response.headers), response.get_data(as_text=True))

    def get(self, path: str) -> Answer:
        return self.request("GET", path)

    def post(self, path: str, body: Any = None) -> Answer:
        return self.request("POST", path, body)

    def patch(self, path: str, body: Any) -> Answer:
        return self.request("PATCH", path, body)

    def delete(self, path: str) -> Answer:
        return self.request("DELETE", path)


def deliver(name: str, events: list[EventDict]) -> Reply:
    """Hand a batch to an event function, as the trigger does."""
    body = json.dumps(events).encode()
    response = client_of(EVENTS[name]).post("/", data=body, content_type=BATCH)
    assert response.status_code == 200, response.get_data(as_text=True)
    return Reply.from_json(json.loads(response.get_data()))


class Fabric:
    """What participants are deployed to."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.tenant: str = api.post("/tenants", {}).json["id"]
        self.cell: str = api.post("/cells", {"state": "active"}).json["id"]
        self.dataspace: str = api.post("/dataspace-profiles", {}).json["id"]
        api.post(f"/dataspace-profiles/{self.dataspace}/deployments", {"cellId": self.cell})

    @property
    def profiles(self) -> str:
        return f"/tenants/{self.tenant}/participant-profiles"

    def deploy(self, identifier: str = "did:web:foo") -> Any:
        answer = self.api.post(self.profiles, {"identifier": identifier})
        assert answer.status == 202, answer
        return answer.json

    def profile(self, profile_id: str) -> Any:
        return self.api.get(f"{self.profiles}/{profile_id}").json
