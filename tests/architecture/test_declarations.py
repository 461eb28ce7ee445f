"""Every declared function, held against the rules that all of them follow."""

from __future__ import annotations

import pytest

import functions
from cfm_core.access.model import Action
from cfm_core.contracts import subjects
from cfm_core.declaration import Declaration, EventFunction, HttpFunction, discover
from cfm_core.web.auth import PM_READ, PM_WRITE, TM_READ, TM_WRITE
from cfm_core.web.router import Router

DECLARED = discover(functions)
HTTP = [one for one in DECLARED if isinstance(one, HttpFunction)]
EVENTS = [one for one in DECLARED if isinstance(one, EventFunction)]
BASE = "/api/v1alpha1"

ACTIVITY = f"{BASE}/orchestrations/{{orchestration_id}}/activities/{{activity_id}}"
OPEN = {
    *("/health", "/livez", "/readyz", f"{ACTIVITY}/complete", f"{ACTIVITY}/heartbeat"),
    *("/openapi.json", "/docs", "/docs/{name}", "/problems/{name}"),
}
"""What needs no scope: health, what a token of its own allows, and the documentation."""


def name_of(declaration: Declaration) -> str:
    return declaration.name


def test_the_route_table_has_no_contradiction() -> None:
    Router(HTTP)


@pytest.mark.parametrize("function", HTTP, ids=name_of)
def test_a_route_has_the_scope_of_its_manager_and_verb(function: HttpFunction) -> None:
    if function.path in OPEN:
        assert function.scope is None
        return
    assert function.path.startswith(BASE + "/")
    reads = function.method == "GET" or function.path.endswith("/query")
    if "tenant_manager" in function.source.parts:
        assert function.scope == (TM_READ if reads else TM_WRITE)
    else:
        assert function.scope == (PM_READ if reads else PM_WRITE)


@pytest.mark.parametrize("function", HTTP, ids=name_of)
def test_a_route_with_a_scope_names_the_rights_that_users_need(function: HttpFunction) -> None:
    assert bool(function.rights) is (function.scope is not None)
    reads = function.method == "GET" or function.path.endswith("/query")
    actions = {action for action, _ in function.rights}
    if function.scope is not None:
        assert (actions == {Action.READ}) is (reads or not function.gives)


@pytest.mark.parametrize("function", DECLARED, ids=name_of)
def test_a_handler_says_what_it_does(function: Declaration) -> None:
    assert (function.handler.__doc__ or "").strip()


@pytest.mark.parametrize("function", EVENTS, ids=name_of)
def test_an_event_function_has_a_subject_or_an_interval(function: EventFunction) -> None:
    assert bool(function.subject) != (function.every is not None)
    assert not function.subject or function.subject.startswith(("event.", "events."))
    assert function.batch > 0
    assert function.slots > 0


@pytest.mark.parametrize("function", EVENTS, ids=name_of)
def test_an_agent_serves_the_subject_of_its_activity_type_or_follows_others(function: EventFunction) -> None:
    assert function.of_agent is ("agents" in function.source.parts)
    if function.activity is not None:
        assert function.subject == subjects.activity(function.activity.activity_type)
    else:
        assert not function.subject or subjects.is_foreign(function.subject) is function.of_agent


def test_no_two_functions_take_one_subject() -> None:
    taken = [one.subject for one in EVENTS if one.subject]
    assert sorted(taken) == sorted(set(taken))


def test_every_route_of_the_contract_has_a_function() -> None:
    contract = {
        *(("GET", f"{BASE}/tenants"), ("POST", f"{BASE}/tenants"), ("POST", f"{BASE}/tenants/query")),
        *((method, f"{BASE}/tenants/t") for method in ("GET", "PATCH", "DELETE")),
        *((method, f"{BASE}/tenants/t/participant-profiles") for method in ("GET", "POST")),
        *((method, f"{BASE}/tenants/t/participant-profiles/p") for method in ("GET", "DELETE")),
        ("POST", f"{BASE}/participant-profiles/query"),
        *(("GET", f"{BASE}/cells"), ("POST", f"{BASE}/cells"), ("DELETE", f"{BASE}/cells/c")),
        *((method, f"{BASE}/dataspace-profiles") for method in ("GET", "POST")),
        *((method, f"{BASE}/dataspace-profiles/d") for method in ("GET", "DELETE")),
        ("POST", f"{BASE}/dataspace-profiles/d/deployments"),
        ("GET", "/health"),
        *((method, f"{BASE}/activity-definitions") for method in ("GET", "POST")),
        ("DELETE", f"{BASE}/activity-definitions/a"),
        *((method, f"{BASE}/orchestration-definitions") for method in ("GET", "POST")),
        *((method, f"{BASE}/orchestration-definitions/o") for method in ("GET", "DELETE")),
        *(("POST", f"{BASE}/orchestrations"), ("POST", f"{BASE}/orchestrations/query")),
        *((method, f"{BASE}/orchestrations/o") for method in ("GET", "POST")),
    }
    router = Router(HTTP)
    assert {route for route in contract if router.match(*route).function is None} == set()
