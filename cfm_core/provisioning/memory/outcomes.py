"""What becomes of what agents have reported, and of what is overdue."""

from __future__ import annotations

from collections.abc import Sequence, Set
from datetime import timedelta

from cfm_core.contracts.activity import ActivityOutcome, OutcomeKind
from cfm_core.errors import FieldError
from cfm_core.provisioning.engine.checks import output_problem
from cfm_core.provisioning.engine.model import (
    LEASE_SLACK,
    LONGEST_WAIT,
    MOST_UNANSWERED,
    ActivityState,
    no_agent_answered,
    within_reason,
)
from cfm_core.provisioning.memory.runs import Move, Node, Run, Runs, Told

_LIVE = (ActivityState.DISPATCHED, ActivityState.WAITING)
_PRECEDENCE = (OutcomeKind.COMPLETE, OutcomeKind.FATAL, OutcomeKind.RETRY, OutcomeKind.SCHEDULE, OutcomeKind.WAIT)


def heard_of(runs: Runs, outcomes: Sequence[ActivityOutcome]) -> set[int]:
    """The places of the outcomes that count: of several about one dispatch, the one that ends it."""
    heard: dict[tuple[str, int], int] = {}
    for place, outcome in enumerate(outcomes):
        key = (outcome.orchestration_id, outcome.ord)
        if _counts(runs, outcome) and (
            key not in heard or _PRECEDENCE.index(outcome.kind) < _PRECEDENCE.index(outcomes[heard[key]].kind)
        ):
            heard[key] = place
    return set(heard.values())


def decide(
    runs: Runs, outcomes: Sequence[ActivityOutcome], heard: Set[int] | None = None, held: Set[int] = frozenset()
) -> list[Move]:
    """What becomes of the outcomes that are ``heard``; those that are ``held`` are left as if nobody had spoken."""
    if heard is None:
        heard = heard_of(runs, outcomes)
    moves = []
    for place, outcome in enumerate(outcomes):
        if place not in heard:
            told = Told(
                *(outcome.orchestration_id, outcome.ord, f"fenced: {outcome.kind}", outcome.reason, runs.clock()),
                phase=outcome.phase,
            )
            runs.history.append(told)
        elif place not in held:
            moves.append(_decision(runs, runs.runs[outcome.orchestration_id], outcome))
    return moves


def wants_a_look(node: Node, outcome: ActivityOutcome) -> bool:
    return outcome.kind is OutcomeKind.COMPLETE and node.compiled.output_schema is not None


def recorded_problem(run: Run, node: Node, outcome: ActivityOutcome) -> FieldError | None:
    schema = node.compiled.output_schema or {}
    known = {key: run.processing_data[key] for key in schema.get("required", ()) if key in run.processing_data}
    return output_problem(outcome, schema, known)


def node_of(runs: Runs, outcome: ActivityOutcome) -> Node:
    return runs.runs[outcome.orchestration_id].nodes[outcome.ord]


def _counts(runs: Runs, outcome: ActivityOutcome) -> bool:
    run = runs.runs.get(outcome.orchestration_id)
    if run is None or outcome.phase != run.phase or outcome.ord not in run.nodes:
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
    if not run.goes_on:
        return move(ActivityState.CANCELLED)
    if outcome.kind is OutcomeKind.WAIT:
        return move(ActivityState.WAITING, LONGEST_WAIT if after is None else after)
    if outcome.kind is OutcomeKind.SCHEDULE:
        return move(ActivityState.BACKOFF, policy.backoff if after is None else after)
    greatest = min(policy.backoff_limit.total_seconds(), policy.backoff.total_seconds() * 2.0 ** min(node.failures, 60))
    return move(ActivityState.BACKOFF, timedelta(seconds=runs.jitter() * greatest) if after is None else after)


def overdue_move(runs: Runs, run: Run, place: int) -> Move:
    node = run.nodes[place]
    name = f"activity {node.id} ({node.type})"
    kind = {ActivityState.DISPATCHED: "lease over", ActivityState.WAITING: "wait over"}.get(node.state, "")
    if not run.goes_on:
        return Move(run, place, ActivityState.CANCELLED, kind)
    if node.state is ActivityState.WAITING:
        return Move(run, place, ActivityState.FAILED, kind, reason=f"{name}: wait timed out")
    if node.state is ActivityState.DISPATCHED and node.unanswered >= MOST_UNANSWERED:
        return Move(run, place, ActivityState.FAILED, kind, reason=f"{name}: {no_agent_answered(node.type)}")
    if run.paused or runs.is_gated(node):
        return Move(run, place, ActivityState.READY, kind)
    return Move(run, place, ActivityState.DISPATCHED, kind, runs.policy(node.type).timeout + LEASE_SLACK)
