from __future__ import annotations

from typing import Any

import pytest

from cfm_core.contracts import subjects
from cfm_core.contracts.activity import ActivityDispatch
from cfm_core.contracts.orchestration import DEPLOY, DISPOSE
from cfm_core.store.database import Database
from tests.contract.provisioning.world import all_dispatches, ending
from tests.integration.provisioning.api import call, deliver

pytestmark = pytest.mark.usefixtures("served")

VPA = {
    "id": "vpa-template",
    "activities": {
        DEPLOY: [{"id": "a", "type": "t"}, {"id": "b", "type": "t", "dependsOn": ["a"]}],
        DISPOSE: [{"id": "u", "type": "t"}],
    },
}


def define() -> None:
    assert call("POST", "/activity-definitions", {"type": "t"}).status == 201
    assert call("POST", "/orchestration-definitions", VPA).status == 201


def manifest(**changed: Any) -> dict[str, Any]:
    return {"id": "o", "correlationId": "c", "orchestrationType": DEPLOY, "payload": {"k": 1}} | changed


def test_activity_definitions_are_posted_listed_and_deleted() -> None:
    full = {
        "type": "b.c",
        "description": "D",
        "inputSchema": {"required": ["x"]},
        "outputSchema": {"properties": {}},
        "timeout": "PT20S",
        "retry": {"maxAttempts": 2, "backoff": "PT1S", "backoffLimit": "PT10S"},
    }
    posted = call("POST", "/activity-definitions", full)
    assert (posted.status, posted.text, posted.headers["Content-Type"]) == (201, "", "application/json")
    assert call("POST", "/activity-definitions", {"TYPE": "a", "inputSchema": None, "unknown": 1}).status == 201
    assert call("GET", "/activity-definitions").json == [{"type": "a"}, full]
    deleted = call("DELETE", "/activity-definitions/b.c")
    assert (deleted.status, deleted.text) == (200, "")
    assert call("DELETE", "/activity-definitions/b.c").status == 404
    assert call("GET", "/activity-definitions").json == [{"type": "a"}]


def test_an_activity_definition_is_put_read_and_replaced_by_its_type() -> None:
    created = call("PUT", "/activity-definitions/b.c", {"description": "D"})
    assert (created.status, created.text) == (201, '{"type":"b.c","description":"D"}')
    path = "/api/v1alpha1/activity-definitions/b.c"
    assert (created.headers["Location"], created.headers["ETag"]) == (path, '"0"')
    assert call("POST", "/activity-definitions", {"type": "b.c"}).headers["Location"] == path
    read = call("GET", "/activity-definitions/b.c")
    assert (read.status, read.json, read.headers["ETag"]) == (200, {"type": "b.c"}, '"1"')
    known = call("GET", "/activity-definitions/b.c", headers={"If-None-Match": '"1"'})
    assert (known.status, known.text, known.headers["ETag"]) == (304, "", '"1"')
    replaced = call("PUT", "/activity-definitions/b.c", {"type": "b.c"}, {"If-Match": '"1"'})
    assert (replaced.status, replaced.headers["ETag"]) == (200, '"2"')
    for headers in ({"If-Match": '"1"'}, {"If-None-Match": "*"}):
        assert call("PUT", "/activity-definitions/b.c", {}, headers).status == 412
    assert call("DELETE", "/activity-definitions/b.c", headers={"If-Match": '"1"'}).status == 412
    assert call("DELETE", "/activity-definitions/b.c", headers={"If-Match": '"2"'}).status == 200
    assert call("GET", "/activity-definitions/b.c").status == 404
    assert call("PUT", "/activity-definitions/b.c", {}, {"If-Match": "*"}).status == 412


def test_a_document_that_is_put_may_repeat_the_key_of_its_path_and_no_other() -> None:
    for path, body in (
        ("/activity-definitions/b.c", {"type": "b.d"}),
        ("/orchestration-definitions/tpl", {"id": "tpl2", "activities": {}}),
    ):
        answer = call("PUT", path, body)
        assert (answer.status, len(answer.json["errors"])) == (400, 1)
        assert call("GET", path).status == 404


@pytest.mark.parametrize("key", ["nope", "a%00b", "%ff", "x" * 5000, "ö%27%22"])
def test_a_key_that_nothing_has_is_not_found(key: str) -> None:
    for collection in ("activity-definitions", "orchestration-definitions", "orchestrations"):
        assert call("GET", f"/{collection}/{key}").status == 404
    for collection in ("activity-definitions", "orchestration-definitions"):
        assert call("DELETE", f"/{collection}/{key}").status == 404
    assert call("GET", f"/orchestrations/{key}/history").status == 404
    assert call("POST", f"/orchestrations/{key}/activities/{key}/complete", {"token": "t"}).status == 404


@pytest.mark.parametrize("key", ["a%00b", "%20", "a%2eb..c", "t" * 257, "cfm-orchestration"])
def test_a_key_that_cannot_be_kept_is_a_bad_request(key: str) -> None:
    assert call("PUT", f"/activity-definitions/{key}", {}).status == 400


def test_lists_of_definitions_are_read_page_by_page_and_searched() -> None:
    for type_ in ("c", "a", "b"):
        assert call("PUT", f"/activity-definitions/{type_}", {"description": "D" * (type_ != "b")}).status == 201
        body = {"id": type_, "description": type_, "activities": {f"o.{type_}": [{"id": "1", "type": type_}]}}
        assert call("POST", "/orchestration-definitions", body).status == 201
    base = "http://localhost/api/v1alpha1/activity-definitions"
    page = call("GET", "/activity-definitions?q=description%20%3D%20'D'&limit=1")
    assert (page.text, page.headers["X-Total-Count"]) == ('[{"type":"a","description":"D"}]', "2")
    assert f'<{base}?q=description+%3D+%27D%27&offset=1&limit=1&after=a>; rel="next"' in page.headers["Link"]
    beyond = call("POST", "/activity-definitions/query", {"predicate": "description = 'D'", "after": "a"})
    assert [one["type"] for one in beyond.json] == ["c"]
    uncounted = call("GET", "/orchestration-definitions?limit=2&after=o.a", headers={"Prefer": "count=none"})
    assert [one["templateRef"] for one in uncounted.json] == ["b", "c"]
    assert "X-Total-Count" not in uncounted.headers
    found = call("POST", "/orchestration-definitions/query", {"predicate": "activities.type = 'b'"})
    assert (found.headers["X-Total-Count"], [one["templateRef"] for one in found.json]) == ("1", ["b"])
    for collection in ("activity-definitions", "orchestration-definitions", "orchestrations"):
        assert call("GET", f"/{collection}?offset=-1").status == 400
        assert call("GET", f"/{collection}?after=%00").status == 400
        assert call("GET", f"/{collection}?q=nope%20%3D%201").status == 400
        assert call("POST", f"/{collection}/query", {}).status == 400


def test_a_template_is_put_and_tagged() -> None:
    call("POST", "/activity-definitions", {"type": "t"})
    path = "/orchestration-definitions/my%20tpl%C3%B6"
    body = {"activities": {"x": [{"id": "a", "type": "t"}], "y": [{"id": "a", "type": "t"}]}}
    created = call("PUT", path, body, {"If-None-Match": "*"})
    assert (created.status, created.headers["Location"]) == (201, "/api/v1alpha1" + path)
    assert call("POST", "/orchestration-definitions", body | {"id": "my tplö"}).headers["Location"] == (
        "/api/v1alpha1" + path
    )
    read = call("GET", path)
    assert read.json == [
        {"activities": {type_: [{"id": "a", "type": "t"}]}, "templateRef": "my tplö"} for type_ in ("x", "y")
    ]
    tag = read.headers["ETag"]
    assert tag != created.headers["ETag"]
    assert call("GET", path, headers={"If-None-Match": tag}).status == 304
    less = body | {"id": "my tplö", "activities": {"x": body["activities"]["x"]}}
    assert call("PUT", path, less, {"If-Match": created.headers["ETag"]}).status == 412
    replaced = call("PUT", path, less, {"If-Match": tag})
    assert (replaced.status, len(replaced.json)) == (200, 1)
    assert call("DELETE", path, headers={"If-Match": tag}).status == 412
    assert call("DELETE", path, headers={"If-Match": replaced.headers["ETag"]}).status == 200
    assert call("GET", path).status == 404


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        {},
        {"type": ""},
        {"type": "a b"},
        {"type": "cfm.orchestration"},
        {"type": 1},
        {"type": "t", "inputSchema": []},
        {"type": "t", "timeout": "soon"},
        {"type": "t", "timeout": "PT0S"},
        {"type": "t", "retry": {"maxAttempts": 0}},
        {"type": "t", "description": "\0"},
    ],
    ids=str,
)
def test_a_wrong_activity_definition_is_a_bad_request(body: Any) -> None:
    answer = call("POST", "/activity-definitions", body)
    assert (answer.status, answer.json["error"], answer.json["code"]) == (400, "Bad Request", 400)


def test_an_install_job_can_post_everything_again() -> None:
    for template_id in ("first", "second"):
        assert call("POST", "/activity-definitions", {"type": "t"}).status == 201
        posted = call("POST", "/orchestration-definitions", VPA | {"id": template_id})
        assert (posted.status, posted.json) == (
            201,
            {"id": template_id, "description": "ID of the Orchestration Template"},
        )
    assert {one["templateRef"] for one in call("GET", "/orchestration-definitions").json} == {"second"}
    assert call("GET", "/orchestration-definitions/first").status == 404


def test_a_template_is_shown_and_deleted() -> None:
    define()
    shown = call("GET", "/orchestration-definitions/vpa-template")
    activities = VPA["activities"]
    assert isinstance(activities, dict)
    assert shown.json == [
        {"activities": {type_: activities[type_]}, "templateRef": "vpa-template"} for type_ in (DEPLOY, DISPOSE)
    ]
    in_use = call("DELETE", "/activity-definitions/t")
    assert in_use.status == 400
    assert "referenced by an orchestration definition" in in_use.json["message"]
    assert in_use.json["usedBy"] == [DEPLOY, DISPOSE]
    deleted = call("DELETE", "/orchestration-definitions/vpa-template")
    assert (deleted.status, deleted.text) == (200, "")
    assert call("DELETE", "/orchestration-definitions/vpa-template").status == 404
    assert call("DELETE", "/activity-definitions/t").status == 200


@pytest.mark.parametrize(
    "activities",
    [
        None,
        {},
        {"x": []},
        {"x": [{"id": "a", "type": "nope"}]},
        {"x": [{"id": "", "type": "t"}]},
        {"x": [{"type": "t"}]},
        {"x": [{"id": "a", "type": "t"}, {"id": "a", "type": "t"}]},
        {"x": [{"id": "a", "type": "t", "dependsOn": ["b"]}]},
        {"x": [{"id": "a", "type": "t", "dependsOn": ["b"]}, {"id": "b", "type": "t", "dependsOn": ["a"]}]},
        {"x": [{"id": "a\0", "type": "t"}]},
        {"": [{"id": "a", "type": "t"}]},
        [1],
    ],
    ids=str,
)
def test_a_template_that_cannot_run_is_a_bad_request(activities: Any) -> None:
    call("POST", "/activity-definitions", {"type": "t"})
    assert call("POST", "/orchestration-definitions", {"activities": activities}).status == 400
    assert call("GET", "/orchestration-definitions").json == []


def test_all_problems_of_a_template_are_answered_at_once() -> None:
    nodes = [{"id": "a", "type": "x.y", "dependsOn": ["b"]}, {"id": "c", "type": "x.z"}]
    answer = call("POST", "/orchestration-definitions", {"activities": {"o": nodes}})
    assert [one["pointer"] for one in answer.json["errors"]] == [
        "/activities/o/0/type",
        "/activities/o/0/dependsOn",
        "/activities/o/1/type",
    ]


def test_a_started_orchestration_is_answered_in_the_internal_form() -> None:
    define()
    started = call("POST", "/orchestrations", manifest())
    assert started.status == 202
    document = started.json
    assert document["steps"] == [
        {"activities": [{"id": "a", "type": "t", "discriminator": DEPLOY, "dependsOn": None}]},
        {"activities": [{"id": "b", "type": "t", "discriminator": DEPLOY, "dependsOn": ["a"]}]},
    ]
    assert {name: document[name] for name in ("id", "state", "correlationId", "definitionId", "orchestrationType")} == {
        "id": "o",
        "state": 1,
        "correlationId": "c",
        "definitionId": DEPLOY,
        "orchestrationType": DEPLOY,
    }
    assert (document["processingData"], document["outputData"], document["completed"]) == ({"k": 1}, {}, {})
    again = call("POST", "/orchestrations", manifest(payload={"k": 2}))
    assert (again.status, again.json) == (202, document)
    assert started.headers["Link"] == '</api/v1alpha1/orchestrations/o>; rel="monitor"'
    shown = call("GET", "/orchestrations/o").json
    assert shown["steps"][0] == {"activities": [{"id": "a", "type": "t"}]}


def test_an_orchestration_is_tagged_with_what_is_seen_of_it() -> None:
    define()
    (row,) = deliver("start_orchestrations", manifest()).outbox
    before = call("GET", "/orchestrations/o")
    tag = before.headers["ETag"]
    assert call("GET", "/orchestrations/o", headers={"If-None-Match": tag}).status == 304
    data = row.events[0]["data"]
    outcome = {name: data[name] for name in ("orchestrationId", "phase", "ord", "token")} | {"kind": "complete"}
    deliver("record_activity_results", outcome)
    after = call("GET", "/orchestrations/o", headers={"If-None-Match": tag})
    assert (after.status, after.json["completed"]) == (200, {"a": {}})
    assert after.headers["ETag"] != tag


def test_every_form_of_an_orchestration_is_as_declared() -> None:
    define()
    (row,) = deliver("start_orchestrations", manifest()).outbox
    data = row.events[0]["data"]
    failed = {"kind": "fatal", "reason": "broken", "values": {"n": None}}
    deliver(
        "record_activity_results", {name: data[name] for name in ("orchestrationId", "phase", "ord", "token")} | failed
    )
    assert call("GET", "/orchestrations/o").json["errorDetail"] == "activity a (t): broken"
    assert call("GET", "/orchestrations?q=state%20%3D%203").json[0]["id"] == "o"
    assert call("POST", "/orchestrations", manifest()).json["status"] == "compensating"
    (attempt,) = call("GET", "/orchestrations/o/history").json
    assert (attempt["outcome"], attempt["activityType"]) == ("fatal", "t")
    ended = call(
        "POST",
        "/orchestrations/o/activities/a/complete",
        {"token": ending(ActivityDispatch.model_validate(data)).token, "error": "no"},
    )
    assert ended.json == {"activityId": "a", "state": "failed"}


def test_what_the_api_dispatches_is_free_for_every_trigger(emptied: Database) -> None:
    define()
    call("POST", "/orchestrations", manifest())
    assert emptied.rows("SELECT subject, claimable_at <= now() FROM eventing.outbox") == [
        ["event.cfm.activity.t", True]
    ]


@pytest.mark.parametrize(
    "changed",
    [
        {"id": ""},
        {"id": None},
        {"id": "x" * 513},
        {"id": "\0"},
        {"correlationId": ""},
        {"orchestrationType": "nope"},
        {"orchestrationType": None},
        {"payload": []},
        {"payload": {"k": "\0"}},
    ],
    ids=str,
)
def test_a_wrong_manifest_is_a_bad_request(changed: dict[str, Any]) -> None:
    define()
    assert call("POST", "/orchestrations", manifest(**changed)).status == 400


def test_an_unknown_orchestration_is_not_found() -> None:
    assert call("GET", "/orchestrations/nope").status == 404


def test_posting_to_an_orchestration_is_not_allowed() -> None:
    answer = call("POST", "/orchestrations/o", {})
    assert (answer.status, answer.headers["Allow"]) == (405, "GET")
    assert (answer.json["error"], answer.json["code"]) == ("Method Not Allowed", 405)
    assert answer.json["message"] == "Method not allowed"


def test_orchestrations_are_queried_in_pages() -> None:
    define()
    for number in range(3):
        call("POST", "/orchestrations", manifest(id=f"o{number}"))
    answer = call("POST", "/orchestrations/query", {"predicate": "state = 1", "offset": 1, "limit": 1})
    assert (answer.status, answer.headers["X-Total-Count"]) == (200, "3")
    assert [one["id"] for one in answer.json] == ["o1"]
    got = call("GET", "/orchestrations?q=state+%3D+1&offset=1&limit=1")
    assert (got.text, got.headers["Link"]) == (answer.text, answer.headers["Link"])
    assert all(f'rel="{relation}"' in answer.headers["Link"] for relation in ("self", "next", "prev", "first", "last"))
    assert call("POST", "/orchestrations/query", {}).status == 400
    assert call("POST", "/orchestrations/query", {"predicate": "nope = 1"}).status == 400


def test_a_deployment_runs_through_the_functions_to_its_response() -> None:
    define()
    (row,) = deliver("start_orchestrations", manifest()).outbox
    tokens = []
    for _ in range(2):
        assert row.subject == "event.cfm.activity.t"
        data = row.events[0]["data"]
        tokens.append(data["token"])
        outcome = {name: data[name] for name in ("orchestrationId", "phase", "ord", "token")} | {
            "kind": "complete",
            "outputs": {data["activityId"]: True},
        }
        (row,) = deliver("record_activity_results", outcome).outbox
        assert deliver("record_activity_results", outcome).outbox == []
    assert row.subject == "event.cfm-orchestration-response"
    assert row.events[0]["data"]["properties"] == {"a": True, "b": True}
    assert deliver("sweep_orchestrations", None).text == "{}"
    assert len(set(tokens)) == 2


def test_an_event_that_cannot_be_taken_in_fails_alone() -> None:
    define()
    reply = deliver(
        "start_orchestrations",
        manifest(id="good"),
        {"id": "no type"},
        manifest(id="bad", payload={"k": "\0"}),
        manifest(id="also good"),
        ids=["1", "2", "3", "4"],
    )
    assert {id_: failure.status for id_, failure in reply.failures.items()} == {"2": 422, "3": 422}
    started = {one.orchestration_id for one in all_dispatches(reply.outbox)}
    assert started == {"good", "also good"}


@pytest.mark.parametrize(
    "nonsense",
    [
        {"activityType": "a\0b"},
        {"activityType": "t" * 257},
        {"timeout": 8.6e13},
        {"timeout": -5},
        {"timeout": 0},
        {"maxAttempts": 0},
        {"maxAttempts": 2**40},
        {"backoff": -1},
        {"backoffLimit": "P400D"},
    ],
)
def test_no_agent_announces_what_the_engine_cannot_hold_to(emptied: Database, nonsense: dict[str, Any]) -> None:
    good = {"activityType": "t", "timeout": 5, "maxAttempts": 2, "backoff": 1, "backoffLimit": 10}
    other = {**good, "activityType": "other"}
    on = [subjects.announcement("other"), subjects.announcement(nonsense.get("activityType", "t"))]
    reply = deliver("register_activity_types", other, {**good, **nonsense}, on=on)
    ((reason,),) = [[failure.reason] for failure in reply.failures.values()]
    assert next(iter(nonsense)) in reason
    assert emptied.rows("SELECT type FROM provision_manager.activity_type_policy") == [["other"]]


ANNOUNCEMENT = {
    "activityType": "t",
    "timeout": "PT5S",
    "maxAttempts": 2,
    "backoff": "PT1S",
    "backoffLimit": "PT10S",
}
ANNOUNCED = "SELECT type, timeout_seconds, max_attempts FROM provision_manager.activity_type_policy ORDER BY type"


def test_agents_announce_their_defaults(emptied: Database) -> None:
    on = [subjects.announcement("t")] * 2
    for _ in "first", "repeated":
        assert deliver("register_activity_types", ANNOUNCEMENT, ANNOUNCEMENT, on=on).text == "{}"
        assert emptied.rows(ANNOUNCED) == [["t", 5.0, 2]]


@pytest.mark.parametrize(
    "published",
    [
        *(subjects.announcement(name) for name in ("u", "t.u", "u.t", "tt", "T")),
        subjects.ACTIVITY_TYPES,
        subjects.ACTIVITY_TYPES.removesuffix(".>"),
        subjects.activity("t"),
        "",
    ],
)
def test_an_announcement_for_another_type_is_refused_and_those_beside_it_count(
    emptied: Database, published: str
) -> None:
    assert deliver("register_activity_types", ANNOUNCEMENT, on=[subjects.announcement("t")]).failures == {}
    beside = [ANNOUNCEMENT | {"activityType": name} for name in ("a", "t.u")]
    forged = ANNOUNCEMENT | {"timeout": "PT1S", "maxAttempts": 1}
    on = [subjects.announcement("a"), published, subjects.announcement("t.u")]
    reply = deliver("register_activity_types", beside[0], forged, beside[1], on=on)
    ((refused, failure),) = reply.failures.items()
    assert (refused, failure.status, failure.kept) == ("event 1", 422, False)
    assert failure.reason == f"nobody announces activity type t on {published or 'no subject'}"
    assert emptied.rows(ANNOUNCED) == [["a", 5.0, 2], ["t", 5.0, 2], ["t.u", 5.0, 2]]


def test_an_orchestration_tells_how_far_its_activities_are_and_what_may_be_done_to_it() -> None:
    define()
    assert call("POST", "/orchestrations", manifest()).status == 202
    shown = call("GET", "/orchestrations/o").json
    assert (shown["status"], shown["statusReason"]) == ("running", "a is with its agent")
    assert shown["allowedActions"] == ["pause", "cancel"]
    first, second = shown["activities"]
    assert (first["id"], first["state"], first["attempt"], first["maxAttempts"]) == ("a", "dispatched", 1, 5)
    assert (second["id"], second["state"], second["dependsOn"]) == ("b", "blocked", ["a"])
    assert first["dueAt"] > first["dispatchedAt"]
    assert "dueAt" not in second


def test_operators_orders_are_answered_with_the_new_state_and_noted() -> None:
    define()
    tag = call("POST", "/orchestrations", manifest()).headers.get("ETag") or '"0"'
    order = {"reason": "the issuer is away"}
    assert call("POST", "/orchestrations/o/pause", {}).status == 400
    assert call("POST", "/orchestrations/nope/pause", order).status == 404
    paused = call("POST", "/orchestrations/o/pause", order, {"If-Match": tag, "X-Request-Id": "r1"})
    assert (paused.status, paused.json["status"], paused.json["state"]) == (200, "paused", 1)
    assert call("POST", "/orchestrations/o/resume", order, {"If-Match": tag}).status == 412
    resumed = call("POST", "/orchestrations/o/resume", order)
    assert (resumed.json["status"], resumed.headers["ETag"] > paused.headers["ETag"]) == ("running", True)
    refused = call("POST", "/orchestrations/o/retry", order)
    assert (refused.status, refused.json["allowedActions"]) == (409, ["pause", "cancel"])
    resolved = call("POST", "/orchestrations/o/activities/a/resolve", order | {"values": {"by": "hand"}})
    assert resolved.json["processingData"] == {"k": 1, "by": "hand"}
    cancelled = call("POST", "/orchestrations/o/cancel", order | {"compensate": False})
    assert (cancelled.json["status"], cancelled.json["errorDetail"]) == ("cancelling", "cancelled: the issuer is away")
    assert call("POST", "/orchestrations/o/compensate", order | {"force": True}).status == 409
    notes = call("GET", "/audit?q=orchestrationId+%3D+'o'")
    assert [one["action"] for one in notes.json] == ["start", "pause", "resume", "resolve", "cancel"]
    assert notes.json[1]["requestId"] == "r1"
    assert {one["actor"] for one in notes.json} == {"anonymous"}
    assert call("POST", "/audit/query", {"predicate": "action = 'cancel'"}).headers["X-Total-Count"] == "1"


def test_an_order_that_is_sent_again_takes_effect_once() -> None:
    define()
    call("POST", "/orchestrations", manifest())
    headers = {"Idempotency-Key": "k1"}
    first = call("POST", "/orchestrations/o/pause", {"reason": "r"}, headers)
    call("POST", "/orchestrations/o/resume", {"reason": "r"})
    again = call("POST", "/orchestrations/o/pause", {"reason": "r"}, headers)
    assert (again.status, again.text, again.headers["Idempotency-Replayed"]) == (200, first.text, "true")
    assert call("GET", "/orchestrations/o").json["status"] == "running"


def test_activity_types_are_shown_paused_and_resumed() -> None:
    define()
    limited = {"limits": {"concurrency": 1, "concurrencyPerTenant": 1, "consecutiveFailures": 5}}
    assert call("PUT", "/activity-definitions/t", limited).json == {"type": "t"} | limited
    assert call("PUT", "/activity-definitions/t", {"limits": {"concurrency": 0}}).status == 400
    for id_ in ("o", "p"):
        call("POST", "/orchestrations", manifest(id=id_, payload={"cfm.tenant.id": "x"}))
    queued = call("GET", "/orchestrations/p").json
    assert (queued["status"], queued["statusReason"]) == ("queued", "a is held back")
    shown = call("GET", "/activity-types").json
    assert shown == [
        {
            "type": "t",
            "version": 0,
            "status": "no-agent",
            "statusReason": "no agent has announced itself",
            "concurrency": 1,
            "concurrencyPerTenant": 1,
            "failures": 0,
            "counts": [{"tenantId": "x", "states": {"dispatched": 1, "ready": 1}}],
        }
    ]
    paused = call("POST", "/activity-types/t/pause", {"reason": "maintenance"}, {"If-Match": '"0"'})
    assert (paused.status, paused.json["status"], paused.headers["ETag"]) == (200, "paused", '"1"')
    assert call("POST", "/activity-types/t/resume", {"reason": "r"}, {"If-Match": '"0"'}).status == 412
    assert call("POST", "/activity-types/t/resume", {"reason": "r"}).json["status"] == "no-agent"
    assert call("GET", "/activity-types/nope").status == 404
    rates = {"rate": {"count": 5, "per": "PT1S"}, "ratePerTenant": {"count": 1, "per": "PT1H"}}
    assert call("PUT", "/activity-definitions/t", {"limits": rates}).json == {"type": "t", "limits": rates}
    shown = call("GET", "/activity-types/t").json
    assert {name: shown[name] for name in rates} == rates
    bad = call("PUT", "/activity-definitions/t", {"limits": {"rate": {"count": 0}, "ratePerTenant": {"per": "soon"}}})
    assert bad.status == 400
    assert {one["pointer"] for one in bad.json["errors"]} >= {"/limits/rate/per", "/limits/ratePerTenant/per"}
    assert call("POST", "/activity-types/nope/pause", {"reason": "r"}).status == 404
    assert [one["action"] for one in call("GET", "/audit?q=activityType+%3D+'t'").json] == ["pause", "resume"]


def test_templates_stand_side_by_side_and_a_manifest_names_one() -> None:
    call("POST", "/activity-definitions", {"type": "t"})
    for id_ in ("one", "two"):
        body = {"activities": {"x": [{"id": id_, "type": "t"}]}}
        assert call("PUT", f"/orchestration-definitions/{id_}", body).status == 201
    assert len(call("GET", "/orchestration-definitions").json) == 2
    named = call("POST", "/orchestrations", manifest(id="a", orchestrationType="x", templateRef="one"))
    assert [one["activities"][0]["id"] for one in named.json["steps"]] == ["one"]
    newest = call("POST", "/orchestrations", manifest(id="b", orchestrationType="x"))
    assert [one["activities"][0]["id"] for one in newest.json["steps"]] == ["two"]
    unknown = call("POST", "/orchestrations", manifest(id="c", orchestrationType="x", templateRef="three"))
    assert (unknown.status, unknown.json["errors"][0]["pointer"]) == (400, "/templateRef")


def test_a_template_is_switched_off_and_on() -> None:
    call("POST", "/activity-definitions", {"type": "t"})
    path = "/orchestration-definitions/tpl"
    tag = call("PUT", path, {"activities": {"x": [{"id": "a", "type": "t"}]}}).headers["ETag"]
    off = call("PATCH", path, {"active": False}, {"If-Match": tag})
    assert (off.status, [one["active"] for one in off.json]) == (200, [False])
    assert call("GET", "/orchestration-definitions?q=active%20%3D%20false").json == off.json
    for headers, status in (({"If-Match": tag}, 412), ({"If-Match": off.headers["ETag"]}, 200)):
        assert call("PATCH", path, {"active": True}, headers).status == status
    assert "active" not in call("GET", path).json[0]
    wrong: tuple[Any, ...] = ({}, {"active": "perhaps"}, {"active": None}, [], b"{")
    for body in wrong:
        assert call("PATCH", path, body).status == 400
    assert call("PATCH", "/orchestration-definitions/nope", {"active": True}).status == 404
    refused = call("POST", "/orchestration-definitions", {"active": "x", "activities": {}})
    assert refused.status == 400


def test_inputs_are_names_or_mappings_and_shown_as_these() -> None:
    call("POST", "/activity-definitions", {"type": "t"})
    path = "/orchestration-definitions/tpl"
    given = ["k", {"source": "a.k", "target": "j"}]
    activities = [{"id": "a", "type": "t"}, {"id": "b", "type": "t", "dependsOn": ["a"], "inputs": given}]
    assert call("PUT", path, {"activities": {"x": activities}}).status == 201
    ((_, shown),) = (one["activities"]["x"] for one in call("GET", path).json)
    assert shown["inputs"] == [{"source": "k", "target": "k"}, {"source": "a.k", "target": "j"}]
    assert call("GET", "/orchestration-definitions?q=activities.inputs.source%20%3D%20'a.k'").status == 200
    for wrong, pointer in (
        ([1], "/activities/x/0/inputs/0"),
        ([{"source": "k"}], "/activities/x/0/inputs/0/target"),
        ("k", "/activities/x/0/inputs"),
    ):
        refused = call("PUT", path, {"activities": {"x": [{"id": "a", "type": "t", "inputs": wrong}]}})
        assert (refused.status, [one["pointer"] for one in refused.json["errors"]]) == (400, [pointer])


def test_what_is_doubtful_in_a_template_is_a_warning() -> None:
    call("POST", "/activity-definitions", {"type": "t", "inputSchema": {"required": ["k\n"]}})
    body = {"id": "tpl", "descripton": "D", "activities": {"x": [{"id": "a", "type": "t"}]}}
    posted = call("POST", "/orchestration-definitions", body)
    assert posted.status == 201
    first, second = posted.headers["Warning"].split(", 299")
    assert first == "299 - \"/activities/x/0: nothing that 'a' depends on delivers 'k\\\\n'\""
    assert "descripton" in second
    put = call("PUT", "/orchestration-definitions/tpl", body)
    assert (put.status, "delivers" in put.headers["Warning"]) == (200, True)


def test_a_schema_that_users_cannot_bear_is_refused_with_what_and_where() -> None:
    call("POST", "/activity-definitions", {"type": "a", "outputSchema": {"properties": {"k": {"type": "string"}}}})
    call("POST", "/activity-definitions", {"type": "b", "inputSchema": {"required": ["k"]}})
    activities = [{"id": "1", "type": "a"}, {"id": "2", "type": "b", "dependsOn": ["1"]}]
    assert call("POST", "/orchestration-definitions", {"id": "tpl", "activities": {DEPLOY: activities}}).status == 201
    refused = call("POST", "/activity-definitions", {"type": "a"})
    assert (refused.status, refused.json["errors"]) == (
        422,
        [
            {
                "pointer": "/outputSchema",
                "detail": f"nothing that '2' depends on delivers 'k' (activity '2' of '{DEPLOY}' in template 'tpl')",
            }
        ],
    )
    wrong = call("PUT", "/activity-definitions/a", {"outputSchema": {"type": "text"}})
    assert (wrong.status, wrong.json["errors"][0]["pointer"]) == (400, "/outputSchema/type")


def test_values_are_looked_at_on_their_way_to_the_agent() -> None:
    call("POST", "/activity-definitions", {"type": "t", "inputSchema": {"required": ["k"]}})
    call("POST", "/orchestration-definitions", {"activities": {"x": [{"id": "a", "type": "t"}]}})
    rows = deliver("start_orchestrations", *(manifest(id=id_, orchestrationType="x") for id_ in ("a", "b"))).outbox
    assert [row.subject for row in rows] == [subjects.INPUTS]
    events = rows[0].events
    del events[1]["data"]["values"]["k"]
    checked = deliver("check_activity_inputs", *(event["data"] for event in events), ids=[one["id"] for one in events])
    assert checked.failures == {}
    assert [row.subject for row in checked.outbox] == [subjects.activity("t"), subjects.RESPONSES]
    assert [one.orchestration_id for one in all_dispatches(checked.outbox)] == ["a"]
    (failed,) = call("GET", "/orchestrations/b/history").json
    assert failed["outcome"] == "invalid input"
    assert call("GET", "/orchestrations/b").json["errorDetail"] == (
        'activity a (t): invalid input: "k" is a required property'
    )


def test_what_somebody_outside_records_must_fit() -> None:
    schema = {"properties": {"k": {"type": "string"}}, "required": ["k"]}
    call("POST", "/activity-definitions", {"type": "t", "outputSchema": schema})
    call("POST", "/orchestration-definitions", {"activities": {"x": [{"id": "a", "type": "t"}]}})
    (sent,) = all_dispatches(deliver("start_orchestrations", manifest(id="o", orchestrationType="x")).outbox)
    path, token = "/orchestrations/o/activities/a/complete", ending(sent).token
    refused = call("POST", path, {"token": token, "values": {"k": 1}})
    assert (refused.status, refused.json["errors"]) == (
        400,
        [{"pointer": "/values/k", "detail": 'the value is not of type "string"'}],
    )
    assert call("POST", path, {"token": token, "values": {"k": "v"}}).status == 200


def test_conditions_lists_and_what_undoes_are_shown_as_they_were_posted() -> None:
    call("POST", "/activity-definitions", {"type": "t"})
    activities = [
        {"id": "a", "type": "t", "condition": "size > 5", "compensation": "t"},
        {"id": "e", "type": "t", "dependsOn": ["a"], "forEach": {"source": "list", "name": "item", "concurrency": 3}},
        {"id": "s", "type": "orchestration:sub", "dependsOn": ["e"]},
    ]
    template = {
        "id": "x",
        "activities": {"one": activities, "sub": [{"id": "b", "type": "t"}]},
        "compensation": "after:PT1H",
    }
    assert call("POST", "/orchestration-definitions", template).status == 201
    shown = {one["activities"].popitem()[0]: one for one in call("GET", "/orchestration-definitions").json}
    assert shown["one"]["compensation"] == "after:PT1H"
    assert call("GET", "/orchestration-definitions/x").json[0]["activities"] == {"one": activities}
    assert len(call("GET", "/orchestration-definitions?q=compensation STARTS_WITH 'after'").json) == 2
    for wrong in ("sometimes", "after:", "after:PT0S", "after:P2Y", "after:soon"):
        refused = call("POST", "/orchestration-definitions", template | {"compensation": wrong})
        assert (refused.status, refused.json["errors"][0]["pointer"]) == (400, "/compensation")


def test_orchestrations_for_an_activity_are_shown_with_it_and_found_by_it() -> None:
    call("POST", "/activity-definitions", {"type": "t"})
    each = {"id": "e", "type": "t", "forEach": {"source": "list"}, "compensation": "t"}
    failing = {"id": "z", "type": "t", "dependsOn": ["e"]}
    call("POST", "/orchestration-definitions", {"activities": {"x": [each, failing]}})
    (asked,) = deliver("start_orchestrations", manifest(id="o", orchestrationType="x", payload={"list": [1, 2]})).outbox
    assert asked.subject == subjects.CALLS
    sent = all_dispatches(deliver("look_after_calls", *(event["data"] for event in asked.events)).outbox)
    assert [one.orchestration_id for one in sent] == ["o.e.0", "o.e.1"]
    shown = call("GET", "/orchestrations/o").json
    assert shown["activities"][0]["orchestrations"] == {"started": 2, "ended": 0}
    assert (shown["status"], shown["statusReason"]) == (
        "waiting",
        "e: of 2 orchestrations that carry it out 0 have ended",
    )
    children = call("POST", "/orchestrations/query", {"predicate": "parentId = 'o'"}).json
    assert [one["id"] for one in children] == ["o.e.0", "o.e.1"]
    child = call("GET", "/orchestrations/o.e.0").json
    assert (child["parentId"], child["steps"][0]["activities"][0]["id"]) == ("o", "e")
    assert child["processingData"]["element"] == 1


def test_an_agent_says_how_far_it_is_with_the_token_of_its_dispatch() -> None:
    define()
    (sent,) = all_dispatches(deliver("start_orchestrations", manifest()).outbox)
    path = "/orchestrations/o/activities/a/heartbeat"
    tag = call("GET", "/orchestrations/o").headers["ETag"]
    beat = call("POST", path, {"token": sent.token})
    assert (beat.status, set(beat.json)) == (200, {"dueAt"})
    assert call("GET", "/orchestrations/o").headers["ETag"] == tag
    assert call("POST", path, {"token": sent.token, "progress": {"hosts": 3}}).status == 200
    shown = call("GET", "/orchestrations/o")
    assert shown.headers["ETag"] != tag
    activity = shown.json["activities"][0]
    assert (activity["progress"], "startedAt" in activity) == ({"hosts": 3}, True)
    assert shown.json["statusReason"] == 'a is with its agent: {"hosts": 3}'
    refused = call("POST", path, {"token": sent.token, "progress": "x" * 2000})
    assert (refused.status, refused.json["errors"][0]["pointer"]) == (400, "/progress")
    assert call("POST", path, {}).status == 400
    assert call("POST", path, {"token": "no"}).status == 409
    assert call("POST", "/orchestrations/o/activities/z/heartbeat", {"token": "no"}).status == 404
    assert call("GET", "/orchestrations/o").json["activities"][0]["progress"] == {"hosts": 3}


def test_an_activity_that_is_ended_early_says_so_until_its_agent_has_been_heard() -> None:
    define()
    (sent,) = all_dispatches(deliver("start_orchestrations", manifest()).outbox)
    path, shown = "/orchestrations/o/activities/a/complete", ending(sent).token
    assert call("POST", path, {"token": sent.token}).status == 403
    for _ in range(2):
        ended = call("POST", path, {"token": shown, "values": {"by": "outside"}})
        assert (ended.status, ended.json) == (200, {"activityId": "a", "state": "done"})
    assert "ended from outside" in call("GET", "/orchestrations/o").json["statusReason"]
    assert call("POST", path, {"token": shown, "error": "no"}).status == 409
    said = {"kind": "wait", "values": {"request": 7}}
    place = sent.model_dump(mode="json", by_alias=True, include={"orchestration_id", "phase", "ord", "token"})
    deliver("record_activity_results", place | said)
    run = call("GET", "/orchestrations/o").json
    assert (run["completed"], run["processingData"]) == ({"a": {}}, {"k": 1, "by": "outside", "request": 7})
    assert call("POST", path, {"token": shown}).status == 200
    assert call("POST", path, {"token": shown, "error": "no"}).status == 409


def test_an_archived_orchestration_is_answered_as_before(emptied: Database) -> None:
    define()
    deliver("start_orchestrations", manifest())
    for activity in ("a", "b"):
        (event,) = dispatched(emptied, activity)
        deliver("record_activity_results", {**event, "kind": "complete", "values": {activity: 1}})
    path = "/orchestrations/o"
    shown = [call("GET", each) for each in (path, f"{path}/history", "/orchestrations")]
    emptied.rows("UPDATE provision_manager.orchestration SET state_at = state_at - interval '8 days'")
    before = call("GET", path)
    deliver("archive_orchestrations", None)
    deliver("archive_orchestrations", None)
    assert emptied.value("SELECT count(*) FROM provision_manager.orchestration") == 0
    assert (call("GET", path).text, call("GET", f"{path}/history").text) == (before.text, shown[1].text)
    assert call("GET", path, headers={"If-None-Match": shown[0].headers["ETag"]}).status == 304
    assert [one["id"] for one in call("GET", "/orchestrations?q=state%20%3D%202").json] == ["o"]
    assert call("GET", "/orchestrations").headers["X-Total-Count"] == "1"
    again = call("POST", "/orchestrations", manifest(payload={"other": 1}))
    assert (again.status, again.json["state"], again.json["processingData"]) == (202, 2, before.json["processingData"])
    refused = call("POST", f"{path}/cancel", {"reason": "r"})
    assert (refused.status, refused.json["allowedActions"]) == (409, ["rerun"])
    assert call("GET", path).text == before.text


def dispatched(database: Database, activity: str) -> list[dict[str, Any]]:
    """What names the dispatches of an activity."""
    rows = database.rows("SELECT events FROM eventing.outbox WHERE subject = 'event.cfm.activity.t' ORDER BY id")
    sent = [event["data"] for (events,) in rows for event in events if event["data"]["activityId"] == activity]
    return [{key: one[key] for key in ("orchestrationId", "phase", "ord", "token")} for one in sent]
