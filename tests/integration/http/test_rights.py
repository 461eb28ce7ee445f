"""Every declared route and every kind of caller: who is let in, and what the others learn."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from cfm_core import deployment
from cfm_core.access.model import Action, Need, Resource
from cfm_core.assembly import ServiceAssembler
from cfm_core.declaration import HttpFunction
from cfm_core.settings import Settings
from cfm_core.store.database import Database, Transaction
from local.servers.postgres import EmbeddedPostgres
from tests.integration.http.api import ABSENT, BASE, FUNCTIONS, Answer, Api, Fabric, contents, fabric
from tests.support.roles import with_roles
from tests.support.tokens import Issuer

GUARDED = [one for one in FUNCTIONS if one.scope is not None]
BOUNDED = {
    *(Resource.TENANT, Resource.PARTICIPANT_PROFILE, Resource.CELL, Resource.DATASPACE_PROFILE),
    *(Resource.ORCHESTRATION, Resource.AUDIT, Resource.ANY),
}
"""What belongs to tenants, or to cells."""
SUITS_ALL = {
    "reason": "because",
    "properties": {"taken": True},
    "state": "offline",
    "externalId": "taken",
    "name": "taken",
    "subject": "taken",
    "identifier": "did:web:taken",
    "correlationId": "taken",
    "path": "properties.taken",
    "entity": "tenants",
    "kind": "text",
    "type": "taken",
    "predicate": "true",
    "dataspaceSpec": {"protocolStack": ["taken"], "credentialSpecs": []},
}
"""A body for most functions: what one does not know, it ignores."""
HEADERS: tuple[dict[str, str], ...] = ({}, {"if_match": '"99"'}, {"if_none_match": "*"})
EVERYTHING = [{"action": "*", "resource": "*"}]
AUDITOR = [{"action": "read", "resource": "audit"}]


def name_of(function: HttpFunction) -> str:
    return function.name


def rights_for(needs: Sequence[Need]) -> list[dict[str, str]]:
    return [{"action": action, "resource": resource} for action, resource in needs]


def all_rights_but(needs: Sequence[Need]) -> list[dict[str, str]]:
    """Every right there is, but for those with which one may do one of ``needs``."""
    allowing = set(needs)
    for action, resource in needs:
        if resource is Resource.ANY:
            allowing |= {(action, kind) for kind in Resource}
        if resource is Resource.PARTICIPANT_PROFILE:
            allowing.add((action, Resource.VPA))
    single = [(action, kind) for action in Action for kind in Resource if action != Action.ANY and kind != Resource.ANY]
    return rights_for([one for one in single if one not in allowing])


@dataclass(frozen=True)
class Place:
    """Two tenants with all that they have, and whoever calls."""

    issuer: Issuer
    platform: Api
    database: Database
    mine: Fabric
    theirs: Fabric

    def bearing(self, subject: str, *scopes: str, **claims: Any) -> Api:
        token = self.issuer.token(*scopes, claims={"sub": subject, **claims})
        return Api({"Authorization": f"Bearer {token}"})

    def user(self, subject: str, rights: Sequence[dict[str, str]]) -> Api:
        """A client of a user who has just these rights."""
        found = self.platform.get(f"/users?q=subject='{subject}'").json
        if found:
            assert self.platform.patch(f"/users/{found[0]['id']}", {"rights": rights}).status == 200
        else:
            assert self.platform.post("/users", {"subject": subject, "rights": rights}).status == 201
        return self.bearing(subject)

    def role(self, name: str, rights: Sequence[dict[str, str]]) -> None:
        found = self.platform.get(f"/roles?q=name='{name}'").json
        if found:
            assert self.platform.patch(f"/roles/{found[0]['id']}", {"rights": rights}).status == 200
        else:
            assert self.platform.post("/roles", {"name": name, "rights": rights}).status == 201


def orchestration_of(api: Api, made: Fabric) -> Fabric:
    """The fabric with an orchestration that belongs to its tenant and its participant profile."""
    ids = dict(made.ids)
    manifest: dict[str, Any] = {
        "id": f"of-{ids['tenants']}",
        "correlationId": ids["participant-profiles"],
        "orchestrationType": "some.type",
        "payload": {"cfm.tenant.id": ids["tenants"]},
    }
    assert api.post("/orchestrations", manifest).status == 202
    return Fabric(api, ids | {"orchestrations": manifest["id"]})


@pytest.fixture(scope="module")
def place(
    shared_database: Database, postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    issuer = Issuer(tmp_path_factory.mktemp("issuer"))
    url = postgres.url(shared_database.value("SELECT current_database()"))
    settings = with_roles(Settings.from_environ({**issuer.environ, "CFM_AUTH_ROLES_CLAIM": "roles"}), url)
    assembler = ServiceAssembler(deployment.assemblies(settings), settings)
    deployment.use(assembler)
    platform = Api({"Authorization": f"Bearer {issuer.token()}"})
    mine, theirs = (orchestration_of(platform, fabric(platform)) for _ in range(2))
    yield Place(issuer, platform, shared_database, mine, theirs)
    deployment.use(None)
    assembler.stop()


def call(api: Api, function: HttpFunction, path: str, body: Any = None, **headers: str) -> Answer:
    return api.request(function.method, path.removeprefix(BASE), body, **headers)


def known(place: Place, function: HttpFunction) -> str:
    """A path of the function on which nothing is there to be broken."""
    return re.sub(r"{\w+}", ABSENT, function.path)


@pytest.mark.parametrize("function", GUARDED, ids=name_of)
def test_every_route_lets_in_who_has_the_scope_and_the_right_and_nobody_else(
    place: Place, function: HttpFunction
) -> None:
    assert function.rights, "no right allows it: only clients that are no users can call it"
    path = known(place, function)
    needs = list(function.rights)

    def status(api: Api) -> int:
        # Malformed where it has a body: whoever is let in is told that, and nothing is changed.
        return call(api, function, path, b"{").status

    place.role("just-enough", rights_for(needs))
    gone = place.user(f"gone-{function.name}", EVERYTHING)
    (user,) = place.platform.get(f"/users?q=subject='gone-{function.name}'").json
    assert place.platform.delete(f"/users/{user['id']}").status == 200
    let_in = {
        "a client that is no user": place.platform,
        "a user with every right": place.user("administrator", EVERYTHING),
        "a user with the right": place.user("just-enough", rights_for(needs)),
        "a client with a role": place.bearing("robot", roles=["just-enough"]),
    }
    kept_out = {
        "a user without rights": place.user("nobody", []),
        "a user with every other right": place.user("almost", all_rights_but(needs)),
        "a user with the right and without the scope": place.bearing("administrator", "some:scope"),
        "a client with a role that is none": place.bearing("robot", roles=["unknown"]),
        "a client with no role": place.bearing("robot", roles=[]),
        "somebody who was a user": gone,
    }
    assert {who for who, api in let_in.items() if status(api) in {401, 403}} == set()
    assert {who: status(api) for who, api in kept_out.items()} == dict.fromkeys(kept_out, 403)
    assert call(Api(), function, path).status == 401


def told(answer: Answer, *names: str) -> tuple[int, str, dict[str, str]]:
    """What an answer says, without the ids in the request."""
    text = answer.text
    headers = {name: value for name, value in answer.headers.items() if name not in {"X-Request-Id", "Content-Length"}}
    for name in names:
        text = text.replace(name, "<id>")
        headers = {key: value.replace(name, "<id>") for key, value in headers.items()}
    return answer.status, re.sub(r'"requestId":"[^"]*"', "", text), headers


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the database is asked, each time that somebody waits for its answer; not what is remembered for a while."""
    asked: list[str] = []
    run, simple = Transaction.rows, Transaction.simple

    def counted_rows(self: Transaction, sql: str, **params: Any) -> Any:
        if "query_indexes" not in sql and "access." not in sql:
            asked.append(sql)
        return run(self, sql, **params)

    def counted_simple(self: Transaction, sql: str) -> None:
        asked.append(sql)
        simple(self, sql)

    monkeypatch.setattr(Transaction, "rows", counted_rows)
    monkeypatch.setattr(Transaction, "simple", counted_simple)
    return asked


def bound_to(place: Place, kind: str) -> dict[str, str]:
    """A right to everything of mine, by one kind of bound or by all of them."""
    mine = place.mine
    everything = {"action": "*", "resource": "*"}
    (vpa, *_) = place.platform.get(f"{mine.profiles}/{mine.ids['participant-profiles']}").json["vpas"]
    bounds = {
        "tenantId": mine.ids["tenants"],
        "participantProfileId": mine.ids["participant-profiles"],
        "vpaId": vpa["id"],
        # Where others have nothing: what is on a cell belongs to it, whosever it is.
        "cellId": place.platform.post("/cells", {"state": "offline"}).json["id"],
    }
    return everything | (bounds if kind == "all of them" else {kind: bounds[kind]})


@pytest.mark.parametrize("bound", ["tenantId", "participantProfileId", "vpaId", "cellId", "all of them"])
def test_whoever_has_bounds_learns_nothing_of_others_by_any_route(place: Place, asked: list[str], bound: str) -> None:
    me = place.user(f"with-{bound.replace(' ', '-')}", [bound_to(place, bound)])
    unknown = {
        name: (ABSENT if re.fullmatch(r"[0-9a-f-]{36}", key) else "unknown") for name, key in place.theirs.ids.items()
    }
    absent = Fabric(place.platform, unknown)
    before = contents(place.database)
    tried = 0
    names = sorted({*place.theirs.ids.values(), *unknown.values()}, key=len, reverse=True)

    def told_and_asked(
        function: HttpFunction, path: str, body: Any, headers: dict[str, str]
    ) -> tuple[Answer, list[str]]:
        asked.clear()
        answer = call(me, function, path, body, **headers)
        return answer, [*asked]

    for function in GUARDED:
        if "{" not in function.path:
            continue
        there, not_there = place.theirs.fill(function.path), absent.fill(function.path)
        body = SUITS_ALL if function.method != "GET" else None
        for headers in HEADERS:
            # The same is told after the same questions: it takes no longer to be refused what is another's.
            (one, of_one), (two, of_two) = (
                told_and_asked(function, path, body, headers) for path in (there, not_there)
            )
            assert told(one, *names) == told(two, *names), function.name
            assert of_one == of_two, function.name
            assert one.status in {403, 404, 405, 412} or json.loads(one.text) == [], (function.name, one)
            tried += 1
        if "profile_id" in function.path and "tenant_id" in function.path:
            # Under one's own tenant, the profile of another is not there either.
            own = place.mine.fill(function.path.replace("{profile_id}", place.theirs.ids["participant-profiles"]))
            assert call(me, function, own, body).status in {403, 404}, function.name
    assert tried > 80
    assert contents(place.database) == before


def test_cursors_count_and_lead_to_nothing_but_what_is_theirs(place: Place) -> None:
    mine, theirs = place.mine, place.theirs
    me = place.user("of-a-tenant", [{"action": "*", "resource": "*", "tenantId": mine.ids["tenants"]}])
    for path, key in (
        ("/tenants", theirs.ids["tenants"]),
        ("/participant-profiles", theirs.ids["participant-profiles"]),
        ("/orchestrations", theirs.ids["orchestrations"]),
        ("/audit", str(place.platform.get("/audit?limit=1").json[0]["id"])),
    ):
        whole = me.get(f"{path}?limit=1000")
        ids = [one["id"] for one in whole.json]
        paged: list[Any] = []
        link = f"{path}?limit=1"
        while link:
            answer = me.get(link)
            assert answer.headers["X-Total-Count"] == str(len(ids)), path
            paged += [one["id"] for one in answer.json]
            found = re.search(r'<[^>]*/api/v1alpha1([^>]*)>; rel="next"', answer.headers.get("Link", ""))
            link = found[1] if found else ""
        assert paged == ids, path
        assert ids, path
        # The key of what is another's is a place like any other.
        behind = me.get(f"{path}?after={key}")
        assert behind.status == 200, path
        assert {one["id"] for one in behind.json} <= set(ids), path


def test_lists_queries_and_the_feed_hold_nothing_of_others(place: Place) -> None:
    rights = [
        {"action": "*", "resource": "*", "tenantId": place.mine.ids["tenants"]},
        {"action": "*", "resource": "*", "cellId": place.mine.ids["cells"]},
    ]
    me = place.user("of-a-tenant-and-a-cell", rights)
    others = {
        place.theirs.ids[name]
        for name in ("tenants", "cells", "dataspace-profiles", "deployments", "participant-profiles", "orchestrations")
    }
    looked = set()
    for function in GUARDED:
        if "{" in function.path or (function.method != "GET" and function.lists is None):
            continue
        kinds = {resource for _, resource in function.rights}
        answer = call(me, function, function.path, {"predicate": "true"} if function.method == "POST" else None)
        if not kinds & BOUNDED:
            assert answer.status == 403, function.name
            continue
        assert answer.status == 200, function.name
        assert not {one for one in others if one in answer.text}, function.name
        assert (
            place.mine.ids["tenants"] in answer.text
            or place.mine.ids["cells"] in answer.text
            or (place.mine.ids["orchestrations"] in answer.text)
        ), function.name
        if function.lists is not None:
            assert answer.headers["X-Total-Count"] == str(len(answer.json)), function.name
        looked.add(function.name)
    assert {"list_tenants", "query_participant_profiles", "list_events", "query_orchestrations", "list_cells"} <= looked


def test_a_tenants_administrator_works_with_what_is_theirs(place: Place) -> None:
    me = place.user("of-a-tenant", [{"action": "*", "resource": "*", "tenantId": place.mine.ids["tenants"]}])
    mine = place.mine
    assert me.patch(mine.tenant, {"properties": {"n": 2}}).json["properties"] == {"n": 2}
    profile = f"{mine.profiles}/{mine.ids['participant-profiles']}"
    assert me.get(profile).status == 200
    assert me.patch(profile, {"properties": {"n": 2}}).json["properties"]["n"] == 2
    run = f"/orchestrations/{mine.ids['orchestrations']}"
    assert me.get(run).status == 200
    assert me.get(f"{run}/history").status == 200
    for action in ("pause", "resume"):
        assert me.post(f"{run}/{action}", {"reason": "because"}).status == 200
    assert me.post(mine.profiles, {"identifier": "did:web:another"}).status == 202
    assert me.post("/tenants", {}).status == 403
    assert me.get("/users").status == 403


def test_the_audit_trail_is_told_to_a_tenants_administrator_as_far_as_it_is_theirs(place: Place) -> None:
    mine, theirs = place.mine, place.theirs
    me = place.user("of-a-tenant", [{"action": "*", "resource": "*", "tenantId": mine.ids["tenants"]}])
    names = ("tenants", "participant-profiles", "orchestrations")
    told = me.get("/audit?limit=1000").json
    assert {(one["kind"], one["entityId"]) for one in told if one["action"] in {"create", "start"}} >= {
        (name, mine.ids[name]) for name in names
    }
    assert {one["kind"] for one in told} == set(names)
    for name in names:
        asked = {"predicate": f"entityId = '{theirs.ids[name]}'"}
        assert place.platform.post("/audit/query", asked).json
        answer = me.post("/audit/query", asked)
        assert (answer.status, answer.json, answer.headers["X-Total-Count"]) == (200, [], "0")
        subject = f"{name}/{mine.ids[name]}"
        assert me.post("/audit/erase", {"reason": "because", "subject": subject}).status == 403
    assert me.post("/audit/erase", {"reason": "because", "actor": "of-a-tenant"}).status == 403
    assert {one["kind"] for one in place.user("auditor", AUDITOR).get("/audit?limit=1000").json} > set(names)


def test_rights_that_are_taken_count_at_once_in_this_process(place: Place) -> None:
    me = place.user("short-lived", [{"action": "read", "resource": "cell"}])
    assert me.get("/cells").status == 200
    place.user("short-lived", [])
    assert me.get("/cells").status == 403


def test_a_refusal_names_the_right_that_is_missing(place: Place) -> None:
    refused = place.user("nobody", []).get("/cells")
    assert refused.json["message"] == "Access not granted: no right to read cell"
    assert (refused.json["error"], refused.json["code"]) == ("Forbidden", 403)


def test_a_schedule_is_created_by_who_may_start_any_orchestration(place: Place) -> None:
    schedule = {"cron": "0 3 * * *", "orchestrationType": "some.type"}
    some = [{"action": "create", "resource": "schedule"}, {"action": "create", "resource": "orchestration"}]
    bounded = [some[0], some[1] | {"tenantId": place.mine.ids["tenants"]}]
    assert place.user("scheduler", bounded).post("/schedules", schedule).status == 403
    assert place.user("scheduler", some).post("/schedules", schedule).status == 201


def test_users_raise_nobody_above_themselves(place: Place) -> None:
    rights = [{"action": "*", "resource": "user"}, {"action": "*", "resource": "role"}]
    me = place.user("keeper", rights)
    (myself,) = me.get("/users?q=subject='keeper'").json
    for answer in (
        me.patch(f"/users/{myself['id']}", {"rights": EVERYTHING}),
        me.post("/users", {"subject": "straw", "rights": EVERYTHING}),
        me.post("/roles", {"name": "straw", "rights": EVERYTHING}),
        me.put(f"/roles/{ABSENT}", {"name": "straw", "rights": EVERYTHING}),
    ):
        assert answer.status == 403
        assert "nobody can give a right that they do not have: * *" in answer.json["message"]
    # Whoever is no user any more does not become a client that may do everything.
    assert me.delete(f"/users/{myself['id']}").status == 200
    assert me.get("/users").status == 403


def test_where_a_claim_names_users_unknown_ones_are_kept_out(
    serve: Callable[[Settings], None], database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    issuer = Issuer(tmp_path_factory.mktemp("issuer"))
    serve(Settings.from_environ({**issuer.environ, "CFM_DATABASE_URL": database_url, "CFM_AUTH_USER_CLAIM": "email"}))

    def bearing(**claims: str) -> Api:
        return Api({"Authorization": f"Bearer {issuer.token(claims=claims)}"})

    machine = bearing()
    right = {"action": "read", "resource": "tenant"}
    assert machine.post("/users", {"subject": "a@acme.example", "rights": [right]}).status == 201
    assert bearing(email="a@acme.example").get("/tenants").status == 200
    assert bearing(email="a@acme.example").get("/cells").status == 403
    assert bearing(email="b@acme.example").get("/tenants").status == 403


@pytest.mark.parametrize("store", ["memory", "postgres"])
def test_rights_hold_over_either_store(
    serve: Callable[[Settings], None], database_url: str, tmp_path_factory: pytest.TempPathFactory, store: str
) -> None:
    issuer = Issuer(tmp_path_factory.mktemp("issuer"))
    serve(Settings.from_environ({**issuer.environ, "CFM_DATABASE_URL": database_url, "CFM_STORE": store}))
    platform = Api({"Authorization": f"Bearer {issuer.token()}"})
    mine, other = (platform.post("/tenants", {}).json["id"] for _ in range(2))
    right = {"action": "*", "resource": "*", "tenantId": mine}
    assert platform.post("/users", {"subject": "alice", "rights": [right]}).status == 201
    alice = Api({"Authorization": f"Bearer {issuer.token(claims={'sub': 'alice'})}"})
    assert [one["id"] for one in alice.get("/tenants").json] == [mine]
    assert (alice.get(f"/tenants/{mine}").status, alice.get(f"/tenants/{other}").status) == (200, 404)
    assert alice.get("/orchestrations").json == []
