"""Whoever is not the trigger changes nothing, and whoever is brings no outcome that no open dispatch has asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cfm_core import deployment
from cfm_core.assembly import ServiceAssembler
from cfm_core.contracts import event_tokens
from cfm_core.contracts.activity import ActivityDispatch, OutcomeKind
from cfm_core.contracts.orchestration import DEPLOY
from cfm_core.eventing.cloudevents import BATCH, event, to_batch
from cfm_core.settings import Settings
from cfm_core.store.database import Database
from tests.contract.provisioning.world import KEY, all_dispatches, answer
from tests.integration.provisioning.api import EVENTS, call, client_of, deliver
from tests.support.roles import with_roles

EVENT_KEY = "the-key-of-the-trigger"
RECORD = "record_activity_results"

# What each function would take in, were it let in.
MANIFEST = {"id": "forged", "correlationId": "c", "orchestrationType": DEPLOY, "payload": {}}
VPA = {
    "id": "vpa-template",
    "activities": {DEPLOY: [{"id": "a", "type": "t"}, {"id": "b", "type": "t", "dependsOn": ["a"]}]},
}


@pytest.fixture
def contents(emptied: Database) -> Callable[[str], dict[str, list[str]]]:
    """Every row of every table of both schemas but those that are named, to see whether something changes."""

    def look(besides: str = "") -> dict[str, list[str]]:
        tables = emptied.rows(
            "SELECT oid::regclass::text FROM pg_class WHERE relkind IN ('r', 'p')"
            " AND relnamespace::regnamespace::text IN ('provision_manager', 'tenant_manager', 'eventing')"
            " AND NOT relispartition ORDER BY 1"
        )
        return {
            table: [text for (text,) in emptied.rows(f"SELECT t::text FROM {table} t ORDER BY 1")]  # noqa: S608
            for (table,) in tables
            if table != besides
        }

    return look


@pytest.fixture
def dispatched(served: None) -> dict[str, ActivityDispatch]:
    """The open dispatches of two runs, by their runs."""
    assert call("POST", "/activity-definitions", {"type": "t"}).status == 201
    assert call("POST", "/orchestration-definitions", VPA).status == 201
    started = deliver("start_orchestrations", MANIFEST | {"id": "one"}, MANIFEST | {"id": "two"})
    return {one.orchestration_id: one for one in all_dispatches(started.outbox)}


@pytest.fixture
def guarded(dispatched: dict[str, ActivityDispatch], emptied_url: str, tmp_path: Path) -> Iterator[None]:
    """From here on the functions are opened by their tokens only."""
    tokens = tmp_path / "tokens.json"
    tokens.write_text(event_tokens.dump([EVENT_KEY], EVENTS))
    told = Settings(auth="off", completion_key=KEY.key, event_tokens_file=str(tokens))
    settings = with_roles(told, emptied_url)
    assembler = ServiceAssembler(deployment.assemblies(settings), settings)
    deployment.use(assembler)
    yield
    assembler.stop()


def data_for(name: str, dispatched: dict[str, ActivityDispatch]) -> dict[str, Any] | None:
    """What the function ``name`` would act on."""
    outcome = answer(dispatched["one"]).to_json()
    known: dict[str, dict[str, Any]] = {
        "start_orchestrations": MANIFEST,
        RECORD: outcome,
        "keep_dead_letters": {
            "key": "k",
            "subject": "event.x",
            "target": "t",
            "reason": "r",
            "deliveries": 1,
            "event": {"id": "1"},
        },
    }
    return known.get(name, None if EVENTS[name].data is None else outcome)


@pytest.mark.parametrize("name", EVENTS)
def test_a_forged_event_is_refused_and_changes_nothing(
    guarded: None, dispatched: dict[str, ActivityDispatch], contents: Callable[[], dict[str, list[str]]], name: str
) -> None:
    before = contents()
    body = to_batch([event(type="t", source="s", subject="", data=data_for(name, dispatched), id="forged")])
    shown = [
        {},
        {"Authorization": ""},
        {"Authorization": f"Bearer {EVENT_KEY}"},
        {"Authorization": f"Basic {event_tokens.derived(EVENT_KEY, name)}"},
        {"Authorization": f"Bearer {event_tokens.derived('another-key-altogether', name)}"},
        # What an agent is shown, and what other functions are.
        {"Authorization": f"Bearer {event_tokens.derived(EVENT_KEY, 'jwtlet_activity')}"},
        *({"Authorization": f"Bearer {event_tokens.derived(EVENT_KEY, other)}"} for other in EVENTS if other != name),
    ]
    for headers in shown:
        assert client_of(EVENTS[name]).post("/", data=body, content_type=BATCH, headers=headers).status_code == 401
    assert contents() == before


def test_the_same_event_with_the_token_counts(
    guarded: None, dispatched: dict[str, ActivityDispatch], contents: Callable[[], dict[str, list[str]]]
) -> None:
    before = contents()
    body = to_batch([event(type="t", source="s", subject="", data=data_for(RECORD, dispatched), id="true")])
    headers = {"Authorization": f"Bearer {event_tokens.derived(EVENT_KEY, RECORD)}"}
    assert client_of(EVENTS[RECORD]).post("/", data=body, content_type=BATCH, headers=headers).status_code == 200
    assert contents() != before


@pytest.mark.parametrize("kind", [OutcomeKind.COMPLETE, OutcomeKind.FATAL, OutcomeKind.RETRY, OutcomeKind.WAIT])
@pytest.mark.parametrize(
    "how", ["forged", "of another run", "of nobody", "of an activity that was not sent", "replayed"]
)
def test_an_outcome_that_no_open_dispatch_asked_for_changes_nothing_but_the_history(
    dispatched: dict[str, ActivityDispatch],
    contents: Callable[[str], dict[str, list[str]]],
    how: str,
    kind: OutcomeKind,
) -> None:
    one, two = dispatched["one"], dispatched["two"]
    if how == "replayed":
        deliver(RECORD, answer(one).to_json())
    changes: dict[str, dict[str, Any]] = {
        "forged": {"token": "00000000-0000-4000-8000-000000000000"},
        "of another run": {"token": two.token},
        "of nobody": {"orchestrationId": "nobody"},
        "of an activity that was not sent": {"ord": 1},
        "replayed": {},
    }
    outcome = answer(one, kind, reason="r").to_json() | changes[how]
    before = contents("provision_manager.history")
    assert deliver(RECORD, outcome).outbox == []
    assert contents("provision_manager.history") == before


def test_an_outcome_of_an_attempt_that_was_given_up_changes_nothing_but_the_history(
    dispatched: dict[str, ActivityDispatch], emptied: Database, contents: Callable[[str], dict[str, list[str]]]
) -> None:
    stale = dispatched["one"]
    deliver(RECORD, answer(stale, OutcomeKind.RETRY, reason="later").to_json())
    emptied.rows("UPDATE provision_manager.activity SET due_at = now() WHERE orch_id = 'one' AND state = 'BACKOFF'")
    (live,) = all_dispatches(deliver("sweep_orchestrations", None).outbox)
    assert live.token != stale.token
    before = contents("provision_manager.history")
    assert deliver(RECORD, answer(stale).to_json()).outbox == []
    assert contents("provision_manager.history") == before
    deliver(RECORD, answer(live).to_json())
    assert contents("provision_manager.history") != before
