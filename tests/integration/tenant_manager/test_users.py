from __future__ import annotations

import pytest

from cfm_core.errors import CfmError, ConflictError
from cfm_core.store.database import Database
from cfm_core.store.paging import Listing
from cfm_core.tenancy.roles import store as roles
from cfm_core.tenancy.users import store as users
from tests.integration.tenant_manager.api import Api

ABSENT = "00000000-0000-4000-8000-000000000000"
READ = {"action": "read", "resource": "tenant"}


def test_a_role_is_created_read_changed_replaced_listed_and_deleted(api: Api) -> None:
    created = api.post("/roles", {"NAME": "operator", "rights": [READ], "other": 1})
    path = f"/roles/{created.json['id']}"
    assert created.status == 201
    assert created.headers["Location"] == f"/api/v1alpha1{path}"
    assert created.headers["ETag"] == '"0"'
    assert "/other" in created.headers["Warning"]
    assert created.json == {"id": created.json["id"], "version": 0, "name": "operator", "rights": [READ]}
    assert api.get(path).text == created.text
    changed = api.patch(path, {"description": "who looks", "properties": {"n": 1}})
    assert (changed.status, changed.headers["ETag"]) == (200, '"1"')
    replaced = api.request("PUT", path, {"name": "watcher"})
    assert replaced.json == {"id": created.json["id"], "version": 2, "name": "watcher", "rights": []}
    listed = api.get("/roles?q=name%20%3D%20%27watcher%27")
    assert (listed.json, listed.headers["X-Total-Count"]) == ([replaced.json], "1")
    assert api.post("/roles/query", {"predicate": "rights.action = 'read'"}).json == []
    assert (api.delete(path).status, api.get(path).status) == (200, 404)


def test_a_user_is_created_given_roles_and_deleted(api: Api) -> None:
    role = api.post("/roles", {"name": "operator"}).json["id"]
    created = api.post("/users", {"subject": "ann@example.org", "name": "Ann", "rights": [READ]})
    user = f"/users/{created.json['id']}"
    assert (created.status, created.headers["Location"]) == (201, f"/api/v1alpha1{user}")
    for _ in range(2):
        assigned = api.request("PUT", f"{user}/roles/{role}")
        assert (assigned.status, assigned.headers["ETag"], assigned.json["roleIds"]) == (200, '"1"', [role])
    assert api.get(f"/users?q=roleIds%20%3D%20%27{role}%27").json == [assigned.json]
    refused = api.delete(f"/roles/{role}")
    assert (refused.status, refused.json["usedBy"]) == (409, [{"kind": "user", "id": created.json["id"]}])
    for _ in range(2):
        withdrawn = api.delete(f"{user}/roles/{role}")
        assert (withdrawn.status, withdrawn.headers["ETag"], withdrawn.json["roleIds"]) == (200, '"2"', [])
    assert api.patch(user, {"roleIds": [role]}).json["roleIds"] == [role]
    assert api.request("PUT", f"{user}/roles/{ABSENT}").status == 404
    assert (api.delete(user).status, api.get(user).status) == (200, 404)
    assert api.delete(f"/roles/{role}").status == 200


@pytest.mark.parametrize(
    ("path", "document", "pointer"),
    [
        ("/roles", {}, "/name"),
        ("/roles", {"name": " "}, "/name"),
        ("/roles", {"name": "r", "rights": {}}, "/rights"),
        ("/roles", {"name": "r", "rights": [READ, {"action": "read"}]}, "/rights/1/resource"),
        ("/roles", {"name": "r", "rights": [READ | {"action": "own"}]}, "/rights/0/action"),
        ("/roles", {"name": "r", "rights": [READ | {"tenantId": "acme"}]}, "/rights/0/tenantId"),
        ("/roles", {"name": "r", "rights": [READ | {"vpaId": ABSENT}]}, "/rights/0"),
        ("/users", {"name": "Ann"}, "/subject"),
        ("/users", {"subject": "u", "rights": [{"resource": "vpa"}]}, "/rights/0/action"),
        ("/users", {"subject": "u", "roleIds": [1]}, "/roleIds/0"),
    ],
)
def test_what_is_malformed_is_pointed_at(api: Api, path: str, document: object, pointer: str) -> None:
    answer = api.post(path, document)
    assert (answer.status, [error["pointer"] for error in answer.json["errors"]]) == (400, [pointer])
    assert api.get(path).text == "[]"


def test_an_unknown_role_and_a_taken_name_are_refused(api: Api) -> None:
    refused = api.post("/users", {"subject": "u", "roleIds": [ABSENT]})
    assert (refused.status, [error["pointer"] for error in refused.json["errors"]]) == (422, ["/roleIds"])
    for path, document in (("/roles", {"name": "r"}), ("/users", {"subject": "u"})):
        assert [api.post(path, document).status for _ in range(2)] == [201, 409]


def test_a_request_with_a_key_makes_one_user(api: Api) -> None:
    role = api.post("/roles", {"name": "r"}).json["id"]
    repeating = Api({"Idempotency-Key": "k"})
    first, second = (repeating.post("/users", {"subject": "u", "roleIds": [role]}) for _ in range(2))
    assert (first.status, second.text) == (201, first.text)
    assert second.headers["Idempotency-Replayed"] == "true"
    assert api.get("/users").json == [first.json]


def test_the_database_keeps_a_role_that_somebody_has_and_lets_users_go(api: Api, database: Database) -> None:
    role = api.post("/roles", {"name": "r"}).json["id"]
    user = api.post("/users", {"subject": "u", "roleIds": [role]}).json["id"]
    with pytest.raises(ConflictError, match=f"role {role} is in use by user {user}"):
        database.rows("DELETE FROM tenant_manager.roles")
    with pytest.raises(CfmError):
        database.rows("UPDATE tenant_manager.users SET role_ids = jsonb_build_array(:role::text)", role=ABSENT)
    database.rows("DELETE FROM tenant_manager.users")
    assert database.rows("SELECT * FROM tenant_manager.user_roles") == []
    database.rows("DELETE FROM tenant_manager.roles")


def test_the_database_keeps_the_rows_of_whatever_roles_a_user_has(api: Api, database: Database) -> None:
    first, second, third = (api.post("/roles", {"name": name}).json["id"] for name in "abc")
    user = api.post("/users", {"subject": "u", "roleIds": [first, second]}).json["id"]

    def rows() -> set[str]:
        rows = database.rows("SELECT user_id::text, role_id::text FROM tenant_manager.user_roles")
        assert {user_id for user_id, _ in rows} <= {user}
        return {role_id for _, role_id in rows}

    assert rows() == {first, second}
    api.request("PUT", f"/users/{user}", {"subject": "u", "roleIds": [second, third]})
    assert rows() == {second, third}
    api.delete(f"/users/{user}/roles/{third}")
    assert rows() == {second}
    api.patch(f"/users/{user}", {"roleIds": []})
    assert rows() == set()


@pytest.mark.parametrize(("listing", "path"), [(users.LISTING, "/users"), (roles.LISTING, "/roles")])
def test_a_page_counts_all_that_makes_an_entry_large(api: Api, database: Database, listing: Listing, path: str) -> None:
    text, rights = "x" * 2000, [READ | {"tenantId": f"{ABSENT[:-2]}{n}"} for n in range(10, 60)]
    common = {"name": text, "rights": rights, "properties": {"a": text}}
    role_ids = [api.post("/roles", {"name": f"r{n}"}).json["id"] for n in range(50)]
    own = {"subject": text, "roleIds": role_ids} if path == "/users" else {"description": text}
    shown = api.post(path, common | own)
    assert shown.status == 201
    rows = database.rows(f"SELECT {listing.bytes} FROM {listing.table} t")  # noqa: S608
    counted = max(count for (count,) in rows)
    assert counted > 0.95 * len(shown.text)
