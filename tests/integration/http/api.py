"""Both managers behind the gateway's route table, each function as functions-framework serves it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from werkzeug.test import Client

import functions.managers
import functions.provision_manager
import functions.tenant_manager
from cfm_core.contracts.dead_letter import DeadLetterNotice
from cfm_core.declaration import HttpFunction, discover
from cfm_core.deployment import services
from cfm_core.provisioning.assembly import DEAD_LETTERS
from cfm_core.store.database import Database
from cfm_core.web.router import Router
from local.server import FunctionApps, Gateway

FUNCTIONS = tuple(
    one
    for package in (functions.managers, functions.tenant_manager, functions.provision_manager)
    for one in discover(package)
    if isinstance(one, HttpFunction)
)
BASE = "/api/v1alpha1"
ABSENT = "00000000-0000-4000-8000-000000000000"

GATEWAY = Gateway(Router(FUNCTIONS), FunctionApps().of)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


class Api:
    """A client of the gateway; ``headers`` go with every request. Paths are below the API's, or whole ones after ``//``."""

    def __init__(self, headers: Mapping[str, str] | None = None) -> None:
        self.headers = dict(headers or {})

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Send a request; bytes as they are. A header's name is written with underscores: ``if_match='"1"'``."""
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        sent = self.headers | {name.replace("_", "-"): value for name, value in headers.items()}
        whole = path[1:] if path.startswith("//") else BASE + path
        response = Client(GATEWAY).open(whole, method=method, data=data, headers=sent)
        return Answer(response.status_code, dict(response.headers), response.data.decode("utf-8", "replace"))

    def get(self, path: str, **headers: str) -> Answer:
        return self.request("GET", path, **headers)

    def post(self, path: str, body: Any = None, **headers: str) -> Answer:
        return self.request("POST", path, body, **headers)

    def patch(self, path: str, body: Any, **headers: str) -> Answer:
        return self.request("PATCH", path, body, **headers)

    def put(self, path: str, body: Any, **headers: str) -> Answer:
        return self.request("PUT", path, body, **headers)

    def delete(self, path: str, **headers: str) -> Answer:
        return self.request("DELETE", path, **headers)


@dataclass(frozen=True)
class Fabric:
    """One of everything; ``ids`` has the id of each by the last constant part of its path."""

    api: Api
    ids: Mapping[str, str]

    @property
    def tenant(self) -> str:
        return f"/tenants/{self.ids['tenants']}"

    @property
    def profiles(self) -> str:
        return f"{self.tenant}/participant-profiles"

    def fill(self, path: str) -> str:
        """``path`` with the ids of what there is in place of its variables."""
        parts: list[str] = []
        for part in path.split("/"):
            parts.append(self.ids.get(parts[-1], "unknown") if part.startswith("{") else part)
        return "/".join(parts)


def fabric(api: Api) -> Fabric:
    """Make one of everything."""
    tenant = api.post("/tenants", {"properties": {"n": 1}}).json["id"]
    cell = api.post("/cells", {"state": "active"}).json["id"]
    dataspace = api.post("/dataspace-profiles", {}).json["id"]
    assert api.post(f"/dataspace-profiles/{dataspace}/deployments", {"cellId": cell}).status == 202
    (deployment,) = api.get(f"/dataspace-profiles/{dataspace}").json["deployments"]
    assert api.post("/activity-definitions", {"type": "none"}).status == 201
    template, manifest = str(uuid.uuid4()), str(uuid.uuid4())
    definition = {"id": template, "activities": {"some.type": [{"id": "a", "type": "none"}]}}
    assert api.post("/orchestration-definitions", definition).status == 201
    started = api.post("/orchestrations", {"id": manifest, "correlationId": "c", "orchestrationType": "some.type"})
    assert started.status == 202, started
    deployed = api.post(f"/tenants/{tenant}/participant-profiles", {"identifier": f"did:web:{tenant}"})
    assert deployed.status == 202, deployed
    index = api.post("/query-indexes", {"entity": "tenants", "path": "properties.n", "kind": "number"})
    assert index.status == 202, index
    schedule = api.put(f"/schedules/{tenant}", {"cron": "0 3 * * *", "orchestrationType": "some.type"})
    assert schedule.status == 201, schedule
    (dead_letters,) = services((DEAD_LETTERS,))
    dead_letters.keep(
        [DeadLetterNotice(key=tenant, subject="event.x", target=tenant, reason="", deliveries=1, event={})]
    )
    (letter,) = api.get(f"/dead-letters?q=target='{tenant}'").json
    role = api.post("/roles", {"name": tenant}).json["id"]
    user = api.post("/users", {"subject": tenant, "roleIds": [role]}).json["id"]
    return Fabric(
        api,
        {
            "tenants": tenant,
            "cells": cell,
            "dataspace-profiles": dataspace,
            "deployments": deployment["id"],
            "participant-profiles": deployed.json["id"],
            "activity-definitions": "none",
            "orchestration-definitions": template,
            "orchestrations": manifest,
            "activities": "a",
            "query-indexes": index.json["id"],
            "schedules": tenant,
            "dead-letters": str(letter["id"]),
            "roles": role,
            "users": user,
        },
    )


def contents(database: Database) -> list[str]:
    """Every row of every table, to see whether anything changes."""
    return list(_rows(database))


def _rows(database: Database) -> Iterator[str]:
    tables = database.rows(
        "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables"
        " WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1"
    )
    for (table,) in tables:
        for (row,) in database.rows(f"SELECT t::text FROM {table} t ORDER BY 1"):  # noqa: S608
            yield f"{table} {row}"
