"""The engine in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from cfm_core.contracts import subjects
from cfm_core.contracts.activity import ActivityOutcome, ActivityTypeAnnouncement, OutcomeKind, UncheckedDispatch
from cfm_core.contracts.orchestration import OrchestrationManifest
from cfm_core.contracts.reply import EventDict, OutboxRow
from cfm_core.errors import ValidationError
from cfm_core.provisioning.calls.model import LOOKED_AFTER_EVERY, Call
from cfm_core.provisioning.engine.checks import (
    INVALID_INPUT,
    INVALID_OUTPUT,
    as_invalid_input,
    as_invalid_output,
    input_problem,
)
from cfm_core.provisioning.engine.events import as_failure, dispatch_event, response_to
from cfm_core.provisioning.engine.model import (
    RESEND_COMPENSATION,
    ActivityState,
    OrchestrationState,
    Progress,
    check_id,
)
from cfm_core.provisioning.engine.service import NO_TRACES
from cfm_core.provisioning.memory.admission import admit
from cfm_core.provisioning.memory.advancing import advance, undo_runs
from cfm_core.provisioning.memory.announcing import announce_keys
from cfm_core.provisioning.memory.outcomes import (
    decide,
    heard_of,
    is_overdue,
    overdue_move,
    recorded_problem,
    wants_a_look,
)
from cfm_core.provisioning.memory.runs import Move, Runs
from cfm_core.provisioning.memory.starting import answer_others, start_orchestrations
from cfm_core.provisioning.storable import check_storable, is_storable
from cfm_core.trace import NONE, Context


class MemoryEngine:
    """See ``Engine``."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs

    def start(self, manifests: Sequence[OrchestrationManifest], traces: Mapping[str, Context] = NO_TRACES) -> Progress:
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
                    belongs_to = traces.get(manifest.id, NONE)
                    self._runs.refuse(subjects.MANIFESTS, manifest.to_json(), str(error), belongs_to)
                    answer = response_to(manifest, belongs_to, success=False, error_detail=str(error), properties={})
                    if is_storable(answer):
                        progress.outbox += self._runs.put(subjects.RESPONSES, [answer])
                else:
                    fit[manifest.id] = manifest
            others = [manifest for manifest in fit.values() if manifest.id in self._runs.runs]
            progress.outbox += start_orchestrations(self._runs, fit.values(), traces)
            others += [manifest for manifest in fit.values() if manifest.id not in self._runs.runs]
            progress.outbox += answer_others(self._runs, others, traces)
        return progress

    def record(self, outcomes: Sequence[ActivityOutcome], traces: Mapping[str, Context] = NO_TRACES) -> Progress:
        progress = Progress()
        with self._runs.lock:
            taken = []
            for place, outcome in enumerate(outcomes):
                try:
                    check_storable(outcome.model_dump(exclude={"after"}))
                except ValidationError as error:
                    progress.refused[place] = str(error)
                    belongs_to = traces.get(outcome.token, NONE)
                    self._runs.refuse(subjects.RESULTS, outcome.to_json(), str(error), belongs_to)
                    taken.append(as_failure(outcome, error))
                else:
                    taken.append(outcome)
            heard = heard_of(self._runs, taken)
            held = {place for place in heard if wants_a_look(self._runs, taken[place])}
            progress.outbox += advance(self._runs, decide(self._runs, taken, heard, held))
            if held:
                progress.outbox += _record_checked(self._runs, [taken[place] for place in sorted(held)])
        return progress

    def check_inputs(
        self, dispatches: Mapping[str, UncheckedDispatch], traces: Mapping[str, Context] = NO_TRACES
    ) -> Progress:
        good: dict[str, list[EventDict]] = {}
        bad = []
        with self._runs.lock:
            for event_id, dispatch in dispatches.items():
                if (problem := input_problem(dispatch)) is not None:
                    bad.append(as_invalid_input(dispatch, problem))
                else:
                    checked = dispatch_event(event_id, dispatch, traces.get(event_id, NONE))
                    good.setdefault(dispatch.activity_type, []).append(checked)
            rows = [row for type_, events in good.items() for row in self._runs.put(subjects.activity(type_), events)]
            moves = [replace(one, kind=INVALID_INPUT) for one in decide(self._runs, bad)]
            return Progress(rows + advance(self._runs, moves))

    def sweep(self, most: int = 1000) -> Progress:
        with self._runs.lock:
            now = self._runs.clock()
            overdue = sorted(
                (node.due_at, run.manifest.id, place)
                for run in self._runs.runs.values()
                for place, node in run.nodes.items()
                if node.due_at is not None and is_overdue(node, now)
            )
            called = [(id_, place) for _, id_, place in overdue if self._runs.runs[id_].nodes[place].compiled.calls]
            for id_, place in called:
                self._runs.runs[id_].nodes[place].due_at = now + LOOKED_AFTER_EVERY
            rows = announce_keys(self._runs, [Call(id_, self._runs.runs[id_].phase, place) for id_, place in called])
            overdue = [one for one in overdue if one[1:] not in called]
            moves = [overdue_move(self._runs, self._runs.runs[id_], place, now) for _, id_, place in overdue[:most]]
            failing = {move.run.manifest.id for move in moves if move.state is ActivityState.FAILED}
            moves = [
                Move(move.run, move.ord, ActivityState.CANCELLED, move.kind)
                if move.state in (ActivityState.DISPATCHED, ActivityState.READY) and move.run.manifest.id in failing
                else move
                for move in moves
            ]
            rows += advance(self._runs, moves)
            rows += admit(self._runs, {slot.type for slot in self._runs.admission.values() if not slot.in_flight})
            late = [run for run in self._runs.runs.values() if run.resend_at is not None and run.resend_at <= now]
            for run in late:
                run.resend_at = None if run.remaining else now + RESEND_COMPENSATION
                if run.state is not OrchestrationState.COMPENSATING:
                    run.enter(OrchestrationState.COMPENSATING, now)
            return Progress(rows + undo_runs(self._runs, [run for run in late if not run.remaining], now))

    def register_types(self, announcements: Sequence[ActivityTypeAnnouncement]) -> Progress:
        with self._runs.lock:
            self._runs.announced |= {one.activity_type: one for one in announcements}
        return Progress()


def _record_checked(runs: Runs, outcomes: Sequence[ActivityOutcome]) -> list[OutboxRow]:
    """Takes in outcomes that were held, each as it is, or as a failure."""
    problems = [recorded_problem(runs, one) for one in outcomes]
    judged = [
        one if problem is None else as_invalid_output(one, problem)
        for one, problem in zip(outcomes, problems, strict=True)
    ]
    moves = decide(runs, judged)
    return advance(runs, [replace(one, kind=INVALID_OUTPUT) if one.kind is OutcomeKind.FATAL else one for one in moves])
