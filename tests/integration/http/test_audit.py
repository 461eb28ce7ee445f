"""The audit trail as the API writes and tells it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from werkzeug.test import Client

from cfm_core.audit.evidence import snapshot
from cfm_core.audit.verification import verify
from cfm_core.contracts.dead_letter import DeadLetterNotice
from cfm_core.deployment import services
from cfm_core.provisioning.assembly import DEAD_LETTERS
from cfm_core.settings import Settings
from cfm_core.store.database import Database
from cfm_core.tenancy.assembly import TENANTS
from cfm_core.web.auth import PM_READ, PM_WRITE, TM_READ, TM_WRITE
from cfm_core.web.router import Router
from tests.integration.http.api import FUNCTIONS, GATEWAY, Answer, Api
from tests.support.tokens import ISSUER, Issuer

UNTOLD = {"end_activity", "keep_activity", "refuse_post_to_orchestration"}
"""What agents, and whoever ends an activity for them, tell is in the orchestration's history; the last one changes nothing."""
CHANGING = {
    one.name for one in FUNCTIONS if one.method != "GET" and one.lists is None and one.scope is not None
} - UNTOLD
REASON = {"reason": "r"}
ROUTER = Router(FUNCTIONS)


def entries(api: Api, predicate: str = "true") -> list[dict[str, Any]]:
    answer = api.get(f"/audit?limit=1000&q={quote(predicate)}")
    assert answer.status == 200, answer
    return list(answer.json)


def test_every_function_that_changes_something_leaves_an_entry(api: Api, database: Database, database_url: str) -> None:
    used: set[str] = set()

    def told(method: str, path: str, body: Any = None) -> Any:
        """Ask for a change, which has to leave an entry with the request's id."""
        request_id = f"request-{len(used)}-{method}"
        answer = api.request(method, path, body, x_request_id=request_id)
        assert answer.status < 300, (method, path, answer)
        found = entries(api, f"requestId = '{request_id}'")
        assert found, f"{method} {path} has left no entry"
        assert {one["actor"] for one in found} == {"anonymous"}
        match = ROUTER.match(method, f"/api/v1alpha1{path}").function
        assert match is not None
        used.add(match.name)
        return json.loads(answer.text or "null")

    def letter() -> str:
        (dead_letters,) = services((DEAD_LETTERS,))
        dead_letters.keep([DeadLetterNotice(key="k", subject="event.x", target="", reason="", deliveries=1, event={})])
        return str(database.value("SELECT max(id) FROM provision_manager.dead_letter"))

    tenant = told("POST", "/tenants", {})["id"]
    told("PATCH", f"/tenants/{tenant}", {"properties": {"a": 1}})
    for path, body, change in (
        ("/cells", {"state": "active"}, {"properties": {"a": 1}}),
        ("/roles", {"name": "one"}, {"description": "d"}),
        ("/users", {"subject": "bob"}, {"name": "Bob"}),
    ):
        entity = f"{path}/{told('POST', path, body)['id']}"
        told("PATCH", entity, change)
        told("PUT", entity, body)
        if path == "/users":
            role = (
                api.get("/roles").json[0]["id"]
                if api.get("/roles").json
                else told("POST", "/roles", {"name": "x"})["id"]
            )
            told("PUT", f"{entity}/roles/{role}")
            told("DELETE", f"{entity}/roles/{role}")
        told("DELETE", entity)
    cell = told("POST", "/cells", {"state": "active"})["id"]
    dataspace = told("POST", "/dataspace-profiles", {})["id"]
    told("PUT", f"/dataspace-profiles/{dataspace}", {"dataspaceSpec": {}})
    api.post(f"/dataspace-profiles/{dataspace}/deployments", {"cellId": cell})
    (deployment,) = api.get(f"/dataspace-profiles/{dataspace}").json["deployments"]
    told("DELETE", f"/dataspace-profiles/{dataspace}/deployments/{deployment['id']}")
    told("POST", f"/dataspace-profiles/{dataspace}/deployments", {"cellId": cell})
    profile = told("POST", f"/tenants/{tenant}/participant-profiles", {"identifier": "did:web:a"})["id"]
    entity = f"/tenants/{tenant}/participant-profiles/{profile}"
    told("PATCH", entity, {"properties": {"a": 1}})
    state = "UPDATE tenant_manager.participant_profiles SET due_at = NULL, manifest = NULL, state ="
    database.rows(f"{state} 'active', live = true")
    told("DELETE", entity)
    database.rows(f"{state} 'disposed', live = false")
    told("POST", f"{entity}/deploy", {})
    database.rows(f"{state} 'disposed', live = false")
    told("DELETE", f"{entity}?purge=true")
    told("DELETE", f"/dataspace-profiles/{dataspace}")
    told("DELETE", f"/tenants/{tenant}")
    index = told("POST", "/query-indexes", {"entity": "tenants", "path": "properties.n", "kind": "number"})["id"]
    told("DELETE", f"/query-indexes/{index}")

    told("POST", "/activity-definitions", {"type": "t"})
    told("PUT", "/activity-definitions/t", {"description": "new"})
    template = {"id": "p", "activities": {"one": [{"id": "a", "type": "t", "compensation": "t"}]}}
    told("POST", "/orchestration-definitions", template)
    told("PUT", "/orchestration-definitions/p", template)
    told("PATCH", "/orchestration-definitions/p", {"active": False})
    told("PATCH", "/orchestration-definitions/p", {"active": True})
    told("POST", "/activity-types/t/pause", REASON)
    for id_ in ("o", "p", "q"):
        told("POST", "/orchestrations", {"id": id_, "correlationId": f"of {id_}", "orchestrationType": "one"})
    cancel = REASON | {"compensate": False}
    told("POST", "/orchestrations/o/pause", REASON)
    told("POST", "/orchestrations/o/resume", REASON)
    told("POST", "/orchestrations/o/cancel", cancel)
    told("POST", "/orchestrations/o/retry", REASON)
    told("POST", "/orchestrations/o/cancel", cancel)
    told("POST", "/orchestrations/o/activities/a/retry", REASON)
    told("POST", "/orchestrations/o/cancel", cancel)
    told("POST", "/orchestrations/o/rerun", REASON)
    told("POST", "/orchestrations/o.again/cancel", cancel)
    told("POST", "/orchestrations/p/activities/a/resolve", REASON)
    told("POST", "/orchestrations/p/compensate", REASON | {"force": True})
    told("POST", "/orchestrations/p/activities/a/resolve", REASON)
    told("POST", "/orchestrations/q/cancel", cancel)
    told("POST", "/orchestrations/erase", REASON | {"correlationId": "of q"})
    told("POST", "/activity-types/t/resume", REASON)
    told("POST", f"/dead-letters/{letter()}/replay")
    told("DELETE", f"/dead-letters/{letter()}")
    told("POST", "/schedules", {"id": "s", "cron": "0 3 * * *", "orchestrationType": "one"})
    told("PUT", "/schedules/s", {"cron": "0 4 * * *", "orchestrationType": "one"})
    told("PATCH", "/schedules/s", {"paused": True})
    told("DELETE", "/schedules/s")
    told("DELETE", "/orchestration-definitions/p")
    told("DELETE", "/activity-definitions/t")
    told("POST", "/audit/erase", REASON | {"actor": "anonymous"})
    assert used == CHANGING
    with snapshot(database_url) as evidence:
        assert verify(evidence).findings == []


def test_a_caller_may_say_why(api: Api) -> None:
    created = api.post("/tenants", {}, x_reason="größer; token=canary".encode().decode("latin-1"), x_request_id="r1")
    assert created.status == 201
    (entry,) = entries(api)
    assert (entry["reason"], entry["requestId"]) == ("größer; token=***", "r1")


@pytest.mark.parametrize("reason", ["x" * 1001, "\xff"])
def test_a_reason_that_is_none_is_refused_and_nothing_happens(api: Api, reason: str) -> None:
    assert api.post("/tenants", {}, x_reason=reason).status == 400
    assert api.get("/tenants").json == entries(api) == []


@pytest.mark.parametrize(
    ("proxies", "peer", "told", "address"),
    [
        (0, "192.0.2.7", "", "192.0.2.7"),
        (0, "192.0.2.7", "198.51.100.1", "192.0.2.7"),
        (1, "192.0.2.7", "198.51.100.1", "198.51.100.1"),
        (1, "192.0.2.7", "203.0.113.9, 198.51.100.1", "198.51.100.1"),
        (2, "192.0.2.7", "10.0.0.1, 203.0.113.9, 198.51.100.1", "203.0.113.9"),
        (2, "192.0.2.7", "198.51.100.1", "192.0.2.7"),
        (1, "192.0.2.7", "nobody", "192.0.2.7"),
        (1, "192.0.2.7", "", "192.0.2.7"),
        (1, "192.0.2.7", "2001:DB8::1", "2001:db8::1"),
        (0, "", "198.51.100.1", None),
    ],
)
def test_the_address_is_that_of_the_client_as_far_as_trusted_proxies_tell(
    serve: Callable[[Settings], None], proxies: int, peer: str, told: str, address: str | None
) -> None:
    serve(Settings(store="memory", auth="off", trusted_proxies=proxies))
    headers = {"X-Forwarded-For": told} if told else {}
    created = Client(GATEWAY).open(
        "/api/v1alpha1/tenants", method="POST", data=b"{}", headers=headers, environ_overrides={"REMOTE_ADDR": peer}
    )
    assert created.status_code == 201
    (entry,) = entries(Api())
    assert entry.get("address") == address


def test_what_is_refused_leaves_no_entry(api: Api) -> None:
    tenant = api.post("/tenants", {}).json["id"]
    assert api.patch(f"/tenants/{tenant}", {"properties": {"a": 1}}, if_match='"9"').status == 412
    assert api.post("/tenants", {"properties": 3}).status == 400
    assert api.delete("/cells/unknown").status == 404
    assert [one["action"] for one in entries(api)] == ["create"]


def test_a_request_that_is_repeated_with_its_key_leaves_one_entry(api: Api) -> None:
    first, second = (api.post("/tenants", {}, idempotency_key="k", x_request_id=name) for name in ("one", "two"))
    assert first.text == second.text
    assert [one["requestId"] for one in entries(api)] == ["one"]


def test_a_keyed_request_that_is_refused_leaves_no_entry(api: Api) -> None:
    api.post("/roles", {"name": "reader"})
    assert api.post("/roles", {"name": "reader"}, idempotency_key="k").status == 409
    assert [one["kind"] for one in entries(api)] == ["roles"]


def test_the_caller_of_one_request_is_not_that_of_the_next(api: Api, database: Database) -> None:
    api.post("/tenants", {}, x_request_id="r1")
    assert api.get("/tenants").status == 200
    with services((TENANTS,))[0]._store._database.transaction() as tx:
        # On the connection that was just told of a caller.
        assert (tx.value("SELECT current_setting('cfm.caller', true)") or "") == ""
        tx.rows("UPDATE tenant_manager.tenants SET version = version + 1")
    assert len(entries(api)) == 1


@pytest.fixture
def bearing(tmp_path: Path, serve: Callable[[Settings], None], database_url: str) -> Callable[..., Api]:
    issuer = Issuer(tmp_path)
    serve(Settings.from_environ({**issuer.environ, "CFM_DATABASE_URL": database_url}))
    return lambda *scopes, subject="tester": Api(
        {"Authorization": f"Bearer {issuer.token(*scopes, claims={'sub': subject})}"}
    )


def test_the_trail_names_who_has_the_token(bearing: Callable[..., Api]) -> None:
    assert bearing(TM_WRITE, subject="bob").post("/tenants", {}).status == 201
    (entry,) = entries(bearing(PM_READ, TM_READ))
    assert (entry["actor"], entry["issuer"]) == ("bob", ISSUER)


def test_entities_of_the_tenant_manager_are_told_to_those_who_may_read_them(bearing: Callable[..., Api]) -> None:
    assert bearing(TM_WRITE).post("/tenants", {}).status == 201
    assert bearing(PM_WRITE).post("/activity-definitions", {"type": "t"}).status == 201
    both, one = bearing(PM_READ, TM_READ), bearing(PM_READ)
    assert [entry["kind"] for entry in entries(both)] == ["tenants", "activity-definitions"]
    for answer in (one.get("/audit"), one.post("/audit/query", {"predicate": "id > 0"})):
        assert [entry["kind"] for entry in answer.json] == ["activity-definitions"]
        assert answer.headers["X-Total-Count"] == "1"
    for scope in (TM_READ, TM_WRITE, PM_WRITE):
        assert bearing(scope).get("/audit").status == 403


def test_erasing_takes_the_scope_to_write_what_it_is_about(bearing: Callable[..., Api]) -> None:
    tenant = bearing(TM_WRITE).post("/tenants", {}).json["id"]
    assert bearing(PM_WRITE).post("/activity-definitions", {"type": "t"}).status == 201

    def erase(*scopes: str, **what: str) -> Answer:
        return bearing(*scopes).post("/audit/erase", {"reason": "asked for", **what})

    for what in ({"subject": f"tenants/{tenant}"}, {"actor": "tester"}):
        assert erase(PM_WRITE, **what).status == 403
        assert erase(PM_READ, TM_WRITE, **what).status == 403
    assert erase(PM_WRITE, subject="activity-definitions/t").json == {"erased": 1}
    assert erase(PM_WRITE, TM_WRITE, subject=f"tenants/{tenant}").json == {"erased": 1}
    for bad in ({}, {"subject": f"tenants/{tenant}", "actor": "tester"}, {"subject": "tenants"}, {"subject": "x/y"}):
        assert erase(PM_WRITE, TM_WRITE, **bad).status == 400
    assert bearing(PM_WRITE).post("/audit/erase", {"subject": "cells/x"}).status == 400
