"""Runs as the API starts, shows and finds them."""

from __future__ import annotations

from datetime import datetime

from cfm_core import trace
from cfm_core.access.model import ALL, EVERYTHING, Access, Action, Bound, Bounds, Resource
from cfm_core.audit.model import Kind, Subject
from cfm_core.contracts.completion import NO_KEY, CompletionKey
from cfm_core.contracts.orchestration import OrchestrationManifest
from cfm_core.errors import NotFoundError
from cfm_core.provisioning.calls.model import Call
from cfm_core.provisioning.engine.model import ActivityState
from cfm_core.provisioning.keys import check_after
from cfm_core.provisioning.memory.admission import rate_opens_at
from cfm_core.provisioning.memory.advancing import advance, changes_live, way_to_undo
from cfm_core.provisioning.memory.outcomes import decide, recorded_problem, wants_a_look
from cfm_core.provisioning.memory.runs import Delayed, Node, Run, Runs
from cfm_core.provisioning.memory.starting import definition_for, start_orchestrations
from cfm_core.provisioning.orchestrations import v1alpha1
from cfm_core.provisioning.orchestrations.bounds import belongs
from cfm_core.provisioning.orchestrations.fields import FIELDS
from cfm_core.provisioning.orchestrations.model import (
    ActivityStatus,
    Attempt,
    Endable,
    Ending,
    Heartbeat,
    Orchestration,
    activities_of,
)
from cfm_core.provisioning.orchestrations.service import (
    can_end,
    check_progress,
    check_recorded,
    named_by,
    outcome_of,
    superseded,
    unknown_type,
)
from cfm_core.provisioning.storable import check_storable, copy
from cfm_core.query import JsonPage, Page, Predicate
from cfm_core.store.memory import page_of


class MemoryOrchestrations:
    """See ``Orchestrations``."""

    def __init__(self, runs: Runs, completion_key: CompletionKey = NO_KEY, access: Access = EVERYTHING) -> None:
        self._runs = runs
        self._completion_key = completion_key
        self._access = access

    def within(self, access: Access) -> MemoryOrchestrations:
        return MemoryOrchestrations(self._runs, self._completion_key, access)

    def start(self, manifest: OrchestrationManifest, start_at: datetime | None = None) -> Orchestration:
        self._access.require_all(Action.CREATE, Resource.ORCHESTRATION)
        check_storable(manifest.model_dump())
        with self._runs.lock:
            if manifest.id not in self._runs.runs and manifest.id not in self._runs.delayed:
                if definition_for(self._runs, manifest) is None:
                    raise unknown_type(manifest)
                if start_at is None:
                    start_orchestrations(self._runs, [manifest], {manifest.id: trace.headers()})
                else:
                    now = self._runs.clock()
                    self._runs.delayed[manifest.id] = Delayed(manifest, start_at, now, now, trace.headers())
                owner = Bound(manifest.tenant_id, manifest.correlation_id)
                subject = Subject(Kind.ORCHESTRATIONS, manifest.id, belongs_to=owner)
                self._runs.audit.note_asked(subject, "start", "absent", "running" if start_at is None else "scheduled")
            return self._get(manifest.id)

    def get(self, orchestration_id: str) -> Orchestration:
        found = self.find(orchestration_id, self._access.require(Action.READ, Resource.ORCHESTRATION))
        if found is None:
            raise NotFoundError("orchestration", orchestration_id)
        return found

    def find(self, orchestration_id: str, bounds: Bounds = ALL) -> Orchestration | None:
        """The one with this id, if there is one within ``bounds``."""
        with self._runs.lock:
            if orchestration_id not in {*self._runs.runs, *self._runs.delayed}:
                return None
            found = self._get(orchestration_id)
        return found if belongs(found, bounds) else None

    def _get(self, orchestration_id: str) -> Orchestration:
        with self._runs.lock:
            run = self._runs.runs.get(orchestration_id)
            if run is None:
                return self._get_delayed(orchestration_id)
            graph = [
                status_of(self._runs, run, phase, place)
                for phase, nodes in sorted(run.phases.items())
                for place in sorted(nodes)
            ]
            return Orchestration(
                id=run.manifest.id,
                version=run.version,
                correlation_id=run.manifest.correlation_id,
                tenant_id=run.tenant_id,
                type=run.definition.type,
                state=run.state,
                state_at=run.state_at,
                created_at=run.created_at,
                error_detail=run.error_detail,
                activities=activities_of(run.definition.activities, graph),
                graph=tuple(graph),
                parent=run.parent.orchestration_id if run.parent else "",
                origin_trace=run.belongs_to,
                paused=run.paused,
                paused_above=run.paused and run.paused_above,
                erased=run.is_erased,
                compensable=way_to_undo(self._runs, run) is not None,
                changes_live=changes_live(run),
                processing_data=copy(run.processing_data),
                output_data=copy(run.outputs),
                secret_keys=self._runs.secret_keys,
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
            origin_trace=delayed.belongs_to,
            secret_keys=self._runs.secret_keys,
        )

    def end_activity(self, orchestration_id: str, activity_id: str, ending: Ending) -> None:
        with self._runs.lock:
            run, activities = self._activities(orchestration_id, activity_id)
            endables = [_endable(phase, ord_, node) for phase, ord_, node in activities]
            found = named_by(orchestration_id, activity_id, endables, ending, self._completion_key)
            if can_end(found, ending):
                outcome, node = outcome_of(orchestration_id, found, ending), run.nodes[found.ord]
                check_storable(outcome.model_dump(exclude={"after"}))
                if wants_a_look(self._runs, outcome):
                    check_recorded(recorded_problem(self._runs, outcome), node.state)
                if node.state is ActivityState.DISPATCHED:
                    node.ending = outcome
                else:
                    advance(self._runs, decide(self._runs, [outcome]))

    def heartbeat(self, orchestration_id: str, activity_id: str, heartbeat: Heartbeat) -> datetime:
        check_progress(heartbeat.progress)
        with self._runs.lock:
            run, ((_, _, node), *_) = self._activities(orchestration_id, activity_id)
            if node.state is not ActivityState.DISPATCHED or node.token != heartbeat.token:
                raise superseded(node.state.lower())
            now, policy = self._runs.clock(), self._runs.policy(node)
            before = node.progress if node.started_at else None
            node.started_at = node.started_at or now
            node.progress = before if heartbeat.progress is None else heartbeat.progress
            node.unanswered = 0
            until = node.started_at + policy.lease
            node.due_at = until = min(until, now + (policy.heartbeat or policy.lease), node.close_by or until)
            run.version += node.progress != before
            return until

    def _activities(self, orchestration_id: str, activity_id: str) -> tuple[Run, list[tuple[int, int, Node]]]:
        """What undoes an activity, if that has begun, and then the activity, each with its phase and place."""
        run = self._runs.runs.get(orchestration_id)
        found = [
            (phase, ord_, node)
            for phase, nodes in sorted(run.phases.items() if run else (), reverse=True)
            for ord_, node in nodes.items()
            if node.id == activity_id
        ]
        if run is None or not found:
            raise NotFoundError("activity", f"{orchestration_id}/{activity_id}")
        return run, found

    def history(self, orchestration_id: str) -> list[Attempt]:
        self.get(orchestration_id)
        with self._runs.lock:
            run = self._runs.runs.get(orchestration_id)
            if run is None:
                return []
            return [
                Attempt(
                    activity_id=run.phases[told.phase][told.ord].id,
                    activity_type=run.phases[told.phase][told.ord].type,
                    compensates=told.phase % 2 == 1,
                    dispatch=told.dispatch,
                    attempt=told.attempt,
                    outcome=told.kind,
                    reason=told.reason,
                    started_at=told.dispatched_at,
                    ended_at=told.at,
                    next_at=told.next_at,
                )
                for told in self._runs.history
                if told.orchestration_id == orchestration_id and told.ord in run.phases.get(told.phase, {})
            ]

    def select(self, predicate: Predicate, page: Page) -> JsonPage:
        bounds = self._access.require(Action.READ, Resource.ORCHESTRATION)
        check_after(page)
        with self._runs.lock:
            all_ = {id_: self._get(id_) for id_ in {**self._runs.delayed, **self._runs.runs}}
        found = {id_: one for id_, one in all_.items() if belongs(one, bounds)}
        return page_of(found, predicate, FIELDS, page, v1alpha1.fields_of, v1alpha1.entry_to_json)


class MemoryArchive:
    """See ``Archive``; in memory, runs stay where they are."""

    def tidy(self) -> int:
        return 0


class MemoryHistory:
    """See ``History``; a process that forgets everything at its end keeps it until then."""

    def tidy(self) -> int:
        return 0


def _endable(phase: int, ord_: int, node: Node) -> Endable:
    return Endable(
        phase=phase,
        ord=ord_,
        state=node.state,
        token=node.token,
        ending=node.ending.kind if node.ending else None,
        ending_token=node.ending.token if node.ending else "",
    )


def _children(runs: Runs, call: Call) -> tuple[int, int]:
    found = [run for run in runs.runs.values() if run.parent == call]
    return len(found), sum(run.remaining == 0 for run in found)


def status_of(runs: Runs, run: Run, phase: int, place: int) -> ActivityStatus:
    node = run.phases[phase][place]
    told = next(
        (
            one
            for one in reversed(runs.history)
            if (one.orchestration_id, one.phase, one.ord) == (run.manifest.id, phase, place)
            and one.dispatch is not None
        ),
        None,
    )
    held_back = node.state is ActivityState.READY and not run.paused
    return ActivityStatus(
        phase=phase,
        ord=place,
        id=node.id,
        type=node.type,
        state=node.state,
        deps_left=node.deps_left,
        dispatches=node.dispatches,
        unanswered=node.unanswered,
        failures=node.failures,
        max_attempts=runs.policy(node).max_attempts,
        has_agent=node.type in runs.announced,
        dispatched_at=node.dispatched_at,
        started_at=node.started_at,
        due_at=node.due_at,
        rate_opens_at=rate_opens_at(runs, node.type, run.manifest.tenant_id, runs.clock()) if held_back else None,
        progress=node.progress if node.started_at else None,
        ending=node.ending.kind if node.ending else "",
        ended_at=told.at if told else None,
        outcome=told.kind if told else "",
        children=_children(runs, Call(run.manifest.id, phase, place)) if node.compiled.calls else None,
        reason=told.reason if told else "",
    )
