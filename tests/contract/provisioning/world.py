"""A Provision Manager under test, over either store, with what tests need to see and to hasten."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Protocol

from cfm_core import trace
from cfm_core.audit.memory import MemoryAudit
from cfm_core.audit.service import Audit
from cfm_core.audit.store import PostgresAudit
from cfm_core.clock import system_clock
from cfm_core.contracts import subjects
from cfm_core.contracts.activity import ActivityCall, ActivityDispatch, ActivityOutcome, OutcomeKind, UncheckedDispatch
from cfm_core.contracts.completion import CompletionKey
from cfm_core.contracts.orchestration import DEPLOY, DISPOSE, OrchestrationManifest, OrchestrationResponse
from cfm_core.contracts.reply import OutboxRow
from cfm_core.provisioning.activity_types.memory import MemoryActivityTypes
from cfm_core.provisioning.activity_types.service import ActivityTypes
from cfm_core.provisioning.activity_types.store import PostgresActivityTypes
from cfm_core.provisioning.calls.memory import MemoryCalls
from cfm_core.provisioning.calls.model import Call
from cfm_core.provisioning.calls.service import Calls
from cfm_core.provisioning.calls.store import PostgresCalls
from cfm_core.provisioning.dead_letters.memory import MemoryDeadLetters
from cfm_core.provisioning.dead_letters.service import DeadLetters
from cfm_core.provisioning.dead_letters.store import PostgresDeadLetters
from cfm_core.provisioning.definitions.memory import MemoryDefinitions
from cfm_core.provisioning.definitions.model import (
    Activity,
    ActivityDefinition,
    OrchestrationDefinition,
    OrchestrationTemplate,
)
from cfm_core.provisioning.definitions.service import Definitions
from cfm_core.provisioning.definitions.store import PostgresDefinitions
from cfm_core.provisioning.definitions.v1alpha1 import (
    ActivityDefinitionDocument,
    orchestration_definition_from_json,
)
from cfm_core.provisioning.delayed_starts.memory import MemoryDelayedStarts
from cfm_core.provisioning.delayed_starts.store import PostgresDelayedStarts
from cfm_core.provisioning.engine.model import Progress
from cfm_core.provisioning.engine.service import Engine
from cfm_core.provisioning.engine.store import PostgresEngine
from cfm_core.provisioning.memory.engine import MemoryEngine
from cfm_core.provisioning.memory.orchestrations import MemoryOrchestrations
from cfm_core.provisioning.memory.runs import Runs
from cfm_core.provisioning.operations.memory import MemoryOperations
from cfm_core.provisioning.operations.service import Operations
from cfm_core.provisioning.operations.store import PostgresOperations
from cfm_core.provisioning.orchestrations.model import Ending
from cfm_core.provisioning.orchestrations.service import Orchestrations
from cfm_core.provisioning.orchestrations.store import PostgresOrchestrations
from cfm_core.provisioning.schedules.memory import MemorySchedules
from cfm_core.provisioning.schedules.service import Schedules
from cfm_core.provisioning.schedules.store import PostgresSchedules
from cfm_core.provisioning.schedules.sweep import DueStarts
from cfm_core.query import Everything, Page
from cfm_core.store.database import Database, connect
from local.servers.postgres import EmbeddedPostgres
from tests.support.audit import empty_audit

_numbers = itertools.count(1)

Outbox = Sequence[OutboxRow]

KEY = CompletionKey("the key of the tests")


@dataclass(frozen=True, slots=True)
class NodeView:
    """What a test compares of an activity."""

    state: str
    deps_left: int = 0
    dispatches: int = 0
    failures: int = 0


class World(Protocol):
    definitions: Definitions
    engine: Engine
    calls: Calls
    orchestrations: Orchestrations
    operations: Operations
    audit: Audit
    activity_types: ActivityTypes
    letters: DeadLetters
    schedules: Schedules
    due_starts: DueStarts

    def nodes(self, orchestration_id: str) -> dict[str, NodeView]: ...

    def runs(self) -> list[str]:
        """The ids of all orchestrations."""
        ...

    def state(self, orchestration_id: str) -> str: ...

    def history(self, orchestration_id: str) -> list[str]:
        """The kinds of what has happened to the run's activities, in order."""
        ...

    def seconds_until_due(self, orchestration_id: str) -> dict[str, float]: ...

    def let_time_pass(self) -> None:
        """Make overdue whatever waits for time; an hour passes for rates."""
        ...

    def let_all_time_pass(self) -> None:
        """The same, and what activities have for all their attempts is over."""
        ...

    def archive(self) -> None:
        """Archive what has ended, however short a time ago."""
        ...

    def set_next(self, schedule_id: str, at: datetime) -> None:
        """Make ``at`` the next time of a schedule."""
        ...

    def set_start(self, orchestration_id: str, at: datetime) -> None:
        """Make ``at`` the time of a delayed start."""
        ...

    def outbox(self) -> list[str]:
        """The subjects of all rows that have been written, in order."""
        ...

    def rows(self) -> Sequence[OutboxRow]:
        """All rows that have been written, in order."""
        ...

    def dead_letters(self) -> list[str]:
        """The subjects of all dead letters."""
        ...


class PostgresWorld:
    def __init__(self, database: Database) -> None:
        self.database = database
        self.definitions: Definitions = PostgresDefinitions(database)
        self.engine: Engine = PostgresEngine(database)
        self.calls = Calls(PostgresCalls(database))
        self.orchestrations: Orchestrations = PostgresOrchestrations(database, KEY)
        self.operations = Operations(PostgresOperations(database))
        self.audit = Audit(PostgresAudit(database))
        self.activity_types = ActivityTypes(PostgresActivityTypes(database))
        self.letters = DeadLetters(PostgresDeadLetters(database))
        schedules = PostgresSchedules(database)
        self.schedules = Schedules(schedules)
        self.due_starts = DueStarts([schedules, PostgresDelayedStarts(database)])

    def nodes(self, orchestration_id: str) -> dict[str, NodeView]:
        rows = self.database.rows(
            "SELECT n.activity_id, a.state, a.deps_left, a.dispatches, a.failures"
            "  FROM provision_manager.run_activity a JOIN provision_manager.run o"
            "    ON o.id = a.orch_id AND o.phase = a.phase"
            "  JOIN provision_manager.def_node n ON n.def_id = o.def_id AND n.phase = a.phase AND n.ord = a.ord"
            " WHERE o.id = :id ORDER BY a.ord",
            id=orchestration_id,
        )
        return {id_: NodeView(*rest) for id_, *rest in rows}

    def runs(self) -> list[str]:
        return [id_ for (id_,) in self.database.rows("SELECT id FROM provision_manager.run ORDER BY id")]

    def state(self, orchestration_id: str) -> str:
        return str(self.database.value("SELECT state FROM provision_manager.run WHERE id = :id", id=orchestration_id))

    def history(self, orchestration_id: str) -> list[str]:
        rows = self.database.rows(
            "SELECT kind FROM provision_manager.history WHERE orch_id = :id ORDER BY at, ord", id=orchestration_id
        )
        return [kind for (kind,) in rows]

    def seconds_until_due(self, orchestration_id: str) -> dict[str, float]:
        rows = self.database.rows(
            "SELECT n.activity_id, extract(epoch FROM a.due_at - now())::double precision"
            "  FROM provision_manager.run_activity a JOIN provision_manager.run o"
            "    ON o.id = a.orch_id AND o.phase = a.phase"
            "  JOIN provision_manager.def_node n ON n.def_id = o.def_id AND n.phase = a.phase AND n.ord = a.ord"
            " WHERE o.id = :id AND a.due_at IS NOT NULL",
            id=orchestration_id,
        )
        return dict(map(tuple, rows))

    def let_time_pass(self) -> None:
        with self.database.transaction() as tx:
            tx.rows("SELECT FROM provision_manager.orchestration ORDER BY id FOR UPDATE")
            tx.rows("UPDATE provision_manager.activity SET due_at = now() WHERE due_at IS NOT NULL")
            tx.rows("UPDATE provision_manager.orchestration SET resend_at = now() WHERE resend_at IS NOT NULL")
            tx.rows("UPDATE provision_manager.gate SET probe_at = now() WHERE probe_at IS NOT NULL")
            tx.rows("UPDATE provision_manager.activity SET dispatched_at = dispatched_at - interval '1 h'")
            tx.rows("UPDATE provision_manager.history SET dispatched_at = dispatched_at - interval '1 h'")
            tx.rows("UPDATE provision_manager.admission SET ready_at = ready_at - interval '1 h'")
            tx.rows("UPDATE provision_manager.admitted SET at = at - interval '1 h'")

    def let_all_time_pass(self) -> None:
        self.database.rows("UPDATE provision_manager.activity SET close_by = now() WHERE close_by IS NOT NULL")
        self.let_time_pass()

    def archive(self) -> None:
        self.database.rows("SELECT provision_manager.archive_runs(interval '-1 s', 1000)")

    def set_next(self, schedule_id: str, at: datetime) -> None:
        self.database.rows(
            "UPDATE provision_manager.schedule SET next_at = :at::timestamptz WHERE id = :id",
            id=schedule_id,
            at=at.isoformat(),
        )

    def set_start(self, orchestration_id: str, at: datetime) -> None:
        self.database.rows(
            "UPDATE provision_manager.delayed_start SET start_at = :at::timestamptz WHERE id = :id",
            id=orchestration_id,
            at=at.isoformat(),
        )

    def outbox(self) -> list[str]:
        return [row.subject for row in self.rows()]

    def rows(self) -> Sequence[OutboxRow]:
        rows = self.database.rows("SELECT id, subject, events FROM eventing.outbox ORDER BY id")
        return [OutboxRow(*row) for row in rows]

    def dead_letters(self) -> list[str]:
        rows = self.database.rows("SELECT subject FROM provision_manager.dead_letter ORDER BY id")
        return [subject for (subject,) in rows]


class MemoryWorld:
    def __init__(self, trail: MemoryAudit | None = None) -> None:
        self.memory = Runs(system_clock, audit=trail or MemoryAudit())
        self.definitions: Definitions = MemoryDefinitions(self.memory)
        self.engine: Engine = MemoryEngine(self.memory)
        self.calls = Calls(MemoryCalls(self.memory))
        self.orchestrations: Orchestrations = MemoryOrchestrations(self.memory, KEY)
        self.operations = Operations(MemoryOperations(self.memory))
        self.audit = Audit(self.memory.audit)
        self.activity_types = ActivityTypes(MemoryActivityTypes(self.memory))
        self.letters = DeadLetters(MemoryDeadLetters(self.memory))
        schedules = MemorySchedules(self.memory)
        self.schedules = Schedules(schedules)
        self.due_starts = DueStarts([schedules, MemoryDelayedStarts(self.memory)])

    def nodes(self, orchestration_id: str) -> dict[str, NodeView]:
        run = self.memory.runs.get(orchestration_id)
        return {
            node.id: NodeView(node.state, node.deps_left, node.dispatches, node.failures)
            for node in (run.nodes.values() if run else ())
        }

    def runs(self) -> list[str]:
        return sorted(self.memory.runs)

    def state(self, orchestration_id: str) -> str:
        return self.memory.runs[orchestration_id].state

    def history(self, orchestration_id: str) -> list[str]:
        return [told.kind for told in self.memory.history if told.orchestration_id == orchestration_id]

    def seconds_until_due(self, orchestration_id: str) -> dict[str, float]:
        now = system_clock()
        return {
            node.id: (node.due_at - now).total_seconds()
            for node in self.memory.runs[orchestration_id].nodes.values()
            if node.due_at is not None
        }

    def let_time_pass(self) -> None:
        now = system_clock()
        for gate in self.memory.gates.values():
            gate.probe_at = gate.probe_at and now
        for slot in self.memory.admission.values():
            slot.ready_at -= timedelta(hours=1)
        self.memory.admitted = [replace(one, at=one.at - timedelta(hours=1)) for one in self.memory.admitted]
        for run in self.memory.runs.values():
            run.resend_at = run.resend_at and now
            for node in run.nodes.values():
                node.due_at = node.due_at and now

    def let_all_time_pass(self) -> None:
        for run in self.memory.runs.values():
            for node in run.nodes.values():
                node.close_by = node.close_by and system_clock()
        self.let_time_pass()

    def archive(self) -> None:
        """In memory, runs stay where they are."""

    def set_next(self, schedule_id: str, at: datetime) -> None:
        self.memory.schedules[schedule_id] = replace(self.memory.schedules[schedule_id], next_at=at)

    def set_start(self, orchestration_id: str, at: datetime) -> None:
        self.memory.delayed[orchestration_id].start_at = at

    def outbox(self) -> list[str]:
        return [row.subject for row in self.memory.outbox]

    def rows(self) -> Sequence[OutboxRow]:
        return self.memory.outbox

    def dead_letters(self) -> list[str]:
        return [letter.subject for letter in self.memory.dead_letters.values()]


@contextlib.contextmanager
def shared_database(postgres: EmbeddedPostgres, template: str, name: str) -> Iterator[Database]:
    """A migrated database for many tests, each of which begins by emptying it: faster than a copy for each."""
    connection = connect(postgres.url("postgres"))
    connection.run(f"CREATE DATABASE {name} TEMPLATE {template}")
    database = Database(postgres.url(name))
    yield database
    database.close()
    connection.run(f"DROP DATABASE {name} WITH (FORCE)")
    connection.close()


ARCHIVED = ("orchestration", "orchestration_data", "activity", "activity_output", "fan_out")


def empty(database: Database) -> None:
    """Delete all that the Provision Manager has stored."""
    with database.transaction() as tx:
        tables = [
            *("def_edge", "def_node", "orchestration", "orchestration_data", "activity", "activity_output"),
            *(f"archived_{table}" for table in ARCHIVED),
            *("history", "admission", "admitted", "gate", "dead_letter"),
            *("definition", "template", "activity_definition", "activity_type_policy"),
            *("schedule", "delayed_start", "fan_out"),
        ]
        for table in sorted(tables, key=lambda name: name == "definition"):
            tx.rows(f"DELETE FROM provision_manager.{table}")  # noqa: S608
        tx.rows("DELETE FROM eventing.outbox")
    empty_audit(database)


DIAMOND = (
    Activity("a", "t.one"),
    Activity("b", "t.one", ("a",)),
    Activity("c", "t.two", ("a",)),
    Activity("d", "t.one", ("b", "c")),
)


def define(world: World, **activities: Sequence[Activity]) -> None:
    """Define orchestration types: ``deploy`` and ``dispose`` by their real names, others as they are called."""
    names = {"deploy": DEPLOY, "dispose": DISPOSE}
    types = {type_ for nodes in activities.values() for one in nodes for type_ in (one.type, one.compensation) if type_}
    for type_ in sorted(types):
        world.definitions.put_activity_definition(ActivityDefinition(type=type_))
    world.definitions.add_template(
        OrchestrationTemplate(
            id=f"template-{next(_numbers)}",
            activities={names.get(name, name): nodes for name, nodes in activities.items()},
        )
    )


def activity_definitions(world: World) -> list[ActivityDefinition]:
    """All activity definitions, as they are listed."""
    listed = world.definitions.select_activity_definitions(Everything(), Page())
    return [ActivityDefinitionDocument.model_validate(one).to_model() for one in json.loads(listed.json)]


def orchestration_definitions(world: World) -> list[OrchestrationDefinition]:
    """All orchestration definitions, as they are listed."""
    return _definitions(world.definitions.select_orchestration_definitions(Everything(), Page()).json)


def definitions_of(world: World, template_ref: str) -> list[OrchestrationDefinition]:
    """What a template has made, as it is shown."""
    return _definitions(world.definitions.get_template(template_ref).text)


def _definitions(text: str | bytes) -> list[OrchestrationDefinition]:
    return list(map(orchestration_definition_from_json, json.loads(text)))


def manifest(id: str, type: str, **payload: Any) -> OrchestrationManifest:
    return OrchestrationManifest(id=id, correlation_id=f"of {id}", orchestration_type=type, payload=payload)


def all_dispatches(outbox: Outbox) -> list[ActivityDispatch]:
    """What was sent to agents."""
    rows = [row for row in outbox if row.subject.startswith("event.cfm.activity.")]
    return [ActivityDispatch.model_validate(event["data"]) for row in rows for event in row.events]


def unchecked_dispatches(outbox: Outbox) -> dict[str, UncheckedDispatch]:
    """What is to be looked at before agents get it, by the ids of the events."""
    rows = [row for row in outbox if row.subject == subjects.INPUTS]
    return {event["id"]: UncheckedDispatch.model_validate(event["data"]) for row in rows for event in row.events}


def calls(outbox: Outbox) -> list[Call]:
    """The activities that somebody is to look after."""
    rows = [row for row in outbox if row.subject == subjects.CALLS]
    documents = [ActivityCall.model_validate(event["data"]) for row in rows for event in row.events]
    return [Call(one.orchestration_id, one.phase, one.ord) for one in documents]


def dispatches(outbox: Outbox) -> dict[str, ActivityDispatch]:
    """What was sent to agents for one run, by activity id."""
    return {one.activity_id: one for one in all_dispatches(outbox)}


def responses(outbox: Outbox) -> list[OrchestrationResponse]:
    rows = [row for row in outbox if row.subject == subjects.RESPONSES]
    return [OrchestrationResponse.model_validate(event["data"]) for row in rows for event in row.events]


def manifests(outbox: Outbox) -> list[OrchestrationManifest]:
    rows = [row for row in outbox if row.subject == subjects.MANIFESTS]
    return [OrchestrationManifest.model_validate(event["data"]) for row in rows for event in row.events]


@dataclass
class Driver:
    """Plays the agents of one world: remembers what was dispatched last, and answers for it."""

    world: World
    sent: dict[tuple[str, str], ActivityDispatch] = field(default_factory=dict)
    heard: int = 0

    def take(self, progress: Progress) -> Progress:
        """Hand on what the managers themselves have to look at, as the trigger would, and remember what agents get."""
        pending = progress.outbox
        while pending:
            further = self.world.calls.tend(calls(pending)).outbox
            if unchecked := unchecked_dispatches(pending):
                traces = {event["id"]: trace.of(event) for row in pending for event in row.events}
                further += self.world.engine.check_inputs(unchecked, traces).outbox
            progress.outbox = progress.outbox + further
            pending = further
        for one in all_dispatches(progress.outbox):
            self.sent[one.orchestration_id, one.activity_id] = one
        return progress

    def start(self, *manifests: OrchestrationManifest) -> Progress:
        return self.take(self.world.engine.start(manifests))

    def outcome(
        self, orchestration_id: str, activity_id: str, kind: OutcomeKind = OutcomeKind.COMPLETE, **said: Any
    ) -> ActivityOutcome:
        return answer(self.sent[orchestration_id, activity_id], kind, **said)

    def record(self, *outcomes: ActivityOutcome) -> Progress:
        return self.take(self.world.engine.record(outcomes))

    def complete(self, orchestration_id: str, *activity_ids: str, **said: Any) -> Progress:
        return self.record(*(self.outcome(orchestration_id, id_, **said) for id_ in activity_ids))

    def sweep(self) -> Progress:
        return self.take(self.world.engine.sweep())

    def take_all(self) -> Outbox:
        """The same as ``hear``, and what has come of it."""
        before = len(self.world.rows())
        heard = list(self.hear())
        further = list(self.world.rows())[before:]
        self.heard = max((row.id for row in further), default=self.heard)
        return [*heard, *further]

    def hear(self) -> Outbox:
        """Take what others than the engine's steps have written since the last time; gives those rows."""
        rows = [row for row in self.world.rows() if row.id > self.heard]
        self.heard = max((row.id for row in rows), default=self.heard)
        self.take(Progress(list(rows)))
        return rows


def ending(dispatch: ActivityDispatch, **said: Any) -> Ending:
    """How somebody outside ends the activity, with what the agent was given for them."""
    shown = KEY.token(dispatch.orchestration_id, dispatch.phase, dispatch.activity_id, dispatch.token)
    return Ending(token=shown, **said)


def answer(
    dispatch: ActivityDispatch,
    kind: OutcomeKind = OutcomeKind.COMPLETE,
    *,
    after: timedelta | None = None,
    reason: str = "",
    values: Mapping[str, Any] = MappingProxyType({}),
    deleted: Sequence[str] = (),
    outputs: Mapping[str, Any] = MappingProxyType({}),
) -> ActivityOutcome:
    return ActivityOutcome(
        orchestration_id=dispatch.orchestration_id,
        phase=dispatch.phase,
        ord=dispatch.ord,
        token=dispatch.token,
        kind=kind,
        after=after,
        reason=reason,
        values=dict(values),
        deleted=list(deleted),
        outputs=dict(outputs),
    )
