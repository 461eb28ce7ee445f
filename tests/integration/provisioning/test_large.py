"""Results with thousands of values: they arrive whole, and what is updated with each step stays small."""

from __future__ import annotations

import pytest

from cfm_core.contracts.reply import Reply
from cfm_core.store.database import Database
from tests.contract.provisioning.world import all_dispatches
from tests.integration.provisioning.api import call, deliver

pytestmark = pytest.mark.usefixtures("served")

ACTIVITIES = 10
VALUES = 5_000


def record(reply: Reply, activity: int) -> Reply:
    """Complete the only activity that was sent."""
    (sent,) = all_dispatches(reply.outbox)
    assert len(sent.values) == activity * VALUES
    values = {f"{activity}.{n}": f"value {n} of activity {activity}" for n in range(VALUES)}
    answer = {"orchestrationId": "o", "phase": sent.phase, "ord": sent.ord, "token": sent.token}
    outputs = {"last": values[f"{activity}.{VALUES - 1}"]}
    return deliver("record_activity_results", answer | {"kind": "complete", "values": values, "outputs": outputs})


def test_ten_activities_record_five_thousand_values_each(emptied: Database) -> None:
    call("POST", "/activity-definitions", {"type": "t"})
    chain = [{"id": f"a{n}", "type": "t", "dependsOn": [f"a{n - 1}"] if n else []} for n in range(ACTIVITIES)]
    assert call("POST", "/orchestration-definitions", {"activities": {"one": chain}}).status == 201
    reply = deliver(
        "start_orchestrations", {"id": "o", "correlationId": "c", "orchestrationType": "one", "payload": {}}
    )
    for activity in range(ACTIVITIES):
        reply = record(reply, activity)
    ((event,),) = [row.events for row in reply.outbox]
    assert event["data"]["properties"] == {"last": f"value {VALUES - 1} of activity {ACTIVITIES - 1}"}
    shown = call("GET", "/orchestrations/o").json
    assert (shown["state"], len(shown["processingData"])) == (2, ACTIVITIES * VALUES)
    assert shown["processingData"]["4.4999"] == "value 4999 of activity 4"
    hot = emptied.value(
        "SELECT max(s.size) FROM (SELECT pg_column_size(o.*) FROM provision_manager.orchestration o"
        " UNION ALL SELECT pg_column_size(a.*) FROM provision_manager.activity a"
        " UNION ALL SELECT pg_column_size(h.*) FROM provision_manager.history h) s (size)"
    )
    assert hot < 400
    emptied.rows("SELECT provision_manager.archive_runs('-1 s', 10)")
    assert call("GET", "/orchestrations/o").json == shown
