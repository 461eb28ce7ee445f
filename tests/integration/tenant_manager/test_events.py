from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cfm_core.contracts import event_tokens, subjects
from cfm_core.contracts.orchestration import DEPLOY, DISPOSE
from cfm_core.contracts.reply import Reply
from cfm_core.eventing.cloudevents import BATCH, event, to_batch
from cfm_core.settings import Settings
from cfm_core.store.database import Database, connect
from cfm_core.store.outbox import Outbox
from local.servers.postgres import EmbeddedPostgres
from tests.integration.tenant_manager.api import EVENTS, Api, Fabric, client_of, deliver
from tests.support.roles import with_roles

APPLY = "apply_orchestration_responses"
RESEND = "resend_pending_deployments"


def response(event_id: str, profile: Any, **changes: Any) -> dict[str, Any]:
    data = {
        "id": "r",
        "manifestId": profile["orchestrationId"],
        "correlationId": profile["id"],
        "orchestrationType": DEPLOY,
        "success": True,
        "properties": {"a": 1},
    }
    return event(type="test", source="test", subject=subjects.RESPONSES, data=data | changes, id=event_id)


def tick() -> list[dict[str, Any]]:
    return [event(type="tick", source="test", subject="", data=None, id="1")]


def state(fabric: Fabric, profile: Any) -> str:
    (word,) = {vpa["state"] for vpa in fabric.profile(profile["id"])["vpas"]}
    return str(word)


def test_a_deployment_leaves_its_manifest_in_the_outbox_and_wakes_the_trigger(
    fabric: Fabric, database: Database
) -> None:
    deployed = fabric.deploy()
    (row,) = Outbox(database).claim()
    assert row.subject == subjects.MANIFESTS
    assert [(one["id"], one["data"]["correlationId"]) for one in row.events] == [
        (deployed["orchestrationId"], deployed["id"])
    ]


def test_the_first_response_takes_effect_and_a_repeated_one_changes_nothing(fabric: Fabric) -> None:
    deployed = fabric.deploy()
    assert deliver(APPLY, [response("1", deployed)]) == Reply()
    after = fabric.profile(deployed["id"])
    assert state(fabric, deployed) == "active"
    assert deliver(APPLY, [response("1", deployed), response("2", deployed, success=False)]) == Reply()
    assert fabric.profile(deployed["id"]) == after


def test_an_early_response_alone_is_asked_for_again(fabric: Fabric) -> None:
    deployed, other = fabric.deploy(), fabric.deploy("did:other")
    manifest = f"{deployed['orchestrationId']}.compensate"
    early = response("early", deployed, orchestrationType=DISPOSE, manifestId=manifest)
    reply = deliver(APPLY, [early, response("good", other)])
    assert [(name, failure.status, failure.retry_after) for name, failure in reply.failures.items()] == [
        ("early", 503, 1)
    ]
    assert (state(fabric, deployed), state(fabric, other)) == ("pending", "active")
    assert deliver(APPLY, [response("failed", deployed, success=False, errorDetail="x")]) == Reply()
    assert deliver(APPLY, [early]) == Reply()
    assert state(fabric, deployed) == "disposed"


def test_a_malformed_response_is_dead_and_the_others_take_effect(fabric: Fabric) -> None:
    deployed = fabric.deploy()
    broken = [
        response("1", deployed, manifestId=""),
        response("2", deployed, success=None),
        {**response("3", deployed), "data": "x"},
    ]
    reply = deliver(APPLY, [*broken, response("4", deployed)])
    assert {name: failure.status for name, failure in reply.failures.items()} == {"1": 422, "2": 422, "3": 422}
    assert state(fabric, deployed) == "active"


@pytest.mark.parametrize(
    "changes",
    [
        {"correlationId": "00000000-0000-4000-8000-000000000000"},
        {"correlationId": "x\0"},
        {"manifestId": "m\0"},
        {"orchestrationType": "acme.other"},
    ],
)
def test_a_response_that_can_never_count_does_not_come_again(fabric: Fabric, changes: dict[str, Any]) -> None:
    deployed, other = fabric.deploy(), fabric.deploy("did:other")
    assert deliver(APPLY, [response("strange", deployed, **changes), response("good", other)]) == Reply()
    assert (state(fabric, deployed), state(fabric, other)) == ("pending", "active")


def test_what_no_database_can_hold_does_not_keep_a_response_from_taking_effect(fabric: Fabric) -> None:
    deployed, failed = fabric.deploy(), fabric.deploy("did:other")
    outputs = {"a\0": ["\0", "\ud800", float("inf"), "\U0001f600"], "b": 1}
    batch = [
        response("1", deployed, properties=outputs),
        response("2", failed, success=False, errorDetail="no\0", properties={}),
    ]
    assert deliver(APPLY, batch) == Reply()
    assert fabric.profile(deployed["id"])["properties"] == {
        "cfm.vpa.state": {"a\ufffd": ["\ufffd", "\ufffd", None, "\U0001f600"], "b": 1}
    }
    assert fabric.profile(failed["id"])["errorDetail"] == "no\ufffd"


def test_while_the_database_is_away_the_batch_is_asked_for_again(
    fabric: Fabric, database_url: str, postgres: EmbeddedPostgres
) -> None:
    deployed = fabric.deploy()
    admin = connect(postgres.url("postgres"))
    name = database_url.rsplit("/", 1)[1]
    admin.run(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    admin.run("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = :name", name=name)
    batch = to_batch([response("1", deployed)])
    answer = client_of(EVENTS[APPLY]).post("/", data=batch, content_type=BATCH)
    assert answer.status_code == 503
    admin.run(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    admin.close()
    assert deliver(APPLY, [response("1", deployed)]) == Reply()
    assert state(fabric, deployed) == "active"


def test_an_answer_that_is_lost_after_the_commit_does_no_harm(fabric: Fabric, database: Database) -> None:
    deployed = fabric.deploy()
    deliver(APPLY, [response("1", deployed)])
    fabric.api.delete(f"{fabric.profiles}/{deployed['id']}")
    assert deliver(APPLY, [response("1", deployed)]) == Reply()
    assert state(fabric, deployed) == "disposing"


def test_an_overdue_manifest_is_named_in_the_answer_and_held_for_the_caller(fabric: Fabric, database: Database) -> None:
    deployed = fabric.deploy()
    outbox = Outbox(database)
    outbox.delete(row.id for row in outbox.claim())
    assert deliver(RESEND, tick()) == Reply()
    database.rows("UPDATE tenant_manager.participant_profiles SET due_at = now() - interval '1 s'")
    (row,) = deliver(RESEND, tick()).outbox
    assert row.subject == subjects.MANIFESTS
    assert [one["data"]["id"] for one in row.events] == [deployed["orchestrationId"]]
    assert outbox.claim() == []
    database.rows("UPDATE eventing.outbox SET claimable_at = now()")
    assert outbox.claim() == [row]
    assert deliver(RESEND, tick()) == Reply()


def test_events_are_taken_from_the_trigger_only(
    serve: Callable[[Settings], None], database_url: str, tmp_path: Path
) -> None:
    tokens = tmp_path / "tokens.json"
    tokens.write_text(event_tokens.dump(["the-key-of-the-trigger"], [APPLY]))
    serve(with_roles(Settings(auth="off", event_tokens_file=str(tokens)), database_url))
    fabric = Fabric(Api())
    deployed = fabric.deploy()
    batch = to_batch([response("1", deployed)])
    client = client_of(EVENTS[APPLY])
    assert client.post("/", data=batch, content_type=BATCH).status_code == 401
    assert state(fabric, deployed) == "pending"
    headers = {"Authorization": f"Bearer {event_tokens.derived('the-key-of-the-trigger', APPLY)}"}
    assert client.post("/", data=batch, content_type=BATCH, headers=headers).status_code == 200
    assert state(fabric, deployed) == "active"


def test_the_declarations_are_those_that_the_trigger_expects() -> None:
    assert EVENTS[APPLY].subject == subjects.RESPONSES
    assert EVENTS[RESEND].every == timedelta(seconds=5)
