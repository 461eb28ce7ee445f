"""The Provision Manager in memory: an executable model of what its SQL does, for one process, until it ends."""

from __future__ import annotations

import json
import random
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

from cfm_core.clock import Clock
from cfm_core.contracts import subjects
from cfm_core.contracts.activity import (
    DISPATCH_EVENT,
    ActivityDispatch,
    ActivityOutcome,
    ActivityTypeAnnouncement,
    OutcomeKind,
    UncheckedDispatch,
)
from cfm_core.contracts.orchestration import DEPLOY, DISPOSE, VPA_STATE, OrchestrationManifest, compensation_id
from cfm_core.contracts.reply import EventDict, OutboxRow
from cfm_core.errors import FieldError, NotFoundError, ValidationError
from cfm_core.provisioning.dead_letters.model import DeadLetter
from cfm_core.provisioning.definitions.compiled import CompiledActivity, CompiledInput
from cfm_core.provisioning.definitions.model import ActivityDefinition, Limits, OrchestrationDefinition
from cfm_core.provisioning.engine.checks import (
    INVALID_INPUT,
    INVALID_OUTPUT,
    as_invalid_input,
    as_invalid_output,
    input_problem,
    output_problem,
)
from cfm_core.provisioning.engine.events import (
    as_failure,
    cloud_event,
    dispatch_event,
    manifest_event,
    refused_event,
    response_to,
)
from cfm_core.provisioning.engine.model import (
    CONSECUTIVE_FAILURES,
    ENDED,
    FIRST_CLOSING,
    LEASE_SLACK,
    LONGEST_CLOSING,
    LONGEST_WAIT,
    MOST_UNANSWERED,
    RESEND_COMPENSATION,
    ActivityState,
    OrchestrationState,
    Policy,
    Progress,
    check_id,
    no_agent_answered,
    unknown_type_detail,
    within_reason,
)
from cfm_core.provisioning.keys import check_after
from cfm_core.provisioning.operations.model import Operation, Order
from cfm_core.provisioning.orchestrations import v1alpha1
from cfm_core.provisioning.orchestrations.actions import Action
from cfm_core.provisioning.orchestrations.fields import FIELDS
from cfm_core.provisioning.orchestrations.model import ActivityStatus, Attempt, Ending, Orchestration
from cfm_core.provisioning.orchestrations.service import can_end, check_recorded, outcome_of, unknown_type
from cfm_core.provisioning.schedules.model import Schedule
from cfm_core.provisioning.storable import check_storable, copy, is_storable
from cfm_core.query import JsonPage, Page, Predicate
from cfm_core.store.memory import page_of

Item = TypeVar("Item")

_MOST_ADMITTED = 1000
_LIVE = (ActivityState.DISPATCHED, ActivityState.WAITING)
_NOT_SENT = (ActivityState.BLOCKED, ActivityState.READY, ActivityState.BACKOFF, ActivityState.WAITING)
_PRECEDENCE = (OutcomeKind.COMPLETE, OutcomeKind.FATAL, OutcomeKind.RETRY, OutcomeKind.SCHEDULE, OutcomeKind.WAIT)


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
    due_at: datetime | None = None
    recorded: ActivityOutcome | None = None
    """What it has recorded, once it is done."""


@dataclass(slots=True, kw_only=True, eq=False)
class Defined:
    """A definition in force, as the engine takes it."""

    definition: OrchestrationDefinition
    activities: tuple[CompiledActivity, ...]
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
    nodes: list[Node]
    created_at: datetime
    state_at: datetime
    state: OrchestrationState = OrchestrationState.RUNNING
    version: int = 0
    error_detail: str = ""
    resend_at: datetime | None = None
    paused: bool = False
    is_erased: bool = False
    retries: int = 0
    values: dict[str, Any] | None = None
    outputs: dict[str, Any] = field(default_factory=dict)

    @property
    def remaining(self) -> int:
        return sum(node.state not in ENDED for node in self.nodes)

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


@dataclass(slots=True)
class Delayed:
    """An orchestration that is to start later; see ``provision_manager.delayed_start``."""

    manifest: OrchestrationManifest
    start_at: datetime
    created_at: datetime
    state_at: datetime
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
    lock: threading.RLock = field(default_factory=threading.RLock)
    activity_definitions: dict[str, ActivityDefinition] = field(default_factory=dict)
    definitions: list[Defined] = field(default_factory=list)
    announced: dict[str, ActivityTypeAnnouncement] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)
    gates: dict[str, Gate] = field(default_factory=dict)
    admission: dict[tuple[str, int], Slot] = field(default_factory=dict)
    operations: list[Operation] = field(default_factory=list)
    delayed: dict[str, Delayed] = field(default_factory=dict)
    schedules: dict[str, Schedule] = field(default_factory=dict)
    history: list[Told] = field(default_factory=list)
    dead_letters: dict[int, DeadLetter] = field(default_factory=dict)
    buried: int = 0
    outbox: list[OutboxRow] = field(default_factory=list)

    def note(self, order: Order, action: Action, before: str, after: str, **to: str) -> None:
        """Note what an operator has done; ``to`` names the run, the activity, or the activity type."""
        noted = Operation(
            id=len(self.operations) + 1,
            at=self.clock(),
            order=order,
            action=action,
            before=before,
            after=after,
            **to,
        )
        self.operations.append(noted)

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

    def is_gated(self, activity_type: str) -> bool:
        """Whether its activities have to be admitted."""
        limits, gate = self.limits(activity_type), self.gates.get(activity_type, Gate())
        limited = (limits.concurrency, limits.concurrency_per_tenant) != (None, None)
        return limited or gate.paused or gate.probe_at is not None

    def bury(self, letter: DeadLetter) -> None:
        """Keep a dead letter under the next number."""
        self.buried += 1
        self.dead_letters[self.buried] = replace(letter, id=self.buried)

    def refuse(self, subject: str, document: dict[str, Any], reason: str) -> None:
        """Keep what a step could not take in."""
        event = json.dumps(refused_event(subject, document))
        self.bury(DeadLetter(at=self.clock(), subject=subject, reason=reason, event=event))

    def policy(self, activity_type: str) -> Policy:
        """The definition's word, else the agent's, else the default."""
        defaults = self.announced.get(activity_type) or Policy()
        defined = self.activity_definitions.get(activity_type) or ActivityDefinition(type=activity_type)
        return Policy(
            timeout=defined.timeout or defaults.timeout,
            max_attempts=defined.retry.max_attempts or defaults.max_attempts,
            backoff=defined.retry.backoff or defaults.backoff,
            backoff_limit=defined.retry.backoff_limit or defaults.backoff_limit,
        )


class MemoryOrchestrations:
    """See ``Orchestrations``."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs

    def start(self, manifest: OrchestrationManifest, start_at: datetime | None = None) -> Orchestration:
        check_storable(manifest.model_dump())
        with self._runs.lock:
            if manifest.id not in self._runs.runs and manifest.id not in self._runs.delayed:
                if _definition_for(self._runs, manifest) is None:
                    raise unknown_type(manifest)
                if start_at is None:
                    _start(self._runs, [manifest])
                else:
                    now = self._runs.clock()
                    self._runs.delayed[manifest.id] = Delayed(manifest, start_at, now, now)
            return self.get(manifest.id)

    def get(self, orchestration_id: str) -> Orchestration:
        with self._runs.lock:
            run = self._runs.runs.get(orchestration_id)
            if run is None:
                return self._get_delayed(orchestration_id)
            return Orchestration(
                id=run.manifest.id,
                version=run.version,
                correlation_id=run.manifest.correlation_id,
                tenant_id=run.manifest.tenant_id,
                type=run.definition.type,
                state=run.state,
                state_at=run.state_at,
                created_at=run.created_at,
                error_detail=run.error_detail,
                activities=run.definition.activities,
                graph=tuple(_status(self._runs, run, place) for place in range(len(run.nodes))),
                paused=run.paused,
                erased=run.is_erased,
                compensable=is_compensable(self._runs, run),
                changes_live=_changes_live(run),
                processing_data=copy(run.processing_data),
                output_data=copy(run.outputs),
            )

    def _get_delayed(self, orchestration_id: str) -> Orchestration:
        delayed = self._runs.delayed.get(orchestration_id)
        if delayed is None:
            raise NotFoundError("orchestration", orchestration_id)
        defined = self._runs.active(delayed.manifest.orchestration_type, delayed.manifest.template_ref)
        return Orchestration(
            id=orchestration_id,
            version=delayed.version,
            correlation_id=delayed.manifest.correlation_id,
            tenant_id=delayed.manifest.tenant_id,
            type=delayed.manifest.orchestration_type,
            state=delayed.state,
            state_at=delayed.state_at,
            created_at=delayed.created_at,
            error_detail=delayed.error_detail,
            activities=defined.definition.activities if defined else (),
            graph=(),
            processing_data=copy(delayed.manifest.payload),
            start_at=delayed.start_at,
        )

    def end_activity(self, orchestration_id: str, activity_id: str, ending: Ending) -> None:
        with self._runs.lock:
            run = self._runs.runs.get(orchestration_id)
            found = [(ord_, node) for ord_, node in enumerate(run.nodes if run else ()) if node.id == activity_id]
            if run is None or not found:
                raise NotFoundError("activity", f"{orchestration_id}/{activity_id}")
            ((ord_, node),) = found
            if can_end(node.state, node.token or None, ending):
                outcome = outcome_of(orchestration_id, 0, ord_, ending)
                check_storable(outcome.model_dump(exclude={"after"}))
                if _wants_a_look(node, outcome):
                    check_recorded(_output_problem(run, node, outcome))
                _advance(self._runs, _decide(self._runs, [outcome]))

    def history(self, orchestration_id: str) -> list[Attempt]:
        with self._runs.lock:
            run = self._runs.runs.get(orchestration_id)
            if run is None:
                self._get_delayed(orchestration_id)
                return []
            return [
                Attempt(
                    activity_id=run.nodes[told.ord].id,
                    activity_type=run.nodes[told.ord].type,
                    dispatch=told.dispatch,
                    attempt=told.attempt,
                    outcome=told.kind,
                    reason=told.reason,
                    started_at=told.dispatched_at,
                    ended_at=told.at,
                    next_at=told.next_at,
                )
                for told in self._runs.history
                if told.orchestration_id == orchestration_id and 0 <= told.ord < len(run.nodes)
            ]

    def select(self, predicate: Predicate, page: Page) -> JsonPage:
        check_after(page)
        with self._runs.lock:
            found = {id_: self.get(id_) for id_ in self._runs.runs}
        return page_of(found, predicate, FIELDS, page, v1alpha1.fields_of, v1alpha1.entry_to_json)


class MemoryHistory:
    """See ``History``; a process that forgets everything at its end keeps it until then."""

    def tidy(self) -> int:
        return 0


class MemoryEngine:
    """See ``Engine``."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs

    def start(self, manifests: Sequence[OrchestrationManifest]) -> Progress:
        progress = Progress()
        with self._runs.lock:
            fit: dict[str, OrchestrationManifest] = {}
            for place, manifest in enumerate(manifests):
                if manifest.id in fit:
                    continue
                try:
                    check_id(manifest.id)
                    check_storable(manifest.model_dump())
                except ValidationError as error:
                    progress.refused[place] = str(error)
                    self._runs.refuse(subjects.MANIFESTS, manifest.to_json(), str(error))
                    answer = response_to(manifest, success=False, error_detail=str(error), properties={})
                    if is_storable(answer):
                        progress.outbox += self._runs.put(subjects.RESPONSES, [answer])
                else:
                    fit[manifest.id] = manifest
            others = [manifest for manifest in fit.values() if manifest.id in self._runs.runs]
            progress.outbox += _start(self._runs, fit.values())
            others += [manifest for manifest in fit.values() if manifest.id not in self._runs.runs]
            progress.outbox += _answer(self._runs, others)
        return progress

    def record(self, outcomes: Sequence[ActivityOutcome]) -> Progress:
        progress = Progress()
        with self._runs.lock:
            taken = []
            for place, outcome in enumerate(outcomes):
                try:
                    check_storable(outcome.model_dump(exclude={"after"}))
                except ValidationError as error:
                    progress.refused[place] = str(error)
                    self._runs.refuse(subjects.RESULTS, outcome.to_json(), str(error))
                    taken.append(as_failure(outcome, error))
                else:
                    taken.append(outcome)
            heard = _heard(self._runs, taken)
            held = {place for place in heard if _wants_a_look(_node(self._runs, taken[place]), taken[place])}
            progress.outbox += _advance(self._runs, _decide(self._runs, taken, heard, held))
            if held:
                progress.outbox += _record_checked(self._runs, [taken[place] for place in sorted(held)])
        return progress

    def check_inputs(self, dispatches: Mapping[str, UncheckedDispatch]) -> Progress:
        good: dict[str, list[EventDict]] = {}
        bad = []
        with self._runs.lock:
            for event_id, dispatch in dispatches.items():
                if (problem := input_problem(dispatch)) is not None:
                    bad.append(as_invalid_input(dispatch, problem))
                else:
                    good.setdefault(dispatch.activity_type, []).append(dispatch_event(event_id, dispatch))
            rows = [row for type_, events in good.items() for row in self._runs.put(subjects.activity(type_), events)]
            moves = [replace(one, kind=INVALID_INPUT) for one in _decide(self._runs, bad)]
            return Progress(rows + _advance(self._runs, moves))

    def sweep(self, most: int = 1000) -> Progress:
        with self._runs.lock:
            now = self._runs.clock()
            overdue = sorted(
                (node.due_at, run.manifest.id, place)
                for run in self._runs.runs.values()
                for place, node in enumerate(run.nodes)
                if node.due_at is not None and node.due_at <= now
            )
            moves = [_overdue(self._runs, self._runs.runs[id_], place) for _, id_, place in overdue[:most]]
            failing = {move.run.manifest.id for move in moves if move.state is ActivityState.FAILED}
            moves = [
                Move(move.run, move.ord, ActivityState.CANCELLED, move.kind)
                if move.state in (ActivityState.DISPATCHED, ActivityState.READY) and move.run.manifest.id in failing
                else move
                for move in moves
            ]
            rows = _advance(self._runs, moves)
            rows += _admit(self._runs, {slot.type for slot in self._runs.admission.values() if not slot.in_flight}, now)
            late = [run for run in self._runs.runs.values() if run.resend_at is not None and run.resend_at <= now]
            for run in late:
                run.resend_at = now + RESEND_COMPENSATION
            return Progress(rows + _compensate(self._runs, late))

    def register_types(self, announcements: Sequence[ActivityTypeAnnouncement]) -> Progress:
        with self._runs.lock:
            self._runs.announced |= {one.activity_type: one for one in announcements}
        return Progress()


def start(runs: Runs, manifests: Iterable[OrchestrationManifest]) -> tuple[list[OutboxRow], set[str]]:
    """See ``engine.starting.start``."""
    wanted = list(manifests)
    rows = _start(runs, wanted)
    return rows, {manifest.id for manifest in wanted if manifest.id in runs.runs}


def _start(runs: Runs, manifests: Iterable[OrchestrationManifest]) -> list[OutboxRow]:
    now = runs.clock()
    sent: list[tuple[Run, int]] = []
    crossed: set[str] = set()
    for manifest in manifests:
        defined = _definition_for(runs, manifest)
        if manifest.id in runs.runs or defined is None:
            continue
        run = Run(manifest, defined.definition, _nodes(defined.activities), now, now)
        runs.runs[manifest.id] = run
        for place, node in enumerate(run.nodes):
            if node.deps_left == 0:
                sent += _send(runs, run, place, now, crossed)
        failed = _compensated_by(runs, manifest.id)
        if failed is not None:
            failed.resend_at = None
    return _announce(runs, sent) + _admit(runs, crossed, now)


def _definition_for(runs: Runs, manifest: OrchestrationManifest) -> Defined | None:
    """What undoes a run does so as that run's own template says, if it does."""
    if (undone := _compensated_by(runs, manifest.id)) is not None:
        own = undone.definition.template_ref
        for one in runs.in_force(manifest.orchestration_type):
            if one.definition.template_ref == own:
                return one
    return runs.active(manifest.orchestration_type, manifest.template_ref)


def _nodes(activities: Sequence[CompiledActivity]) -> list[Node]:
    return [
        Node(
            one.id,
            one.type,
            one,
            tuple(child for child, other in enumerate(activities) if place in other.parents),
            len(one.parents),
        )
        for place, one in enumerate(activities)
    ]


def _answer(runs: Runs, manifests: Iterable[OrchestrationManifest]) -> list[OutboxRow]:
    """Answers manifests that have started nothing: ended runs and what has undone them again, unknown types with a failure."""
    ended, refused = [], []
    for manifest in manifests:
        run, undoing = runs.runs.get(manifest.id), runs.runs.get(compensation_id(manifest.id))
        if undoing is not None and undoing.state is not OrchestrationState.RUNNING:
            ended.append(undoing)
        if run is None:
            detail = unknown_type_detail(manifest.orchestration_type, manifest.template_ref)
            refused.append(response_to(manifest, success=False, error_detail=detail, properties={}))
            _settle(runs, manifest.id, OrchestrationState.COMPENSATION_FAILED)
        elif run.state is not OrchestrationState.RUNNING:
            ended.append(run)
    return _respond(runs, ended) + runs.put(subjects.RESPONSES, refused)


def _heard(runs: Runs, outcomes: Sequence[ActivityOutcome]) -> set[int]:
    """The places of the outcomes that count: of several about one dispatch, the one that ends it."""
    heard: dict[tuple[str, int], int] = {}
    for place, outcome in enumerate(outcomes):
        key = (outcome.orchestration_id, outcome.ord)
        if _counts(runs, outcome) and (
            key not in heard or _PRECEDENCE.index(outcome.kind) < _PRECEDENCE.index(outcomes[heard[key]].kind)
        ):
            heard[key] = place
    return set(heard.values())


def _decide(
    runs: Runs, outcomes: Sequence[ActivityOutcome], heard: Set[int] | None = None, held: Set[int] = frozenset()
) -> list[Move]:
    """What becomes of the outcomes that are ``heard``; those that are ``held`` are left as if nobody had spoken."""
    if heard is None:
        heard = _heard(runs, outcomes)
    moves = []
    for place, outcome in enumerate(outcomes):
        if place not in heard:
            kind = f"fenced: {outcome.kind}"
            runs.history.append(Told(outcome.orchestration_id, outcome.ord, kind, outcome.reason, runs.clock()))
        elif place not in held:
            moves.append(_decision(runs, runs.runs[outcome.orchestration_id], outcome))
    return moves


def _record_checked(runs: Runs, outcomes: Sequence[ActivityOutcome]) -> list[OutboxRow]:
    """Takes in outcomes that were held, each as it is, or as a failure."""
    problems = [_output_problem(runs.runs[one.orchestration_id], _node(runs, one), one) for one in outcomes]
    judged = [
        one if problem is None else as_invalid_output(one, problem)
        for one, problem in zip(outcomes, problems, strict=True)
    ]
    moves = _decide(runs, judged)
    return _advance(
        runs,
        [replace(one, kind=INVALID_OUTPUT) if one.kind is OutcomeKind.FATAL else one for one in moves],
    )


def _wants_a_look(node: Node, outcome: ActivityOutcome) -> bool:
    return outcome.kind is OutcomeKind.COMPLETE and node.compiled.output_schema is not None


def _output_problem(run: Run, node: Node, outcome: ActivityOutcome) -> FieldError | None:
    schema = node.compiled.output_schema or {}
    known = {key: run.processing_data[key] for key in schema.get("required", ()) if key in run.processing_data}
    return output_problem(outcome, schema, known)


def _node(runs: Runs, outcome: ActivityOutcome) -> Node:
    return runs.runs[outcome.orchestration_id].nodes[outcome.ord]


def _counts(runs: Runs, outcome: ActivityOutcome) -> bool:
    run = runs.runs.get(outcome.orchestration_id)
    if run is None or outcome.phase != 0 or not 0 <= outcome.ord < len(run.nodes):
        return False
    node = run.nodes[outcome.ord]
    live = _LIVE[:1] if outcome.kind is OutcomeKind.WAIT else _LIVE
    return node.state in live and node.token == outcome.token


def _decision(runs: Runs, run: Run, outcome: ActivityOutcome) -> Move:
    node = run.nodes[outcome.ord]
    policy = runs.policy(node.type)
    name = f"activity {node.id} ({node.type})"
    after = within_reason(outcome.after)
    failed = outcome.kind is OutcomeKind.RETRY

    def move(state: ActivityState, due_in: timedelta | None = None, reason: str = outcome.reason) -> Move:
        return Move(run, outcome.ord, state, outcome.kind, due_in, failed, reason, outcome)

    if outcome.kind is OutcomeKind.COMPLETE:
        return move(ActivityState.DONE)
    if outcome.kind is OutcomeKind.FATAL:
        return move(ActivityState.FAILED, reason=f"{name}: {outcome.reason}")
    if failed and node.failures + 1 >= policy.max_attempts:
        return move(ActivityState.FAILED, reason=f"{name} failed after {node.failures + 1} attempts: {outcome.reason}")
    if run.state is not OrchestrationState.RUNNING:
        return move(ActivityState.CANCELLED)
    if outcome.kind is OutcomeKind.WAIT:
        return move(ActivityState.WAITING, LONGEST_WAIT if after is None else after)
    if outcome.kind is OutcomeKind.SCHEDULE:
        return move(ActivityState.BACKOFF, policy.backoff if after is None else after)
    greatest = min(policy.backoff_limit.total_seconds(), policy.backoff.total_seconds() * 2.0 ** min(node.failures, 60))
    return move(ActivityState.BACKOFF, timedelta(seconds=runs.jitter() * greatest) if after is None else after)


def _overdue(runs: Runs, run: Run, place: int) -> Move:
    node = run.nodes[place]
    name = f"activity {node.id} ({node.type})"
    kind = {ActivityState.DISPATCHED: "lease over", ActivityState.WAITING: "wait over"}.get(node.state, "")
    if run.state is not OrchestrationState.RUNNING:
        return Move(run, place, ActivityState.CANCELLED, kind)
    if node.state is ActivityState.WAITING:
        return Move(run, place, ActivityState.FAILED, kind, reason=f"{name}: wait timed out")
    if node.state is ActivityState.DISPATCHED and node.unanswered >= MOST_UNANSWERED:
        return Move(run, place, ActivityState.FAILED, kind, reason=f"{name}: {no_agent_answered(node.type)}")
    if run.paused or runs.is_gated(node.type):
        return Move(run, place, ActivityState.READY, kind)
    return Move(run, place, ActivityState.DISPATCHED, kind, runs.policy(node.type).timeout + LEASE_SLACK)


def _advance(runs: Runs, moves: Sequence[Move]) -> list[OutboxRow]:
    now = runs.clock()
    touched = {move.run.manifest.id: move.run for move in moves}
    was_running = {id_ for id_, run in touched.items() if run.state is OrchestrationState.RUNNING}
    reasons: dict[str, str] = {}
    sent: list[tuple[Run, int]] = []
    crossed = {slot.type for move in moves if (slot := _leave(runs, move.run, move.ord)) is not None}

    for move in moves:
        run, node = move.run, move.run.nodes[move.ord]
        if move.outcome is not None:
            _merge(run, move.outcome)
            node.recorded = move.outcome if move.state is ActivityState.DONE else None
        if move.kind:
            next_at = None if move.due_in is None else now + move.due_in
            attempt = node.failures + 1
            told = Told(
                *(run.manifest.id, move.ord, move.kind, move.reason, now),
                *(node.dispatches, attempt, node.dispatched_at, next_at),
            )
            runs.history.append(told)
        node.state = move.state
        node.failures += move.failed
        if move.state is ActivityState.DISPATCHED:
            _dispatch(runs, node, now)
            sent.append((run, move.ord))
            continue
        if move.state is ActivityState.READY:
            _enqueue(runs, run, move.ord, now, crossed)
        else:
            node.unanswered = 0
        node.due_at = None if move.due_in is None else now + move.due_in
        if move.state is ActivityState.FAILED and run.manifest.id in was_running:
            reasons.setdefault(run.manifest.id, move.reason)

    for move in moves:
        if move.state is not ActivityState.DONE:
            continue
        for place in move.run.nodes[move.ord].children:
            child = move.run.nodes[place]
            child.deps_left -= 1
            goes_on = move.run.manifest.id in was_running and move.run.manifest.id not in reasons
            if goes_on and child.deps_left == 0 and child.state is ActivityState.BLOCKED:
                sent += _send(runs, move.run, place, now, crossed)

    if any(move.failed for move in moves) or any(gate.failures for gate in runs.gates.values()):
        crossed |= _count_failures(runs, moves, now)
    ended, undone = [], []
    seen = {move.run.manifest.id for move in moves if move.state in ENDED or _has_data(move.outcome)}
    for id_, run in sorted(touched.items()):
        if id_ in reasons:
            _fail(runs, run, reasons[id_], now)
            ended.append(run)
        elif run.remaining == 0 and run.state is OrchestrationState.RUNNING:
            _finish(run, now)
            ended.append(run)
        elif run.remaining == 0 and run.state is OrchestrationState.CANCELLING:
            run.enter(OrchestrationState.CANCELLED, now)
        elif id_ in seen:
            run.version += 1
        if run.state is OrchestrationState.COMPENSATING and run.remaining == 0:
            run.resend_at = now + RESEND_COMPENSATION
            undone.append(run)
    rows = _announce(runs, sent) + _respond(runs, ended) + _compensate(runs, undone)
    return rows + _admit(runs, crossed, now)


def _has_data(outcome: ActivityOutcome | None) -> bool:
    return outcome is not None and bool(outcome.values or outcome.deleted or outcome.outputs)


def _merge(run: Run, outcome: ActivityOutcome) -> None:
    if outcome.values or outcome.deleted:
        kept = {key: value for key, value in run.processing_data.items() if key not in outcome.deleted}
        run.values = kept | copy(outcome.values)
    run.outputs |= copy(outcome.outputs)


def _finish(run: Run, now: datetime) -> None:
    left_out = [node for node in run.nodes if node.state is not ActivityState.DONE]
    run.paused = False
    if left_out:
        run.error_detail = f"activity {left_out[0].id} ({left_out[0].type}) was not retried"
    run.enter(OrchestrationState.ERRORED if left_out else OrchestrationState.COMPLETED, now)


def _fail(
    runs: Runs,
    run: Run,
    reason: str,
    now: datetime,
    *,
    final: OrchestrationState = OrchestrationState.ERRORED,
    undoes: bool = True,
) -> None:
    for node in run.nodes:
        if node.state in _NOT_SENT:
            node.state, node.due_at = ActivityState.CANCELLED, None
    leave_queue(runs, run)
    run.error_detail, run.paused = reason, False
    # A live participant, whose state goes along, must not end because of a change that failed.
    if undoes and is_compensable(runs, run) and not _changes_live(run):
        run.enter(OrchestrationState.COMPENSATING, now)
    elif final is OrchestrationState.CANCELLED and run.remaining:
        run.enter(OrchestrationState.CANCELLING, now)
    else:
        run.enter(final, now)


def is_compensable(runs: Runs, run: Run) -> bool:
    own, now = run.definition.template_ref, runs.active(run.definition.type)
    return run.definition.type != DISPOSE and any(
        one.definition.template_ref == own
        or (one.definition.active and now is not None and one.definition.template_ref == now.definition.template_ref)
        for one in runs.in_force(DISPOSE)
    )


def _changes_live(run: Run) -> bool:
    return run.definition.type == DEPLOY and VPA_STATE in run.manifest.payload


def _send(runs: Runs, run: Run, place: int, now: datetime, crossed: set[str]) -> list[tuple[Run, int]]:
    """Dispatches an activity that could be sent, or holds it back where its run is paused, or queues it."""
    node = run.nodes[place]
    if not run.paused and not runs.is_gated(node.type):
        _dispatch(runs, node, now)
        return [(run, place)]
    node.state = ActivityState.READY
    _enqueue(runs, run, place, now, crossed)
    return []


def release(runs: Runs, run: Run, now: datetime) -> None:
    """Sends what is READY of a run, or queues it, as ``provision_manager.release`` does."""
    crossed: set[str] = set()
    ready = [place for place, node in enumerate(run.nodes) if node.state is ActivityState.READY]
    _announce(runs, [one for place in ready for one in _send(runs, run, place, now, crossed)])
    _admit(runs, crossed, now)


def _enqueue(runs: Runs, run: Run, place: int, now: datetime, crossed: set[str]) -> None:
    key, type_ = (run.manifest.id, place), run.nodes[place].type
    if not run.paused and key not in runs.admission:
        runs.admission[key] = Slot(type_, run.manifest.tenant_id, now)
        crossed.add(type_)


def count_in_flight(runs: Runs, activity_type: str) -> None:
    """Counts what is with agents of a type that has limits from now on."""
    for run in runs.runs.values():
        for place, node in enumerate(run.nodes):
            if node.type == activity_type and node.state is ActivityState.DISPATCHED and node.dispatched_at is not None:
                slot = Slot(node.type, run.manifest.tenant_id, node.dispatched_at, in_flight=True)
                runs.admission.setdefault((run.manifest.id, place), slot)


def _leave(runs: Runs, run: Run, place: int) -> Slot | None:
    return runs.admission.pop((run.manifest.id, place), None)


def leave_queue(runs: Runs, run: Run) -> None:
    """Takes what is not in flight of a run out of the queues."""
    for place in range(len(run.nodes)):
        slot = runs.admission.get((run.manifest.id, place))
        if slot is not None and not slot.in_flight:
            _leave(runs, run, place)


def _admit(runs: Runs, types: Iterable[str], now: datetime) -> list[OutboxRow]:
    """See ``provision_manager.admit``."""
    chosen = [key for type_ in sorted(types) for key in _choose(runs, type_, now)]
    for id_, place in chosen:
        runs.admission[id_, place].in_flight = True
        _dispatch(runs, runs.runs[id_].nodes[place], now)
    return _announce(runs, [(runs.runs[id_], place) for id_, place in chosen])


def admit(runs: Runs, activity_type: str) -> None:
    """Sends what a type's limits allow by now."""
    _admit(runs, [activity_type], runs.clock())


def _choose(runs: Runs, type_: str, now: datetime) -> list[tuple[str, int]]:
    """See ``provision_manager.choose``."""
    limits, gate = runs.limits(type_), runs.gates.get(type_, Gate())
    if gate.paused or (gate.probe_at is not None and gate.probe_at > now):
        return []
    slots = {key: slot for key, slot in runs.admission.items() if slot.type == type_}
    busy = Counter(slot.tenant_id for slot in slots.values() if slot.in_flight)
    room = min(_MOST_ADMITTED, _or_many(limits.concurrency) - busy.total())
    if gate.probe_at is not None:
        room = min(room, 1 - busy.total())
    queued = sorted((slot.ready_at, *key) for key, slot in slots.items() if not slot.in_flight)
    turns = []
    for ready_at, id_, place in queued:
        tenant = slots[id_, place].tenant_id
        busy[tenant] += 1
        if busy[tenant] <= _or_many(limits.concurrency_per_tenant):
            turns.append((busy[tenant], ready_at, id_, place))
    return sorted((id_, place) for _, _, id_, place in sorted(turns)[: max(0, room)])


def _or_many(limit: int | None) -> int:
    return _MOST_ADMITTED if limit is None else limit


def _count_failures(runs: Runs, moves: Sequence[Move], now: datetime) -> set[str]:
    """See ``provision_manager.count_failures``; gives the types whose gates have opened."""
    told: dict[str, list[Move]] = {}
    for move in moves:
        if move.kind in (OutcomeKind.COMPLETE, OutcomeKind.RETRY):
            told.setdefault(move.run.nodes[move.ord].type, []).append(move)
    opened = set()
    for type_, of_type in told.items():
        gate = runs.gates.get(type_)
        if any(move.kind == OutcomeKind.COMPLETE for move in of_type):
            if gate is not None and gate.failures:
                gate.failures, gate.closings, gate.probe_at = 0, 0, None
                opened.add(type_)
            continue
        gate = runs.gates.setdefault(type_, Gate())
        gate.failures += sum(move.failed for move in of_type)
        limit = runs.limits(type_).consecutive_failures
        most = CONSECUTIVE_FAILURES if limit is None else limit
        if most and gate.failures >= most and (gate.probe_at is None or gate.probe_at <= now):
            gate.probe_at = now + min(LONGEST_CLOSING, FIRST_CLOSING * 2 ** min(gate.closings, 5))
            gate.closings += 1
    return opened


def cancel(runs: Runs, run: Run, reason: str, *, undoes: bool) -> None:
    """See ``provision_manager.cancel_run``."""
    now = runs.clock()
    _fail(runs, run, reason, now, final=OrchestrationState.CANCELLED, undoes=undoes)
    _respond(runs, [run])
    if run.state is OrchestrationState.COMPENSATING and run.remaining == 0:
        run.resend_at = now + RESEND_COMPENSATION
        _compensate(runs, [run])


def retry(runs: Runs, run: Run, ords: Sequence[int]) -> None:
    """See ``provision_manager.retry_run``."""
    now = runs.clock()
    for ord_ in ords:
        node = run.nodes[ord_]
        node.state = ActivityState.BLOCKED if node.deps_left else ActivityState.READY
        node.failures = node.unanswered = 0
    run.retries += 1
    run.error_detail, run.paused, run.resend_at = "", False, None
    run.enter(OrchestrationState.RUNNING if run.remaining else OrchestrationState.COMPLETED, now)
    undone = _compensated_by(runs, run.manifest.id)
    if undone is not None and undone.state is OrchestrationState.COMPENSATION_FAILED:
        undone.enter(OrchestrationState.COMPENSATING, now)
    release(runs, run, now)
    if run.state is OrchestrationState.COMPLETED:
        _respond(runs, [run])


def compensate(runs: Runs, run: Run) -> None:
    """See ``provision_manager.compensate_run``."""
    before = runs.runs.get(compensation_id(run.manifest.id))
    if before is not None:
        undone = (ActivityState.FAILED, ActivityState.CANCELLED)
        retry(runs, before, [place for place, node in enumerate(before.nodes) if node.state in undone])
        return
    now = runs.clock()
    run.enter(OrchestrationState.COMPENSATING, now)
    if run.remaining == 0:
        run.resend_at = now + RESEND_COMPENSATION
        _compensate(runs, [run])


def hasten(runs: Runs, run: Run, place: int) -> None:
    """See ``provision_manager.hasten_activity``."""
    run.nodes[place].state, run.nodes[place].due_at = ActivityState.READY, None
    release(runs, run, runs.clock())


def resolve(
    runs: Runs, run: Run, place: int, reason: str, values: Mapping[str, Any], outputs: Mapping[str, Any]
) -> None:
    """See ``provision_manager.resolve_activity``."""
    outcome = ActivityOutcome(
        orchestration_id=run.manifest.id,
        phase=0,
        ord=place,
        token=run.nodes[place].token,
        kind=OutcomeKind.COMPLETE,
        values=dict(values),
        outputs=dict(outputs),
    )
    _advance(runs, [Move(run, place, ActivityState.DONE, "resolved", reason=reason, outcome=outcome)])


def erase(runs: Runs, correlation_id: str) -> tuple[int, list[str]]:
    """See ``provision_manager.erase_runs``."""
    found = [run for _, run in sorted(runs.runs.items()) if run.manifest.correlation_id == correlation_id]
    going = [run.manifest.id for run in found if run.remaining or run.resend_at is not None]
    if going:
        return 0, going[:10]
    fresh = [run for run in found if not run.is_erased]
    for run in fresh:
        run.manifest = run.manifest.model_copy(update={"payload": {}})
        run.values, run.outputs, run.error_detail, run.is_erased = None, {}, "", True
        run.version += 1
    ids = {run.manifest.id for run in fresh}
    runs.history = [replace(told, reason="") if told.orchestration_id in ids else told for told in runs.history]
    return len(fresh), []


def _status(runs: Runs, run: Run, place: int) -> ActivityStatus:
    node = run.nodes[place]
    told = next(
        (
            one
            for one in reversed(runs.history)
            if one.orchestration_id == run.manifest.id and one.ord == place and one.dispatch is not None
        ),
        None,
    )
    return ActivityStatus(
        ord=place,
        id=node.id,
        type=node.type,
        state=node.state,
        deps_left=node.deps_left,
        dispatches=node.dispatches,
        unanswered=node.unanswered,
        failures=node.failures,
        max_attempts=runs.policy(node.type).max_attempts,
        has_agent=node.type in runs.announced,
        dispatched_at=node.dispatched_at,
        due_at=node.due_at,
        ended_at=told.at if told else None,
        outcome=told.kind if told else "",
        reason=told.reason if told else "",
    )


def _dispatch(runs: Runs, node: Node, now: datetime) -> None:
    node.state = ActivityState.DISPATCHED
    node.dispatches += 1
    node.unanswered += 1
    node.token = str(uuid.uuid4())
    node.dispatched_at = now
    node.due_at = now + runs.policy(node.type).timeout + LEASE_SLACK


def _announce(runs: Runs, sent: Sequence[tuple[Run, int]]) -> list[OutboxRow]:
    by_subject: dict[str, list[EventDict]] = {}
    for run, place in sent:
        node = run.nodes[place]
        assert node.dispatched_at is not None
        dispatch = ActivityDispatch(
            orchestration_id=run.manifest.id,
            phase=0,
            ord=place,
            token=node.token,
            activity_id=node.id,
            activity_type=node.type,
            discriminator=run.definition.type,
            correlation_id=run.manifest.correlation_id,
            attempt=node.failures + 1,
            deadline=node.dispatched_at + runs.policy(node.type).timeout,
            values=_mapped(run, node.compiled.inputs) if node.compiled.inputs else run.processing_data,
            outputs=run.outputs,
        )
        data, subject = dispatch.to_json(), subjects.activity(node.type)
        if node.compiled.input_schema is not None:
            data, subject = data | {"inputSchema": node.compiled.input_schema}, subjects.INPUTS
        event_id = f"{run.manifest.id}/0/{place}/{node.dispatches}"
        by_subject.setdefault(subject, []).append(
            cloud_event(id=event_id, type=DISPATCH_EVENT, orchestration_id=run.manifest.id, data=data)
        )
    return [row for subject, events in by_subject.items() for row in runs.put(subject, events)]


def _mapped(run: Run, inputs: Iterable[CompiledInput]) -> dict[str, Any]:
    """See ``provision_manager.mapped_inputs``."""
    values = {}
    for one in inputs:
        recorded = run.nodes[one.ord].recorded if one.ord is not None else None
        places = (recorded.values, recorded.outputs) if recorded is not None else ()
        for place in (*places, run.processing_data):
            if one.key in place:
                values[one.target] = place[one.key]
                break
    return values


def _respond(runs: Runs, ended: Sequence[Run]) -> list[OutboxRow]:
    for run in ended:
        succeeded = run.state is OrchestrationState.COMPLETED
        _settle(
            runs,
            run.manifest.id,
            OrchestrationState.COMPENSATED if succeeded else OrchestrationState.COMPENSATION_FAILED,
        )
    return runs.put(
        subjects.RESPONSES,
        [
            response_to(
                run.manifest,
                success=run.state is OrchestrationState.COMPLETED,
                error_detail=run.error_detail,
                properties=run.outputs,
                retries=run.retries,
            )
            for run in ended
        ],
    )


def _compensate(runs: Runs, undone: Sequence[Run]) -> list[OutboxRow]:
    return runs.put(
        subjects.MANIFESTS,
        [
            manifest_event(
                OrchestrationManifest(
                    id=compensation_id(run.manifest.id),
                    correlation_id=run.manifest.correlation_id,
                    orchestration_type=DISPOSE,
                    payload=run.processing_data,
                ),
                run.manifest.id,
            )
            for run in undone
        ],
    )


def _compensated_by(runs: Runs, id_: str) -> Run | None:
    suffix = compensation_id("")
    return runs.runs.get(id_.removesuffix(suffix)) if id_.endswith(suffix) else None


def _settle(runs: Runs, id_: str, state: OrchestrationState) -> None:
    failed = _compensated_by(runs, id_)
    if failed is not None and failed.state is OrchestrationState.COMPENSATING:
        failed.enter(state, runs.clock())
        failed.resend_at = None
