"""What definitions, orchestrations and engine share in memory."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from cfm_core.audit.memory import Document, MemoryAudit
from cfm_core.audit.model import Subject
from cfm_core.clock import Clock
from cfm_core.contracts.activity import ActivityOutcome, ActivityTypeAnnouncement
from cfm_core.contracts.orchestration import OrchestrationManifest
from cfm_core.contracts.reply import EventDict, OutboxRow
from cfm_core.masking import masked_text
from cfm_core.provisioning.calls.model import CALL_TIMEOUT, Call
from cfm_core.provisioning.dead_letters.model import DeadLetter
from cfm_core.provisioning.definitions.compiled import CompiledActivity, CompiledDefinition
from cfm_core.provisioning.definitions.model import ActivityDefinition, Limits, OrchestrationDefinition
from cfm_core.provisioning.engine.events import refused_event
from cfm_core.provisioning.engine.model import ENDED, ActivityState, OrchestrationState, Policy
from cfm_core.provisioning.operations.model import Order
from cfm_core.provisioning.orchestrations.actions import Action
from cfm_core.provisioning.schedules.model import Schedule
from cfm_core.provisioning.storable import copy
from cfm_core.trace import NONE, Context


@dataclass(slots=True)
class Node:
    """An activity of a run."""

    id: str
    type: str
    compiled: CompiledActivity
    children: tuple[int, ...]
    deps_left: int
    state: ActivityState = ActivityState.BLOCKED
    dispatches: int = 0
    unanswered: int = 0
    failures: int = 0
    token: str = ""
    dispatched_at: datetime | None = None
    started_at: datetime | None = None
    close_by: datetime | None = None
    due_at: datetime | None = None
    progress: Any = None
    ending: ActivityOutcome | None = None
    """How somebody outside has ended it before its agent was heard; where the run has ended first, kept for a retry."""
    recorded: ActivityOutcome | None = None
    """What it has recorded, once it is done."""

    def due(self, at: datetime | None) -> datetime | None:
        """The time of its timer: ``at``, if any, but not after all its attempts have to be over."""
        return min((one for one in (at, self.close_by) if one is not None), default=None)


def nodes_of(activities: Mapping[int, CompiledActivity]) -> dict[int, Node]:
    """Activities by their places, each with as many parents to wait for as there are among them."""
    return {
        place: Node(
            id=one.id,
            type=one.type,
            compiled=one,
            children=tuple(child for child, other in activities.items() if place in other.parents),
            deps_left=len([parent for parent in one.parents if parent in activities]),
        )
        for place, one in activities.items()
    }


@dataclass(slots=True, kw_only=True, eq=False)
class Defined:
    """A definition in force, as the engine takes it."""

    definition: OrchestrationDefinition
    made: CompiledDefinition
    posted: int
    """Of those of a type, the one with the greatest number is taken."""
    beside: bool
    """Whether others keep its type, and it does."""


@dataclass(slots=True)
class Run:
    """An orchestration; ``values`` is None while no activity has changed the processing data.

    ``version`` rises with whatever a reader of it sees.
    """

    manifest: OrchestrationManifest
    definition: OrchestrationDefinition
    made: CompiledDefinition
    phases: dict[int, dict[int, Node]]
    """By phase and place: the activities that it has; and, once it is being undone by its own activities, what undoes them."""
    created_at: datetime
    state_at: datetime
    tenant_id: str
    parent: Call | None = None
    """The activity that it was started for."""
    element: int | None = None
    belongs_to: Context = field(default_factory=dict)
    """The trace context of whoever asked for it, or has let it go on."""
    state: OrchestrationState = OrchestrationState.RUNNING
    version: int = 0
    error_detail: str = ""
    resend_at: datetime | None = None
    paused: bool = False
    paused_above: bool = False
    """Where it is paused: because its parent is."""
    is_erased: bool = False
    retries: int = 0
    values: dict[str, Any] | None = None
    outputs: dict[str, Any] = field(default_factory=dict)

    @property
    def nodes(self) -> dict[int, Node]:
        """The activities of its phase."""
        return self.phases[self.phase]

    @property
    def phase(self) -> int:
        return max(self.phases)

    @property
    def is_undone(self) -> bool:
        """Whether its activities are being undone, or have been."""
        return self.phase == 1

    @property
    def goes_on(self) -> bool:
        """Whether activities of its phase are sent."""
        wanted = OrchestrationState.COMPENSATING if self.is_undone else OrchestrationState.RUNNING
        return self.state is wanted

    @property
    def remaining(self) -> int:
        return sum(node.state not in ENDED for node in self.nodes.values())

    @property
    def processing_data(self) -> dict[str, Any]:
        return self.manifest.payload if self.values is None else self.values

    def enter(self, state: OrchestrationState, at: datetime) -> None:
        self.state, self.state_at, self.version = state, at, self.version + 1


@dataclass(frozen=True, slots=True)
class Told:
    """A line of the history."""

    orchestration_id: str
    ord: int
    kind: str
    reason: str
    at: datetime
    dispatch: int | None = None
    attempt: int | None = None
    dispatched_at: datetime | None = None
    next_at: datetime | None = None
    phase: int = 0


@dataclass(frozen=True, slots=True)
class Move:
    """A change of one activity that has been decided on."""

    run: Run
    ord: int
    state: ActivityState
    kind: str = ""
    due_in: timedelta | None = None
    failed: bool = False
    reason: str = ""
    outcome: ActivityOutcome | None = None
    """What is recorded with it."""


@dataclass(slots=True)
class Gate:
    """What keeps activities of a type from being sent, beside the limits of its definition."""

    paused: bool = False
    failures: int = 0
    closings: int = 0
    probe_at: datetime | None = None
    version: int = 0


@dataclass(slots=True)
class Slot:
    """An activity of a type that has limits: queued, or in flight."""

    type: str
    tenant_id: str
    ready_at: datetime
    in_flight: bool = False


@dataclass(frozen=True, slots=True)
class Admitted:
    """What was sent of a type that has limits."""

    type: str
    tenant_id: str
    at: datetime


@dataclass(slots=True)
class Delayed:
    """An orchestration that is to start later; see ``provision_manager.delayed_start``."""

    manifest: OrchestrationManifest
    start_at: datetime
    created_at: datetime
    state_at: datetime
    belongs_to: Context = field(default_factory=dict)
    state: OrchestrationState = OrchestrationState.SCHEDULED
    version: int = 0
    error_detail: str = ""

    def end(self, state: OrchestrationState, reason: str, at: datetime) -> None:
        self.state, self.error_detail, self.state_at, self.version = state, reason, at, self.version + 1


@dataclass(slots=True)
class Runs:
    """What definitions, orchestrations and engine share. Whoever reads or writes holds ``lock``."""

    clock: Clock
    jitter: Callable[[], float] = random.random
    audit: MemoryAudit = field(default_factory=MemoryAudit)
    lock: threading.RLock = field(default_factory=threading.RLock)
    activity_definitions: dict[str, ActivityDefinition] = field(default_factory=dict)
    definitions: list[Defined] = field(default_factory=list)
    announced: dict[str, ActivityTypeAnnouncement] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)
    gates: dict[str, Gate] = field(default_factory=dict)
    admission: dict[tuple[str, int], Slot] = field(default_factory=dict)
    admitted: list[Admitted] = field(default_factory=list)
    delayed: dict[str, Delayed] = field(default_factory=dict)
    schedules: dict[str, Schedule] = field(default_factory=dict)
    history: list[Told] = field(default_factory=list)
    fan_outs: dict[tuple[str, int], list[Any]] = field(default_factory=dict)
    dead_letters: dict[int, DeadLetter] = field(default_factory=dict)
    buried: int = 0
    outbox: list[OutboxRow] = field(default_factory=list)

    def note(
        self,
        subject: Subject,
        action: Action,
        order: Order,
        before: str,
        after: str,
        documents: tuple[Document | None, Document | None] = (None, None),
    ) -> None:
        """Note what an operator has done."""
        document_before, document_after = documents
        self.audit.note(
            *(subject, action, before, after),
            actor=order.actor,
            reason=masked_text(order.reason),
            request_id=order.request_id,
            document_before=document_before,
            document_after=document_after,
        )

    @property
    def secret_keys(self) -> frozenset[str]:
        """The keys whose values are not shown, because an activity type says so."""
        made = [*(one.made for one in self.definitions), *(run.made for run in self.runs.values())]
        return frozenset().union(*(one.secret_keys for one in made))

    def in_force(self, orchestration_type: str) -> list[Defined]:
        """The definitions of a type, the newest first."""
        found = [one for one in self.definitions if one.definition.type == orchestration_type]
        return sorted(found, key=lambda one: -one.posted)

    def active(self, orchestration_type: str, template_ref: str = "") -> Defined | None:
        """What a run of this type starts with; in the template, if one is named."""
        found = (one for one in self.in_force(orchestration_type) if one.definition.active)
        return next((one for one in found if template_ref in ("", one.definition.template_ref)), None)

    def put(self, subject: str, events: Sequence[EventDict]) -> list[OutboxRow]:
        """One row, as far as there is anything to put into it."""
        if not events:
            return []
        row = OutboxRow(len(self.outbox) + 1, subject, [copy(event) for event in events])
        self.outbox.append(row)
        return [row]

    def limits(self, activity_type: str) -> Limits:
        defined = self.activity_definitions.get(activity_type)
        return defined.limits if defined else Limits()

    def is_gated(self, node: Node) -> bool:
        """Whether an activity has to be admitted."""
        return not node.compiled.calls and self.is_gated_type(node.type)

    def is_gated_type(self, activity_type: str) -> bool:
        """Whether activities of a type have to be admitted."""
        limits, gate = self.limits(activity_type), self.gates.get(activity_type, Gate())
        return limits.hold_back or gate.paused or gate.probe_at is not None

    def bury(self, letter: DeadLetter) -> None:
        """Keep a dead letter under the next number."""
        self.buried += 1
        self.dead_letters[self.buried] = replace(letter, id=self.buried)

    def refuse(self, subject: str, document: dict[str, Any], reason: str, belongs_to: Context = NONE) -> None:
        """Keep what a step could not take in."""
        event = json.dumps(refused_event(subject, document, belongs_to))
        self.bury(DeadLetter(at=self.clock(), subject=subject, reason=reason, event=event))

    def policy(self, node: Node) -> Policy:
        """The definition's word, else the agent's, else the default; the orchestrations of a call have times of their own."""
        defaults = self.announced.get(node.type) or Policy()
        defined = self.activity_definitions.get(node.type) or ActivityDefinition(type=node.type)
        policy = Policy(
            timeout=defined.timeout or defaults.timeout,
            max_attempts=defined.retry.max_attempts or defaults.max_attempts,
            backoff=defined.retry.backoff or defaults.backoff,
            backoff_limit=defined.retry.backoff_limit or defaults.backoff_limit,
            schedule_to_start=defined.timeouts.schedule_to_start,
            schedule_to_close=defined.timeouts.schedule_to_close,
            heartbeat=defined.timeouts.heartbeat,
            wait=defined.timeouts.wait or Policy().wait,
        )
        if node.compiled.calls:
            return replace(policy, timeout=CALL_TIMEOUT, schedule_to_start=None, schedule_to_close=None)
        return policy
