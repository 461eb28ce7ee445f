"""A running stack with one of everything in it, for requests and events that have no business there."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, cast

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from cfm_core.contracts import event_tokens, subjects
from cfm_core.contracts.completion import CompletionKey
from cfm_core.contracts.orchestration import DEPLOY
from cfm_core.declaration import EventFunction, HttpFunction
from cfm_core.eventing.cloudevents import STRUCTURED
from cfm_core.web.auth import ALL_SCOPES
from local.issuer import AUDIENCE, ISSUER
from local.server import agents, managers
from local.stack import Stack
from tests.security.keeping import Keeping, Kept
from tests.security.wire import Answer, Headers, Wire

BASE = "/api/v1alpha1"
ABSENT = "00000000-0000-4000-8000-000000000000"
PATIENCE_SECONDS = 60

DECLARED = (*managers(), *agents())
HTTP = tuple(one for one in DECLARED if isinstance(one, HttpFunction))
EVENTS = tuple(one for one in DECLARED if isinstance(one, EventFunction))
GUARDED = tuple(one for one in HTTP if one.scope is not None)

AGENT = """
from datetime import timedelta

from cfm_core.agent import ActivityContext, ActivityResult, Complete, Wait, activity


@activity("ground.registrar")
class Registrar:
    def deploy(self, ctx: ActivityContext) -> ActivityResult:
        return Wait(timeout=timedelta(hours=1), reason="the registrar has to sign")

    def process(self, ctx: ActivityContext) -> ActivityResult:
        return Wait(timeout=timedelta(hours=1), reason="the registrar has to sign")
"""
_NEVER = {"scheduleToStart": "PT1H", "wait": "PT1H"}
_NOTHING: Mapping[str, object] = MappingProxyType({})


class Ground:
    """What attacks are made against: addresses, ids, and the keys with which an attacker's tokens are almost good.

    Args:
        home: a folder for the stack and the agent that waits for ever.
    """

    def __init__(self, home: Path) -> None:
        (home / "registrar.py").write_text(AGENT)
        self.stack = Stack(home / "data", agents=[home / "registrar.py"])
        self.stack.start()
        try:
            data = self.stack.data
            self.key = cast(Ed25519PrivateKey, load_pem_private_key((data / "issuer" / "key.pem").read_bytes(), None))
            self.event_key = (data / "event-key").read_text()
            self.completion_key = CompletionKey((data / "completion-key").read_text())
            self.good = self.token()
            self.api = Wire(self.stack.url)
            self.targets: dict[str, str] = {
                target["name"]: target["url"] for target in json.loads((data / "targets.json").read_text())["targets"]
            }
            self._internal: dict[tuple[str, int], Wire] = {}
            self.keeping = Keeping(self.stack.database_url, self.stack.nats_url)
            self.ids: dict[str, str] = {}
            self.dispatches: dict[str, str] = {}
            self._fill_with_one_of_everything()
            self.kept: Kept = {}
            self.settle()
            self.at_first = self.kept
        except BaseException:
            self.stack.stop()
            raise

    def __enter__(self) -> Ground:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.api.close()
        for wire in self._internal.values():
            wire.close()
        self.keeping.close()
        self.stack.stop()

    # What attacks are made of

    def token(self, *scopes: str, **changes: object) -> str:
        """A token of the stack's issuer with these scopes, all where none is named; ``changes`` are of its claims."""
        return self.signed(changes | ({"scope": " ".join(scopes)} if scopes else {}))

    def signed(
        self,
        claims: Mapping[str, object] = _NOTHING,
        headers: Mapping[str, object] = _NOTHING,
        key: Ed25519PrivateKey | None = None,
    ) -> str:
        """A token with the usual claims and headers but for those that are given; None leaves one out."""
        return jwt.encode(
            {name: value for name, value in (self.claims() | dict(claims)).items() if value is not None},
            key or self.key,
            algorithm="EdDSA",
            headers={"kid": "local", **headers},
        )

    def claims(self) -> dict[str, object]:
        """What a good token says."""
        now = int(time.time())
        scope = " ".join(ALL_SCOPES)
        return {"iss": ISSUER, "aud": AUDIENCE, "sub": "stranger", "iat": now, "exp": now + 600, "scope": scope}

    def event_token(self, function: str) -> str:
        """What opens an event function."""
        return event_tokens.derived(self.event_key, function)

    def completion_token(self, run: str, activity: str) -> str:
        """What ends the activity of a run from outside."""
        return self.completion_key.token(self.ids[run], 0, activity, self.dispatches[run])

    def fill(self, path: str) -> str:
        """``path`` with ids for its variables: by their own names where there are such, else what the collection has."""
        parts: list[str] = []
        for part in path.split("/"):
            if part.startswith("{") and part.endswith("}"):
                parts.append(self.ids.get(part[1:-1]) or self.ids.get(parts[-1], ABSENT))
            else:
                parts.append(part)
        return "/".join(parts)

    def at(self, function: str) -> Wire:
        """A connection to the process that serves an event function."""
        wire = Wire(self.targets[function])
        return self._internal.setdefault((wire.host, wire.port), wire)

    def deliver(self, function: str, data: object, event_id: str = "e", subject: str = "ground") -> Answer:
        """Hand one event to a function as the trigger does."""
        event = {"specversion": "1.0", "id": event_id, "source": "ground", "type": "ground", "data": data}
        event["subject"] = subject
        headers = [("Content-Type", STRUCTURED), ("Authorization", f"Bearer {self.event_token(function)}")]
        return self.at(function).request("POST", f"/{function}", headers, json.dumps(event).encode())

    # What there is

    def call(self, method: str, path: str, document: object = None, headers: Headers = ()) -> Any:
        """Do what an operator does, and give what the answer says."""
        body = b"" if document is None else json.dumps(document).encode()
        answer = self.api.request(method, BASE + path, [("Authorization", f"Bearer {self.good}"), *headers], body)
        assert 200 <= answer.status < 300, (method, path, answer)
        return json.loads(answer.text) if answer.text else None

    def _fill_with_one_of_everything(self) -> None:
        for name in ("ground.registrar", "ground.nobody"):
            self.call("POST", "/activity-definitions", {"type": name, "timeouts": _NEVER})
        activities = {
            DEPLOY: [{"id": "sign", "type": "ground.registrar"}],
            "ground.sign": [{"id": "sign", "type": "ground.registrar"}],
            "ground.nobody": [{"id": "sign", "type": "ground.nobody"}],
        }
        self.call("POST", "/orchestration-definitions", {"id": "ground", "activities": activities})
        cell = self.call("POST", "/cells", {"state": "active", "stateTimestamp": "2026-01-01T00:00:00Z"})["id"]
        dataspaces = [self.call("POST", "/dataspace-profiles", {})["id"] for _ in range(2)]
        for dataspace in dataspaces:
            self.call("POST", f"/dataspace-profiles/{dataspace}/deployments", {"profileId": dataspace, "cellId": cell})
        deployments = [self.call("GET", f"/dataspace-profiles/{one}")["deployments"][0]["id"] for one in dataspaces]
        # The answer is kept, and whoever has the key is told it again.
        key = [("Idempotency-Key", "kept")]
        tenants = [self.call("POST", "/tenants", {"properties": {"n": n}}, key[:n])["id"] for n in (1, 0)]
        profiles = [self._deployed(tenant, cell, dataspaces[0]) for tenant in tenants]
        index = self.call("POST", "/query-indexes", {"entity": "tenants", "path": "properties.n", "kind": "number"})
        self._await(lambda: self.call("GET", f"/query-indexes/{index['id']}")["state"] == "ready")
        self.call("PUT", "/schedules/nightly", {"cron": "0 3 29 2 *", "orchestrationType": "ground.sign"})
        role = self.call("POST", "/roles", {"name": "ground"})["id"]
        user = self.call("POST", "/users", {"subject": "somebody", "roleIds": [role]})["id"]
        letter = {"key": "k", "subject": "event.x", "target": "t", "reason": "r", "deliveries": 1, "event": {}}
        assert self.deliver("keep_dead_letters", letter, subject=subjects.dead_letter("event.x")).status == 204
        (kept,) = self.call("GET", "/dead-letters")
        self.ids |= {
            "tenants": tenants[0],
            "other_tenant": tenants[1],
            "participant-profiles": profiles[0],
            "other_profile": profiles[1],
            "cells": cell,
            "dataspace-profiles": dataspaces[0],
            "other_dataspace": dataspaces[1],
            "deployments": deployments[0],
            "other_deployment": deployments[1],
            "query-indexes": index["id"],
            "schedules": "nightly",
            "roles": role,
            "users": user,
            "dead-letters": str(kept["id"]),
            "activity-definitions": "ground.registrar",
            "activity-types": "ground.registrar",
            "orchestration-definitions": "ground",
            "orchestrations": "waiting",
            "activities": "sign",
        }
        for run, type_, state in (
            ("waiting", "ground.sign", "WAITING"),
            ("ended", "ground.sign", "WAITING"),
            ("sent", "ground.nobody", "DISPATCHED"),
        ):
            self.ids[run] = run
            self.call("POST", "/orchestrations", {"id": run, "correlationId": run, "orchestrationType": type_})
            self.dispatches[run] = self._dispatched(run, state)
        self._end("ended", self.completion_token("ended", "sign"))

    def _deployed(self, tenant: str, cell: str, dataspace: str) -> str:
        wanted = {"identifier": f"did:web:{tenant}", "cellId": cell, "dataspaceProfileIds": [dataspace]}
        profile = self.call("POST", f"/tenants/{tenant}/participant-profiles", wanted)
        run = profile["orchestrationId"]
        token = self.completion_key.token(run, 0, "sign", self._dispatched(run, "WAITING"))
        self._end(run, token)
        path = f"/tenants/{tenant}/participant-profiles/{profile['id']}"
        self._await(lambda: self.call("GET", path)["vpas"][0]["state"] == "active")
        return str(profile["id"])

    def _end(self, run: str, token: str) -> None:
        body = {"token": token, "outputs": {"signed": True}}
        self.call("POST", f"/orchestrations/{run}/activities/sign/complete", body)

    def _dispatched(self, run: str, state: str) -> str:
        """The token of the only dispatch of a run, once its activity is in ``state``."""
        sql = f"SELECT token::text FROM provision_manager.activity WHERE orch_id = '{run}' AND state = '{state}'"  # noqa: S608
        self._await(lambda: bool(self.keeping.rows(sql)))
        ((token,),) = self.keeping.rows(sql)
        return str(token)

    def _await(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not holds():
            assert time.monotonic() < deadline, "the ground is not ready after a minute"
            time.sleep(0.05)  # between two looks

    def settle(self) -> None:
        """Return once nothing waits to be relayed or sealed, and two looks with sweeps between find the same in ``kept``."""
        waiting = "SELECT (SELECT count(*) FROM eventing.outbox) + (SELECT count(*) FROM audit.waiting)"
        self._await(lambda: self.keeping.rows(waiting) == [[0]])

        def same() -> bool:
            time.sleep(1.1)  # for two sweeps
            before, self.kept = self.kept, self.keeping.look()
            return self.kept == before

        self._await(same)
