"""The routes by which participants, and the dataspaces that they take part in, are changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.tenant_manager.api import Answer, Api, Fabric, deliver

ABSENT = "00000000-0000-4000-8000-000000000000"
CHOSEN = "11111111-2222-4333-8444-555555555555"


def respond(profile: str, manifest: str, kind: str = "deploy", **fields: Any) -> None:
    data = {
        "id": "r",
        "manifestId": manifest,
        "correlationId": profile,
        "orchestrationType": f"cfm.orchestration.vpa.{kind}",
        "success": True,
        "properties": {"participantContextId": "pc-1"},
    }
    event = {"specversion": "1.0", "id": "1", "source": "test", "type": "test", "data": data | fields}
    deliver("apply_orchestration_responses", [event])


def live(fabric: Fabric, identifier: str = "did:web:foo", **fields: Any) -> str:
    """The path of an active profile."""
    deployed = fabric.api.post(fabric.profiles, {"identifier": identifier} | fields).json
    respond(deployed["id"], deployed["orchestrationId"])
    return f"{fabric.profiles}/{deployed['id']}"


def orchestration_of(accepted: Answer) -> str:
    """The id at the end of the link where the work can be followed."""
    assert accepted.status == 202
    assert accepted.headers["Retry-After"] == "1"
    link, relation = accepted.headers["Link"].split("; ")
    base = "</api/v1alpha1/orchestrations/"
    assert (relation, link[: len(base)]) == ('rel="monitor"', base)
    return link[len(base) : -1]


def disposed(fabric: Fabric, path: str) -> None:
    manifest = orchestration_of(fabric.api.delete(path))
    respond(path.rsplit("/", 1)[1], manifest, "dispose")


def test_a_profile_is_disposed_deployed_again_disposed_and_purged(fabric: Fabric) -> None:
    api, path = fabric.api, live(fabric)
    assert api.get(path).headers["ETag"] == '"1"'
    early = api.delete(f"{path}?purge=true")
    assert (early.status, early.json["allowedActions"]) == (409, ["change", "dispose"])
    disposing = api.delete(path)
    assert (disposing.text, disposing.headers["ETag"]) == ("", '"2"')
    respond(path.rsplit("/", 1)[1], orchestration_of(disposing), "dispose")

    again = api.post(f"{path}/deploy")
    assert orchestration_of(again) == again.json["orchestrationId"]
    assert again.headers["ETag"] == '"4"'
    shown = {key: value for key, value in again.json.items() if key != "orchestrationId"}
    assert api.get(path).json == shown
    wrong = api.post(f"{path}/deploy", {})
    assert (wrong.status, wrong.json["allowedActions"], wrong.json["state"]) == (409, [], "pending")
    respond(shown["id"], again.json["orchestrationId"])
    disposed(fabric, path)

    purged = api.delete(f"{path}?purge=true")
    assert (purged.status, purged.text, purged.headers["Content-Type"]) == (200, "", "application/json")
    assert [api.get(path).status, api.delete(path).status, api.delete(f"{path}?purge=true").status] == [404] * 3
    assert api.delete(f"/tenants/{fabric.tenant}").status == 200


@pytest.mark.parametrize("query", ["purge=yes", "purge=", "purge=1"])
def test_a_purge_that_is_unclear_does_nothing(fabric: Fabric, query: str, contents: Callable[[], list[str]]) -> None:
    path = live(fabric)
    before = contents()
    answer = fabric.api.delete(f"{path}?{query}")
    assert (answer.status, answer.json["errors"][0]["pointer"]) == (400, "/purge")
    assert contents() == before


def test_a_profile_that_failed_is_deployed_again_with_changes(fabric: Fabric) -> None:
    api, deployed = fabric.api, fabric.deploy()
    respond(deployed["id"], deployed["orchestrationId"], success=False, errorDetail="no space")
    path = f"{fabric.profiles}/{deployed['id']}"
    diff = {"participantRoles": {fabric.dataspace: ["oem"]}, "VPAPROPERTIES": {"cfm.issuer": {"k": 1}}}
    again = api.post(f"{path}/deploy", diff)
    assert (again.json["participantRoles"], again.json["error"]) == ({fabric.dataspace: ["oem"]}, True)
    respond(deployed["id"], again.json["orchestrationId"])
    assert (api.get(path).json["error"], "errorDetail" in api.get(path).json) == (False, False)


def test_a_change_of_properties_is_done_at_once(fabric: Fabric) -> None:
    api, path = fabric.api, live(fabric)
    changed = api.patch(path, {"properties": {"a": 1, "b": 2}, "removed": ["b", "cfm.vpa.state"]})
    assert (changed.status, changed.headers["ETag"]) == (200, '"2"')
    assert "Link" not in changed.headers
    assert changed.json == api.get(path).json
    assert changed.json["properties"] == {"a": 1, "cfm.vpa.state": {"participantContextId": "pc-1"}}


def test_a_change_of_services_is_accepted_and_can_be_followed(fabric: Fabric) -> None:
    api, path = fabric.api, live(fabric)
    changed = api.patch(path, {"vpas": [{"type": "cfm.dataplane", "properties": {"k": 1}}]})
    assert orchestration_of(changed) == changed.json["orchestrationId"]
    assert changed.headers["ETag"] == '"2"'
    assert [vpa["type"] for vpa in changed.json["vpas"]][-1] == "cfm.dataplane"
    wrong = api.patch(path, {"vpas": [{"type": "cfm.dataplane"}]})
    assert (wrong.status, wrong.json["allowedActions"]) == (409, [])
    respond(changed.json["id"], changed.json["orchestrationId"])
    assert {vpa["state"] for vpa in api.get(path).json["vpas"]} == {"active"}


def test_a_client_may_send_back_the_whole_profile(fabric: Fabric, contents: Callable[[], list[str]]) -> None:
    path = live(fabric, participantRoles={fabric.dataspace: ["oem"]}, vpaProperties={"cfm.connector": {"k": 1}})
    shown, before = fabric.api.get(path), contents()
    answer = fabric.api.patch(path, shown.json)
    assert (answer.status, answer.text) == (200, shown.text)
    assert contents() == before
    edited = fabric.api.patch(path, shown.json | {"participantRoles": {}, "version": 77, "identifier": "did:other"})
    assert (edited.status, edited.json["identifier"], edited.json["participantRoles"]) == (202, "did:web:foo", {})


def test_what_is_asked_of_another_version_is_not_done(fabric: Fabric, contents: Callable[[], list[str]]) -> None:
    path = live(fabric)
    dataspace = f"/dataspace-profiles/{fabric.dataspace}"
    (deployment,) = fabric.api.get(f"{dataspace}/deployments").json
    before = contents()
    stale = Api({"If-Match": '"0"'})
    requests: list[tuple[str, str, Any]] = [
        ("PATCH", path, {"properties": {"k": 1}}),
        ("POST", f"{path}/deploy", None),
        ("DELETE", path, None),
        ("DELETE", f"{path}?purge=true", None),
        ("PUT", dataspace, {}),
        ("DELETE", dataspace, None),
        ("POST", f"{dataspace}/deployments", {"cellId": fabric.cell}),
        ("DELETE", f"{dataspace}/deployments/{deployment['id']}", None),
    ]
    for method, target, body in requests:
        answer = stale.request(method, target, body)
        assert (answer.status, answer.json["code"]) == (412, 412), (method, target)
    assert contents() == before
    assert Api({"If-Match": '"1"'}).delete(path).status == 202


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"vpas": [{"type": ""}]}, "/vpas/0/type"),
        ({"vpas": [{"type": "x"}, {}]}, "/vpas/1/type"),
        ({"vpas": [{"type": "x", "cellId": 5}]}, "/vpas/0/cellId"),
        ({"vpas": [{"type": "x", "properties": []}]}, "/vpas/0/properties"),
        ({"vpas": {"type": "x"}}, "/vpas"),
        ({"participantRoles": {"a": 1}}, "/participantRoles/a"),
        ({"dataspaceProfileIds": [1]}, "/dataspaceProfileIds/0"),
        ({"vpaProperties": {"a": 1}}, "/vpaProperties/a"),
    ],
)
def test_what_is_malformed_is_pointed_at(
    fabric: Fabric, fields: dict[str, Any], pointer: str, contents: Callable[[], list[str]]
) -> None:
    path = live(fabric)
    before = contents()
    for method, target, body in (
        ("POST", fabric.profiles, {"identifier": "did:other"} | fields),
        ("PATCH", path, fields),
        ("POST", f"{path}/deploy", fields),
    ):
        answer = fabric.api.request(method, target, body)
        assert (answer.status, [error["pointer"] for error in answer.json["errors"]]) == (400, [pointer])
    assert contents() == before


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"vpas": [{"type": "x", "cellId": ABSENT}]}, "/vpas/0/cellId"),
        ({"vpas": [{"type": "x"}] * 65}, "/vpas"),
        ({"dataspaceProfileIds": [ABSENT]}, "/dataspaceProfileIds/0"),
        ({"participantRoles": {ABSENT: []}}, f"/participantRoles/{ABSENT}"),
    ],
)
def test_what_the_model_refuses_is_pointed_at(
    fabric: Fabric, fields: dict[str, Any], pointer: str, contents: Callable[[], list[str]]
) -> None:
    path = live(fabric)
    before = contents()
    for method, target, body in (
        ("POST", fabric.profiles, {"identifier": "did:other"} | fields),
        ("PATCH", path, fields),
    ):
        answer = fabric.api.request(method, target, body)
        assert (answer.status, [error["pointer"] for error in answer.json["errors"]]) == (422, [pointer])
    assert contents() == before


@pytest.mark.parametrize("unknown", [ABSENT, "no-uuid", "%00", "a%00b", "%27", "%ff"])
def test_an_unknown_id_is_not_found(fabric: Fabric, unknown: str, contents: Callable[[], list[str]]) -> None:
    path, other = live(fabric), fabric.api.post("/tenants", {}).json["id"]
    foreign = path.replace(fabric.tenant, other)
    before = contents()
    for method, target, body in (
        *(("PATCH", f"{base}", {"properties": {"k": 1}}) for base in (f"{fabric.profiles}/{unknown}", foreign)),
        *(("POST", f"{base}/deploy", None) for base in (f"{fabric.profiles}/{unknown}", foreign)),
        *(("DELETE", f"{base}?purge=true", None) for base in (f"{fabric.profiles}/{unknown}", foreign)),
        ("GET", f"/dataspace-profiles/{unknown}/deployments", None),
        ("DELETE", f"/dataspace-profiles/{unknown}/deployments/{ABSENT}", None),
        ("DELETE", f"/dataspace-profiles/{fabric.dataspace}/deployments/{unknown}", None),
    ):
        answer = fabric.api.request(method, target, body)
        assert (answer.status, answer.json["code"]) == (404, 404), (method, target)
    assert contents() == before


def test_a_dataspace_profile_is_put_and_replaced(fabric: Fabric) -> None:
    api, path = fabric.api, f"/dataspace-profiles/{CHOSEN}"
    created = api.request("PUT", path, {"artifacts": ["a"]})
    assert (created.status, created.headers["Location"]) == (201, f"/api/v1alpha1{path}")
    assert created.json == {"id": CHOSEN, "version": 0, "dataspaceSpec": {}, "artifacts": ["a"]}
    replaced = api.request("PUT", path, {"properties": {"k": 1}})
    assert (replaced.status, replaced.headers["ETag"]) == (200, '"1"')
    assert replaced.json == {"id": CHOSEN, "version": 1, "dataspaceSpec": {}, "properties": {"k": 1}}
    assert api.get(path).text == replaced.text
    assert api.request("PUT", "/dataspace-profiles/no-uuid", {}).status == 400
    assert Api({"If-None-Match": "*"}).request("PUT", path, {}).status == 412


def test_a_dataspace_profile_is_undeployed_where_nobody_uses_it(fabric: Fabric) -> None:
    api, path = fabric.api, live(fabric)
    deployments = f"/dataspace-profiles/{fabric.dataspace}/deployments"
    listed = api.get(deployments)
    assert listed.headers["X-Total-Count"] == "1"
    assert listed.json == api.get(f"/dataspace-profiles/{fabric.dataspace}").json["deployments"]
    target = f"{deployments}/{listed.json[0]['id']}"
    used = api.delete(target)
    assert (used.status, used.json["usedBy"]) == (
        409,
        [{"kind": "participantProfile", "id": path.rsplit("/", 1)[1]}],
    )
    disposed(fabric, path)
    gone = api.delete(target)
    assert (gone.status, gone.text) == (200, "")
    assert (api.delete(target).status, api.get(deployments).json) == (404, [])
    refused = api.post(f"{path}/deploy")
    assert refused.status == 422
    assert "no active cell found that any dataspace profile is deployed to" in refused.json["detail"]
